//! What sidecars get: pods of a namespace that opted in, whatever their service account, have the part of all that is
//! compiled that is their namespace's own. One publisher for each namespace, as long as somebody hangs on it.
//!
//! Sidecars are of no fleet: no selector of a DataPlane is asked, and what they answer and report changes no status. Anyone
//! who can make a pod in a namespace can be one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use feed::{
    fleet::Identity,
    publisher::{Publisher, WeakPublisher},
    server::Denied,
};
use parking_lot::Mutex;
use table::scope;
use tokio::sync::Notify;

use crate::{Published, config::Namespaces, fleets::Load};

/// The publishers. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Sidecars(Arc<Inner>);

struct Inner {
    namespaces: Namespaces,
    served: Mutex<BTreeMap<String, Served>>,
    /// Rung when there is a publisher that was offered nothing yet.
    news: Notify,
}

/// What goes to the sidecars of a namespace.
struct Served {
    publisher: WeakPublisher,
    part: Option<Part>,
}

/// The part of a table that is a namespace's own.
#[derive(Clone)]
struct Part {
    /// What it was cut from.
    of: Load,
    own: Load,
}

/// The watched namespaces that opted in.
pub(super) fn opted_in<'a>(published: &'a Published, namespaces: &'a Namespaces) -> impl Iterator<Item = &'a str> {
    let labelled = published
        .resources
        .namespaces
        .iter()
        .filter(|(_, labels)| labels.get(crds::INJECT_LABEL).is_some_and(|value| value == crds::INJECT_ENABLED));
    labelled.map(|(name, _)| name.as_str()).filter(|name| namespaces.is_watched(name))
}

impl Sidecars {
    pub(super) fn new(namespaces: Namespaces) -> Self {
        Self(Arc::new(Inner { namespaces, served: Mutex::default(), news: Notify::new() }))
    }

    /// What a pod gets that is of no fleet. Errs with what its namespace lacks.
    pub(super) fn assign(&self, identity: &Identity, published: &Published) -> Result<Publisher, Denied> {
        let Identity { namespace, service_account, .. } = identity;
        if opted_in(published, &self.0.namespaces).any(|name| name == namespace) {
            return Ok(self.of(namespace));
        }
        let lacks = if self.0.namespaces.is_watched(namespace) {
            let (label, value) = (crds::INJECT_LABEL, crds::INJECT_ENABLED);
            format!("does not have the label `{label}: {value}`, by which it opts in to sidecars")
        } else {
            "is not watched by this operator, so it has no sidecars".to_owned()
        };
        Err(Denied::Forbidden(format!(
            "service account `{service_account}` of namespace `{namespace}` is not one of data planes, which \
             `spec.serviceAccounts` of a DataPlane names, and the namespace {lacks}"
        )))
    }

    /// The publisher of a namespace.
    fn of(&self, namespace: &str) -> Publisher {
        let mut served = self.0.served.lock();
        if let Some(publisher) = served.get(namespace).and_then(|served| served.publisher.upgrade()) {
            return publisher;
        }
        let publisher = Publisher::new();
        served.insert(namespace.to_owned(), Served { publisher: publisher.downgrade(), part: None });
        self.0.news.notify_one();
        publisher
    }

    /// The publishers on which somebody hangs; the others are forgotten, with what was made for them.
    pub(super) fn served(&self) -> BTreeMap<String, Publisher> {
        let mut alive = BTreeMap::new();
        self.0.served.lock().retain(|namespace, served| {
            let publisher = served.publisher.upgrade();
            let is_alive = publisher.is_some();
            alive.extend(publisher.map(|publisher| (namespace.clone(), publisher)));
            is_alive
        });
        alive
    }

    /// The part of what was compiled that is a namespace's own: made anew where it is another than before.
    pub(super) fn part(&self, namespace: &str, published: &Published) -> Load {
        let before = self.0.served.lock().get(namespace).and_then(|served| served.part.clone());
        if let Some(part) = before.as_ref().filter(|part| part.is_of(published)) {
            return part.own.clone();
        }
        let (table, credentials) = scope::scoped(&published.table, &published.credentials, namespace);
        let own = Load::new(table, credentials, before.as_ref().map(|part| (&part.own.table, &part.own.credentials)));
        let of = Load { table: published.table.clone(), credentials: published.credentials.clone() };
        if let Some(served) = self.0.served.lock().get_mut(namespace) {
            served.part = Some(Part { of, own: own.clone() });
        }
        own
    }

    /// Waits until somebody hangs on a publisher that was offered nothing.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Who may have sidecars now.
    pub(super) fn entitled(&self, published: &Published) -> BTreeSet<String> {
        opted_in(published, &self.0.namespaces).map(str::to_owned).collect()
    }

    /// How many hang on this replica.
    pub(super) fn count(&self) -> usize {
        self.served().values().map(|publisher| publisher.fleet().streams()).sum()
    }
}

impl Part {
    fn is_of(&self, published: &Published) -> bool {
        Arc::ptr_eq(&self.of.table, &published.table) && Arc::ptr_eq(&self.of.credentials, &published.credentials)
    }
}
