//! One routing table with its credentials, indexed for requests: immutable, made once per change, swapped whole.
//!
//! Finds objects by token, by name and by reference. Decides nothing about who may use them.

mod names;
mod objects;
mod scopes;

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use table::{ClientCertificate, Credentials, ObjectRef, RoutingTable, Row, Rows, token::TokenHash};

pub use self::names::Named;
use self::names::Names;
pub use self::objects::{Asker, Host, HostKey, Model, Policy, Price, RelayKey};

/// A routing table, indexed.
#[derive(Debug)]
pub struct World {
    table: RoutingTable,
    certificates: BTreeMap<ObjectRef, ClientCertificate>,
    tokens: HashMap<TokenHash, Arc<RelayKey>>,
    relay_keys: HashMap<ObjectRef, Arc<RelayKey>>,
    names: Names,
    models: HashMap<ObjectRef, Found<Model>>,
    hosts: HashMap<ObjectRef, Found<Host>>,
    /// Hosts that take models which no Model names.
    families: Vec<Arc<Host>>,
    prices: Prices,
}

/// What stands under a reference.
#[derive(Debug)]
pub enum Found<T> {
    /// The object.
    Usable(Arc<T>),
    /// The object exists, but cannot be used for this reason.
    Invalid(String),
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        match self {
            Found::Usable(object) => Found::Usable(object.clone()),
            Found::Invalid(reason) => Found::Invalid(reason.clone()),
        }
    }
}

impl World {
    /// Indexes a table; of the credentials it keeps the certificates alone. Total: what refers to something that is missing or invalid is kept, and explained when met.
    pub fn load(table: RoutingTable, credentials: Credentials) -> World {
        let hosts = index(&table.hosts, |id, row| Host::new(id.clone(), row.clone(), pool(&table, id)));
        let models = index(&table.models, |id, row| Model::new(id.clone(), row.clone()));
        let policies = index(&table.policies, |id, row| Policy::new(id.clone(), row.clone()));
        let relay_keys = index(&table.relay_keys, |id, row| RelayKey::new(id.clone(), row.clone(), &policies));
        let usable_keys = usable(&relay_keys);
        let mut families: Vec<_> = usable(&hosts).filter(|host| !host.patterns.is_empty()).cloned().collect();
        families.sort_by(|a, b| a.id.cmp(&b.id));
        World {
            tokens: usable_keys.flat_map(|key| key.token_hashes().map(|hash| (hash, key.clone()))).collect(),
            relay_keys: usable(&relay_keys).map(|key| (ObjectRef::clone(&key.id), key.clone())).collect(),
            names: Names::of(&models),
            prices: prices(&models),
            certificates: credentials.client_certificates,
            families,
            models,
            hosts,
            table,
        }
    }

    /// The table that it was made of.
    pub fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// The namespace whose Models follow those of a caller's own; empty: there is none.
    pub fn catalog_namespace(&self) -> &str {
        &self.table.settings.catalog_namespace
    }

    /// The relay key of a token.
    pub fn relay_key_of(&self, token: &TokenHash) -> Option<&Arc<RelayKey>> {
        self.tokens.get(token)
    }

    /// A relay key by reference, for explanations. Invalid ones are not found.
    pub fn relay_key(&self, id: &ObjectRef) -> Option<&Arc<RelayKey>> {
        self.relay_keys.get(id)
    }

    /// The Model of a namespace that has this id or alias.
    pub fn model_named(&self, namespace: &str, name: &str) -> Option<&Named> {
        self.names.find(namespace, name)
    }

    /// All ids and aliases of a namespace, sorted.
    pub fn names_of(&self, namespace: &str) -> impl Iterator<Item = (&str, &Named)> {
        self.names.all(namespace)
    }

    /// A Model by reference.
    pub fn model(&self, id: &ObjectRef) -> Option<&Found<Model>> {
        self.models.get(id)
    }

    /// A Host by reference.
    pub fn host(&self, id: &ObjectRef) -> Option<&Found<Host>> {
        self.hosts.get(id)
    }

    /// Every usable Host.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        usable(&self.hosts)
    }

    /// Hosts that take models which no Model names, sorted by reference.
    pub fn families(&self) -> &[Arc<Host>] {
        &self.families
    }

    /// The certificate that Relay shows to a host.
    pub fn client_certificate(&self, host: &ObjectRef) -> Option<&ClientCertificate> {
        self.certificates.get(host)
    }

    /// What an answer costs that names another model than was asked for: the price of a Model of `namespace` which has
    /// that model on that host.
    pub fn price_of_answer(&self, namespace: &str, host: &ObjectRef, upstream_model: &str) -> Option<&Arc<Price>> {
        self.prices.get(namespace)?.get(host)?.get(upstream_model)
    }
}

/// Prices by the namespace of the Model, the host and what the host calls the model.
type Prices = HashMap<String, HashMap<ObjectRef, HashMap<String, Arc<Price>>>>;

/// Of two Models that have the same one on the same host, the first says the price.
fn prices(models: &HashMap<ObjectRef, Found<Model>>) -> Prices {
    let mut sorted: Vec<_> = usable(models).collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let mut prices = Prices::default();
    for model in sorted {
        let by_host = prices.entry(model.id.namespace.clone()).or_default();
        for (at, binding) in model.bindings().iter().enumerate() {
            let Some(price) = model.price(at) else { continue };
            let of_host = by_host.entry(binding.host.clone()).or_default();
            of_host.entry(binding.upstream_model.clone()).or_insert_with(|| price.clone());
        }
    }
    prices
}

/// The usable ones of an index.
fn usable<T>(index: &HashMap<ObjectRef, Found<T>>) -> impl Iterator<Item = &Arc<T>> {
    index.values().filter_map(|found| match found {
        Found::Usable(object) => Some(object),
        Found::Invalid(_) => None,
    })
}

fn index<R, T>(rows: &Rows<R>, mut object: impl FnMut(&ObjectRef, &R) -> T) -> HashMap<ObjectRef, Found<T>> {
    let found = |(id, row): (&ObjectRef, &Row<R>)| match row {
        Row::Usable(row) => (id.clone(), Found::Usable(Arc::new(object(id, row)))),
        Row::Invalid { reason } => (id.clone(), Found::Invalid(reason.clone())),
    };
    rows.iter().map(found).collect()
}

/// The keys of a host.
fn pool(table: &RoutingTable, host: &ObjectRef) -> Vec<Arc<HostKey>> {
    let usable = table.host_keys.iter().filter_map(|(id, row)| Some((id, row.usable()?)));
    usable
        .filter(|(_, row)| row.host == *host)
        .map(|(id, row)| Arc::new(HostKey::new(id.clone(), row.clone())))
        .collect()
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
