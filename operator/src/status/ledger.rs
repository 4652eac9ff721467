//! Since when each object is compiled as it is. Tables are numbered as they come; a pod that holds table 7 holds all
//! that has not changed since table 7, whatever became of the rest. So one changed object lets the others be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crds::Kind;
use table::{Credentials, ObjectRef, RoutingTable, Row, Rows};

/// How many tables are remembered. A pod that holds an older one is simply not known.
const REMEMBERED: usize = 1024;

/// The memory of the replica that leads.
#[derive(Debug, Default)]
pub struct Ledger {
    latest: u64,
    places: HashMap<String, u64>,
    since: [HashMap<ObjectRef, u64>; Kind::ALL.len()],
    last: Option<(Arc<RoutingTable>, Arc<Credentials>)>,
}

impl Ledger {
    /// Takes note of what was published. `root` is its digest, as data planes will acknowledge it.
    pub fn publish(&mut self, root: &str, table: Arc<RoutingTable>, credentials: Arc<Credentials>) {
        self.latest += 1;
        self.places.insert(root.to_owned(), self.latest);
        if self.places.len() > REMEMBERED {
            let oldest = self.latest.saturating_sub(REMEMBERED as u64);
            self.places.retain(|_, place| *place > oldest);
        }
        let last = self.last.replace((table.clone(), credentials.clone())).unwrap_or_default();
        let (old, old_credentials) = (&*last.0, &*last.1);
        self.mark(Kind::Host, &old.hosts, &table.hosts);
        self.mark(Kind::Model, &old.models, &table.models);
        self.mark(Kind::HostKey, &old.host_keys, &table.host_keys);
        self.mark(Kind::RelayKey, &old.relay_keys, &table.relay_keys);
        self.mark(Kind::Policy, &old.policies, &table.policies);
        self.touch(Kind::HostKey, &old_credentials.host_keys, &credentials.host_keys);
        self.touch(Kind::Host, &old_credentials.client_certificates, &credentials.client_certificates);
    }

    /// The number of the table with this root; `None`: it is not remembered.
    pub fn place(&self, root: &str) -> Option<u64> {
        self.places.get(root).copied()
    }

    /// The number of the latest table; 0: there is none yet.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// The number of the table in which the object came to be as it is; `None`: it is in none.
    pub fn since(&self, kind: Kind, id: &ObjectRef) -> Option<u64> {
        self.since[kind as usize].get(id).copied()
    }

    fn mark<T: PartialEq>(&mut self, kind: Kind, old: &Rows<T>, new: &Rows<T>) {
        let since = &mut self.since[kind as usize];
        since.retain(|id, _| new.contains_key(id));
        for (id, row) in new {
            if old.get(id).is_none_or(|old: &Row<T>| old != row) {
                since.insert(id.clone(), self.latest);
            }
        }
    }

    /// What travels beside the table belongs to its object.
    fn touch<T: PartialEq>(&mut self, kind: Kind, old: &BTreeMap<ObjectRef, T>, new: &BTreeMap<ObjectRef, T>) {
        for (id, place) in &mut self.since[kind as usize] {
            if old.get(id) != new.get(id) {
                *place = self.latest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use table::{Credential, Secret};

    use super::*;

    fn id(name: &str) -> ObjectRef {
        ObjectRef::new("n", name)
    }

    /// A table of Policies that cannot be used, each with its reason.
    fn table(policies: &[(&str, &str)]) -> Arc<RoutingTable> {
        let row = |reason: &str| Row::Invalid { reason: reason.to_owned() };
        let policies = policies.iter().map(|(name, reason)| (id(name), row(reason))).collect();
        Arc::new(RoutingTable { policies, ..RoutingTable::default() })
    }

    fn publish(ledger: &mut Ledger, root: &str, policies: &[(&str, &str)]) {
        ledger.publish(root, table(policies), Arc::default());
    }

    #[test]
    fn only_what_changed_is_new() {
        let mut ledger = Ledger::default();
        publish(&mut ledger, "one", &[("a", "x"), ("b", "x")]);
        publish(&mut ledger, "two", &[("a", "x"), ("b", "y"), ("c", "x")]);
        let since = |name| ledger.since(Kind::Policy, &id(name));
        assert_eq!([since("a"), since("b"), since("c"), since("d")], [Some(1), Some(2), Some(2), None]);
        assert_eq!((ledger.place("one"), ledger.place("two"), ledger.place("three")), (Some(1), Some(2), None));
    }

    #[test]
    fn who_holds_a_table_that_came_back_holds_the_latest() {
        let mut ledger = Ledger::default();
        publish(&mut ledger, "one", &[("a", "x")]);
        publish(&mut ledger, "two", &[("a", "y")]);
        publish(&mut ledger, "one", &[("a", "x")]);
        assert_eq!(ledger.place("one"), Some(3));
        assert_eq!(ledger.since(Kind::Policy, &id("a")), Some(3));
        publish(&mut ledger, "none", &[]);
        assert_eq!(ledger.since(Kind::Policy, &id("a")), None);
    }

    #[test]
    fn a_new_credential_makes_its_host_key_new() {
        let mut ledger = Ledger::default();
        let row = || Row::Invalid { reason: String::new() };
        let table =
            Arc::new(RoutingTable { host_keys: [(id("k"), row()), (id("l"), row())].into(), ..Default::default() });
        let credentials = |value: &str| {
            let host_keys = [(id("k"), Credential::Value(Secret::new(value.to_owned())))].into();
            Arc::new(Credentials { host_keys, ..Credentials::default() })
        };
        ledger.publish("one", table.clone(), credentials("old"));
        ledger.publish("two", table.clone(), credentials("new"));
        ledger.publish("three", table, credentials("new"));
        let since = |name| ledger.since(Kind::HostKey, &id(name));
        assert_eq!([since("k"), since("l")], [Some(2), Some(1)]);
    }

    #[test]
    fn old_tables_are_forgotten() {
        let mut ledger = Ledger::default();
        for n in 0..REMEMBERED + 10 {
            publish(&mut ledger, &n.to_string(), &[]);
        }
        assert_eq!(ledger.place("9"), None);
        assert!(ledger.place("10").is_some());
        assert_eq!(ledger.places.len(), REMEMBERED);
    }
}
