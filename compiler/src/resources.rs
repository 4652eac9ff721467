//! What is compiled: the objects of a namespace or of many, as they were read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{Host, HostKey, Kind, Model, Policy, RelayKey};
use table::{ObjectRef, Secret};

/// The data of Secrets, by object and key.
pub type Secrets = BTreeMap<ObjectRef, Arc<BTreeMap<String, Secret<Vec<u8>>>>>;

/// Everything that meaning depends on. Objects are shared, so that whoever watches a cluster can take all of them at a
/// moment without copying any.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Upstream API surfaces.
    pub hosts: BTreeMap<ObjectRef, Arc<Host>>,
    /// Public model ids.
    pub models: BTreeMap<ObjectRef, Arc<Model>>,
    /// Provider credentials.
    pub host_keys: BTreeMap<ObjectRef, Arc<HostKey>>,
    /// Tokens of applications.
    pub relay_keys: BTreeMap<ObjectRef, Arc<RelayKey>>,
    /// What relay keys may reach.
    pub policies: BTreeMap<ObjectRef, Arc<Policy>>,
    /// Objects that could not be read as their kind. One that is also among those above counts as malformed alone.
    pub malformed: Vec<Malformed>,
    /// Secrets that the objects name; others do no harm.
    pub secrets: Secrets,
    /// RelayKeys whose `spec.secret` names a Secret that was not made for them: what it holds is no token of theirs.
    pub foreign: BTreeSet<ObjectRef>,
    /// ConfigMaps that the objects name.
    pub config_maps: BTreeMap<ObjectRef, BTreeMap<String, String>>,
    /// The labels of namespaces, for selectors. Every namespace has the label `kubernetes.io/metadata.name` besides.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The namespace whose Models every relay key sees after those of its own; empty: there is none.
    pub catalog_namespace: String,
}

/// An object that could not be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub id: ObjectRef,
    /// What is wrong with it, with the field's path.
    pub reason: String,
}

impl Resources {
    /// The names of all objects of a kind in a namespace, sorted; malformed ones only where they are among the readable.
    pub(crate) fn names<'a>(&'a self, kind: Kind, namespace: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        fn within<'a, T>(objects: &'a BTreeMap<ObjectRef, T>, namespace: &'a str) -> impl Iterator<Item = &'a str> {
            let first = ObjectRef::new(namespace, "");
            let rest = objects.range(first..);
            rest.take_while(move |(id, _)| id.namespace == namespace).map(|(id, _)| id.name.as_str())
        }
        match kind {
            Kind::Host => Box::new(within(&self.hosts, namespace)),
            Kind::Model => Box::new(within(&self.models, namespace)),
            Kind::HostKey => Box::new(within(&self.host_keys, namespace)),
            Kind::RelayKey => Box::new(within(&self.relay_keys, namespace)),
            Kind::Policy => Box::new(within(&self.policies, namespace)),
            // Nothing refers to a fleet.
            Kind::DataPlane => Box::new(std::iter::empty()),
        }
    }

    /// The identities of all objects, malformed ones last.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (Kind, &ObjectRef)> {
        let hosts = self.hosts.keys().map(|id| (Kind::Host, id));
        let models = self.models.keys().map(|id| (Kind::Model, id));
        let host_keys = self.host_keys.keys().map(|id| (Kind::HostKey, id));
        let relay_keys = self.relay_keys.keys().map(|id| (Kind::RelayKey, id));
        let policies = self.policies.keys().map(|id| (Kind::Policy, id));
        let malformed = self.malformed.iter().map(|malformed| (malformed.kind, &malformed.id));
        hosts.chain(models).chain(host_keys).chain(relay_keys).chain(policies).chain(malformed)
    }
}
