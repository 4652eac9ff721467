//! What is compiled: the objects of a namespace or of many, as they were read.

use std::collections::BTreeMap;

use crds::{Host, HostKey, Kind, Model, Policy, RelayKey};
use table::{ObjectRef, RoutingTable, Row, Rows, Secret};

/// The data of Secrets, by object and key.
pub type Secrets = BTreeMap<ObjectRef, BTreeMap<String, Secret<Vec<u8>>>>;

/// Everything that meaning depends on.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Upstream API surfaces.
    pub hosts: BTreeMap<ObjectRef, Host>,
    /// Public model ids.
    pub models: BTreeMap<ObjectRef, Model>,
    /// Provider credentials.
    pub host_keys: BTreeMap<ObjectRef, HostKey>,
    /// Tokens of applications.
    pub relay_keys: BTreeMap<ObjectRef, RelayKey>,
    /// What relay keys may reach.
    pub policies: BTreeMap<ObjectRef, Policy>,
    /// Objects that could not be read as their kind.
    pub malformed: Vec<Malformed>,
    /// Secrets that the objects name; others do no harm.
    pub secrets: Secrets,
    /// ConfigMaps that the objects name.
    pub config_maps: BTreeMap<ObjectRef, BTreeMap<String, String>>,
    /// The labels of namespaces, for selectors. A namespace that is missing here has none.
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

/// Keeps malformed objects as invalid rows.
pub(crate) fn add_malformed(resources: &Resources, table: &mut RoutingTable) {
    fn add<T>(rows: &mut Rows<T>, malformed: &Malformed) {
        let invalid = || Row::Invalid { reason: malformed.reason.clone() };
        rows.entry(malformed.id.clone()).or_insert_with(invalid);
    }
    for malformed in &resources.malformed {
        match malformed.kind {
            Kind::Host => add(&mut table.hosts, malformed),
            Kind::Model => add(&mut table.models, malformed),
            Kind::HostKey => add(&mut table.host_keys, malformed),
            Kind::RelayKey => add(&mut table.relay_keys, malformed),
            Kind::Policy => add(&mut table.policies, malformed),
        }
    }
}
