//! Every name under which something is kept in Redis, in one place: `relay:{<domain>}:<what>`.
//!
//! The part in braces is what Redis Cluster hashes, so everything of one domain (a namespace) is in one slot and one
//! script can reach it. Names of objects are Kubernetes names; what callers invent (model ids) is hashed.

use sha2::{Digest, Sha256};

use crate::limit::rule::{Scope, Sharer};

/// Where what belongs to no namespace is kept. No namespace has such a name: they hold no dots.
pub const FLEET: &str = "fleet.relay";

/// The names of one deployment.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Names that begin with `prefix`, so that several deployments can share a server.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The counters of a scope.
    pub fn scope(&self, scope: &Scope) -> String {
        self.of(scope.domain(), &name(scope))
    }

    /// The leases of a scope's requests in flight.
    pub fn slots(&self, scope: &Scope) -> String {
        self.of(scope.domain(), &format!("{}:slots", name(scope)))
    }

    /// When the domain's data began: another value says that it was lost in between.
    pub fn born(&self, domain: &str) -> String {
        self.of(domain, "born")
    }

    /// What open reservations hold, by id.
    pub fn holds(&self, domain: &str) -> String {
        self.of(domain, "holds")
    }

    /// When open reservations end by themselves, by id.
    pub fn leases(&self, domain: &str) -> String {
        self.of(domain, "leases")
    }

    /// The last batch that a process had applied.
    pub fn batch(&self, domain: &str, process: &str) -> String {
        self.of(domain, &format!("batch:{process}"))
    }

    /// Whether a process has given back what it knew of budgets that were lost.
    pub fn seeded(&self, domain: &str) -> String {
        self.of(domain, "seeded")
    }

    /// The breakers of the domain's host keys.
    pub fn breakers(&self, domain: &str) -> String {
        self.of(domain, "breakers")
    }

    /// What a process writes to find out whether it can.
    pub fn trial(&self, domain: &str) -> String {
        self.of(domain, "trial")
    }

    /// Who probes a host key.
    pub fn probe(&self, domain: &str, key: &str) -> String {
        self.of(domain, &format!("probe:{key}"))
    }

    /// The last exchange of counters with a process that changed any.
    pub fn exchanged(&self, domain: &str, process: &str) -> String {
        self.of(domain, &format!("exchanged:{process}"))
    }

    /// What was learned of the answers to the domain's relay keys.
    pub fn learned(&self, domain: &str) -> String {
        self.of(domain, "learned")
    }

    /// What was learned of the input of models.
    pub fn rates(&self) -> String {
        self.of(FLEET, "rates")
    }

    /// The data planes that are alive, by the time of their last sign.
    pub fn pods(&self) -> String {
        self.of(FLEET, "pods")
    }

    /// The sealed copy of the last good routing table of a fleet of data planes.
    pub fn table(&self, fleet: &str) -> String {
        self.of(FLEET, &format!("table:{fleet}"))
    }

    fn of(&self, domain: &str, what: &str) -> String {
        format!("{}:{{{domain}}}:{what}", self.prefix)
    }
}

fn name(scope: &Scope) -> String {
    match scope {
        Scope::RelayKey(key) => format!("key/{}", key.name),
        Scope::Policy { policy, sharer } => format!("policy/{policy}/{}", sharer_name(sharer)),
        Scope::Model { policy, sharer, model } => {
            let model = hex::encode(&Sha256::digest(model)[..16]);
            format!("policy/{policy}/{}/model/{model}", sharer_name(sharer))
        }
        Scope::HostKey(key) => format!("hostkey/{}", key.name),
        Scope::Host(host) => format!("host/{}", host.name),
    }
}

fn sharer_name(sharer: &Sharer) -> String {
    match sharer {
        Sharer::Key(key) => format!("key/{}", key.name),
        Sharer::Namespace(_) => "shared".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use table::ObjectRef;

    use super::*;

    #[test]
    fn everything_of_a_domain_has_the_same_hash_tag() {
        let (keys, team) = (Keys::new("relay"), |name| ObjectRef::new("team", name));
        let sharer = Sharer::Key(team("a"));
        let scopes = [
            Scope::RelayKey(team("a")),
            Scope::Policy { policy: ObjectRef::new("platform", "p"), sharer: sharer.clone() },
            Scope::Policy { policy: ObjectRef::new("platform", "p"), sharer: Sharer::Namespace("team".into()) },
            Scope::Model { policy: team("p"), sharer, model: "gpt-5:{x}".into() },
            Scope::HostKey(team("k")),
            Scope::Host(team("h")),
        ];
        let names: Vec<_> = scopes.iter().map(|scope| keys.scope(scope)).collect();
        assert!(names.iter().all(|name| name.starts_with("relay:{team}:")), "{names:?}");
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| name.matches('{').count() == 1), "{names:?}");
    }
}
