//! What the operator may do, as one table: the roles that are installed, those that are shown, those that tests check and
//! those that a check of a cluster asks for are made of it. Whatever the code does to the API server has a row here, and
//! nothing else has. It stands beside the kinds, because who judges an installation must not link the operator.

use crate::GROUP;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In each namespace that is watched.
    Watched,
    /// In the operator's own namespace.
    Own,
    /// In each namespace whose pods may be data planes: those of the first two, and those of service accounts that are.
    Trusting,
    /// In the whole cluster.
    Cluster,
}

/// One right: these verbs on these resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Where.
    pub scope: Scope,
    /// API group; empty: the core group.
    pub group: &'static str,
    /// Plurals, and subresources as `plural/subresource`.
    pub resources: &'static [&'static str],
    /// Objects by name; empty: all.
    pub names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// Which part of the code does it.
    pub why: &'static str,
}

/// The Lease that says who writes.
pub const LEASE: &str = "relay-operator";

/// The Secret with those who sign the certificates of the push port.
pub const AUTHORITY: &str = "relay-push-authority";

/// The Secret with the key that data planes seal their copies of the last good table with.
pub const SEAL_KEY: &str = "relay-lkg-key";

/// The Secret with the certificate that shared data planes show to sidecars, and its key.
pub const SERVING: &str = "relay-serving";

/// The ConfigMap that says whom data planes trust.
pub const BUNDLE: &str = "relay-push-ca";

/// The plurals of the kinds that are compiled.
const KINDS: &[&str] = &["hosts", "models", "hostkeys", "relaykeys", "policies"];
const STATUSES: &[&str] = &["hosts/status", "models/status", "hostkeys/status", "relaykeys/status", "policies/status"];

/// The plural of the kind that describes fleets: only those in the operator's own namespace count.
const FLEETS: &[&str] = &["dataplanes"];
const FLEET_STATUSES: &[&str] = &["dataplanes/status"];

/// All that the operator does.
pub const RIGHTS: &[Right] = &[
    right(
        Scope::Watched,
        GROUP,
        KINDS,
        &["get", "list", "watch"],
        "watch: what is compiled; get before a status is written onto what changed meanwhile",
    ),
    right(Scope::Watched, GROUP, STATUSES, &["patch"], "status: server-side apply of conditions"),
    right(
        Scope::Own,
        GROUP,
        FLEETS,
        &["get", "list", "watch"],
        "watch: fleets, of the own namespace alone because they are given credentials",
    ),
    right(Scope::Own, GROUP, FLEET_STATUSES, &["patch"], "status: server-side apply of what a fleet holds"),
    right(
        Scope::Watched,
        "",
        &["secrets"],
        &["get", "list", "watch"],
        "watch: metadata of all, data of those that are named",
    ),
    right(Scope::Watched, "", &["secrets"], &["create", "update"], "mint: tokens of RelayKeys with spec.secret"),
    right(
        Scope::Watched,
        "",
        &["configmaps"],
        &["get", "list", "watch"],
        "watch: metadata of all, data of those that are named",
    ),
    right(Scope::Watched, "events.k8s.io", &["events"], &["create", "patch"], "events: what happened to an object"),
    right(
        Scope::Cluster,
        "",
        &["namespaces"],
        &["get", "list", "watch"],
        "watch: labels, for allowedNamespaces and for who opted in",
    ),
    right(Scope::Cluster, "authentication.k8s.io", &["tokenreviews"], &["create"], "push: who a data plane is"),
    right(Scope::Own, "coordination.k8s.io", &["leases"], &["create"], "lease: a name cannot be asked for at creation"),
    Right {
        names: &[LEASE],
        ..right(Scope::Own, "coordination.k8s.io", &["leases"], &["get", "update"], "lease: who writes")
    },
    right(Scope::Own, "", &["secrets"], &["create"], "push: a name cannot be asked for at creation"),
    Right {
        names: &[AUTHORITY],
        ..right(Scope::Own, "", &["secrets"], &["get", "update"], "push: who signs certificates of the push port")
    },
    Right {
        names: &[SEAL_KEY],
        ..right(Scope::Own, "", &["secrets"], &["get"], "push: whether data planes have a key to seal copies with")
    },
    Right {
        names: &[SERVING],
        ..right(Scope::Own, "", &["secrets"], &["get", "update"], "push: what shared data planes show to sidecars")
    },
    right(Scope::Trusting, "", &["configmaps"], &["create"], "push: a name cannot be asked for at creation"),
    Right {
        names: &[BUNDLE],
        ..right(Scope::Trusting, "", &["configmaps"], &["get", "update"], "push: whom data planes trust")
    },
];

const fn right(
    scope: Scope,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { scope, group, resources, names: &[], verbs, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn every_kind_has_its_rights() {
        let plurals = Kind::ALL.map(Kind::plural);
        assert_eq!(KINDS, &plurals[..5], "fleets alone are not compiled");
        let statuses: Vec<String> = KINDS.iter().map(|plural| format!("{plural}/status")).collect();
        assert_eq!(STATUSES, statuses);
    }

    #[test]
    fn nothing_is_deleted_and_nothing_is_a_wildcard() {
        for right in RIGHTS {
            let words = right.verbs.iter().chain(right.resources).chain([&right.group]);
            assert!(words.clone().all(|word| *word != "*"), "{right:?}");
            assert!(!right.verbs.iter().any(|verb| verb.starts_with("delete")), "{right:?}");
        }
    }
}
