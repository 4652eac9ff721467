//! A publisher for each fleet, and which of them a data plane hangs on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use feed::{
    fleet::{Census, Identity},
    publisher::Publisher,
    server::Denied,
};
use parking_lot::Mutex;
use table::ObjectRef;
use tokio::sync::watch;

use crate::Published;

/// So many roots of fleets are remembered.
const ROOTS: usize = 1024;

/// The publishers. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Fleets(Arc<Inner>);

struct Inner {
    whole: Publisher,
    own: watch::Sender<BTreeMap<ObjectRef, Publisher>>,
    /// For the root of a fleet's table, the root of the whole of which it was last a part.
    roots: Mutex<VecDeque<(String, String)>>,
}

impl Fleets {
    pub(super) fn new() -> Self {
        let (own, roots) = (watch::Sender::default(), Mutex::default());
        Self(Arc::new(Inner { whole: Publisher::new(), own, roots }))
    }

    /// The publisher of all that is compiled.
    pub(super) fn whole(&self) -> &Publisher {
        &self.0.whole
    }

    /// The publisher of a fleet.
    pub(super) fn of(&self, id: &ObjectRef) -> Publisher {
        let mut found = Publisher::new();
        self.0.own.send_if_modified(|own| {
            let is_new = !own.contains_key(id);
            found = own.entry(id.clone()).or_insert_with(|| found.clone()).clone();
            is_new
        });
        found
    }

    /// Forgets fleets that are no more, takes note of what the roots of those that are stand for, and wakes who follows.
    pub(super) fn settle(&self, published: &Published, whole: &str) {
        let mut roots = self.0.roots.lock();
        for id in published.fleets.keys() {
            let Some(current) = self.of(id).current() else { continue };
            let root = current.root().to_string();
            roots.retain(|(known, _)| *known != root);
            roots.push_front((root, whole.to_owned()));
        }
        roots.truncate(ROOTS);
        drop(roots);
        self.0.own.send_modify(|own| own.retain(|id, _| published.fleets.contains_key(id)));
    }

    /// The root of the whole that the root of a fleet stands for.
    pub(super) fn whole_of(&self, root: &str) -> Option<String> {
        self.0.roots.lock().iter().find(|(known, _)| known == root).map(|(_, whole)| whole.clone())
    }

    pub(super) fn follow(&self) -> watch::Receiver<BTreeMap<ObjectRef, Publisher>> {
        self.0.own.subscribe()
    }

    /// How many data planes hang on each fleet, and what they hold. The fleet of no DataPlane has no name.
    pub(super) fn censuses(&self) -> Vec<(String, Census)> {
        let own: Vec<_> = self.0.own.borrow().iter().map(|(id, own)| (id.name.clone(), own.clone())).collect();
        let all = own.into_iter().chain([(String::new(), self.0.whole.clone())]);
        all.map(|(name, publisher)| (name, publisher.census())).collect()
    }

    /// What somebody gets. Provider credentials go to no account that neither a DataPlane nor the settings name.
    pub(super) fn assign(
        &self,
        identity: &Identity,
        accounts: &[(String, String)],
        published: Option<&Published>,
    ) -> Result<Publisher, Denied> {
        let Identity { namespace, service_account, .. } = identity;
        let Some(published) = published else {
            return Err(Denied::Unavailable("nothing is published yet".to_owned()));
        };
        let is_known = accounts.iter().any(|(space, name)| space == namespace && name == service_account);
        let fleet = published.fleet_of(namespace, service_account);
        match fleet {
            Some((id, fleet)) if is_known || fleet.data_plane.spec.service_accounts.is_some() => Ok(self.of(id)),
            None if is_known && published.fleets.is_empty() => Ok(self.0.whole.clone()),
            Some(_) | None => Err(Denied::Forbidden(format!(
                "service account `{service_account}` of namespace `{namespace}` is not one of data planes: name it in \
                 `spec.serviceAccounts` of a DataPlane"
            ))),
        }
    }
}
