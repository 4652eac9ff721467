//! What is known of the breakers of all keys of the current table, by the namespace where their records are kept, and
//! what of it has still to be told. Pure: knows neither clocks nor Redis.

use std::collections::{BTreeMap, HashMap};

use table::ObjectRef;

use super::record::Record;
use crate::{heal::Ward, limit::window::Millis, upstream::credentials::KeyHash};

/// What is known of all keys.
#[derive(Debug, Default)]
pub(super) struct Board {
    keys: HashMap<KeyHash, Home>,
    domains: BTreeMap<String, Domain>,
}

#[derive(Debug)]
struct Home {
    name: ObjectRef,
    domains: Vec<String>,
}

#[derive(Debug, Default)]
struct Domain {
    /// Of the records as last heard; 0: they have to be heard.
    version: u64,
    known: BTreeMap<KeyHash, Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    record: Option<Record>,
    is_pending: bool,
}

impl Board {
    /// Takes in which keys there are. Those that are new will be heard of, those that are gone are forgotten.
    pub(super) fn know(&mut self, wards: &[Ward]) {
        let home = |ward: &Ward| (ward.hash(), Home { name: ward.name.clone(), domains: ward.domains.clone() });
        self.keys = wards.iter().map(home).collect();
        for (key, home) in &self.keys {
            for domain in &home.domains {
                let domain = self.domains.entry(domain.clone()).or_default();
                if !domain.known.contains_key(key) {
                    domain.known.insert(*key, Known::default());
                    domain.version = 0;
                }
            }
        }
        let is_at =
            |key: &KeyHash, domain: &String| self.keys.get(key).is_some_and(|home| home.domains.contains(domain));
        self.domains.retain(|name, domain| {
            domain.known.retain(|key, _| is_at(key, name));
            !domain.known.is_empty()
        });
    }

    /// The namespaces of all keys.
    pub(super) fn domains(&self) -> impl Iterator<Item = &String> {
        self.domains.keys()
    }

    /// The keys of a namespace.
    pub(super) fn keys(&self, domain: &str) -> Vec<KeyHash> {
        self.domains.get(domain).map(|domain| domain.known.keys().copied().collect()).unwrap_or_default()
    }

    /// A key's name, for logs.
    pub(super) fn name(&self, key: KeyHash) -> Option<&ObjectRef> {
        self.keys.get(&key).map(|home| &home.name)
    }

    /// What is known of a key.
    pub(super) fn record(&self, domain: &str, key: KeyHash) -> Option<Record> {
        self.domains.get(domain)?.known.get(&key)?.record
    }

    /// The version of a namespace's records as last heard.
    pub(super) fn version(&self, domain: &str) -> u64 {
        self.domains.get(domain).map_or(0, |domain| domain.version)
    }

    /// All records of a namespace have been heard.
    pub(super) fn heard_all(&mut self, domain: &str, version: u64) {
        if let Some(domain) = self.domains.get_mut(domain) {
            domain.version = version;
        }
    }

    /// This process found something, knowing what is known: it stands, and is to be told wherever the key is known.
    /// Whatever clocks say, it is later.
    pub(super) fn found(&mut self, key: KeyHash, record: Record) {
        let Some(home) = self.keys.get(&key) else { return };
        for domain in &home.domains {
            let Some(known) = self.domains.get_mut(domain).and_then(|domain| domain.known.get_mut(&key)) else {
                continue;
            };
            let after = known.record.map_or(0, |known| known.at() + 1);
            *known = Known { record: Some(record.found_at(record.at().max(after))), is_pending: true };
        }
    }

    /// What stands where this was heard of a key; none: there is no such key here.
    pub(super) fn joined(&self, domain: &str, key: KeyHash, heard: Record) -> Option<Record> {
        let known = self.domains.get(domain)?.known.get(&key)?;
        Some(known.record.map_or(heard, |own| own.join(heard)))
    }

    /// This stands, and the other was heard: where they differ, the others have to be told.
    pub(super) fn stands(&mut self, domain: &str, key: KeyHash, joined: Record, heard: Record) {
        if let Some(known) = self.domains.get_mut(domain).and_then(|domain| domain.known.get_mut(&key)) {
            *known = Known { record: Some(joined), is_pending: joined != heard };
        }
    }

    /// Nothing is kept of a key: it was never told, or was lost, and is told again; or, where it was true before `since`
    /// only, was forgotten.
    pub(super) fn missing(&mut self, domain: &str, key: KeyHash, since: Millis) {
        if let Some(known) = self.domains.get_mut(domain).and_then(|domain| domain.known.get_mut(&key)) {
            known.is_pending |= known.record.is_some_and(|record| record.last() >= since);
        }
    }

    /// What has to be told. It is told again until it is heard back.
    pub(super) fn pending(&self, domain: &str) -> Vec<(KeyHash, Record)> {
        let known = self.domains.get(domain).into_iter().flat_map(|domain| &domain.known);
        let pending = known.filter(|(_, known)| known.is_pending);
        pending.filter_map(|(key, known)| Some((*key, known.record?))).collect()
    }
}
