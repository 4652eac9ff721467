//! A publisher for each fleet, and which of them a data plane hangs on.

use std::{collections::BTreeMap, sync::Arc};

use feed::{
    fleet::{Census, Identity},
    publisher::Publisher,
    server::Denied,
};
use table::ObjectRef;
use tokio::sync::watch;

use super::sidecars::Sidecars;
use crate::Published;

/// Under which name the whole is served, where no DataPlane describes a fleet.
const WHOLE: &str = "";

/// The publishers. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Fleets(Arc<Inner>);

struct Inner {
    whole: Publisher,
    /// All of them by name: that of a DataPlane, or [`WHOLE`].
    served: watch::Sender<BTreeMap<String, Publisher>>,
}

/// The DataPlane that a fleet of this name is of; absent: it is the whole.
pub(super) fn data_plane(fleet: &str) -> Option<ObjectRef> {
    fleet.parse().ok()
}

impl Fleets {
    pub(super) fn new() -> Self {
        let whole = Publisher::new();
        let served = [(WHOLE.to_owned(), whole.clone())].into();
        Self(Arc::new(Inner { whole, served: watch::Sender::new(served) }))
    }

    /// The publisher of all that is compiled.
    pub(super) fn whole(&self) -> &Publisher {
        &self.0.whole
    }

    /// The publisher of a fleet.
    pub(super) fn of(&self, id: &ObjectRef) -> Publisher {
        let (name, mut found) = (id.to_string(), Publisher::new());
        self.0.served.send_if_modified(|served| {
            let is_new = !served.contains_key(&name);
            found = served.entry(name).or_insert_with(|| found.clone()).clone();
            is_new
        });
        found
    }

    /// Forgets fleets that are no more.
    pub(super) fn settle(&self, published: &Published) {
        self.0.served.send_if_modified(|served| {
            let before = served.len();
            served.retain(|name, _| data_plane(name).is_none_or(|id| published.fleets.contains_key(&id)));
            served.len() != before
        });
    }

    /// All publishers, by the names of fleets.
    pub(super) fn served(&self) -> watch::Receiver<BTreeMap<String, Publisher>> {
        self.0.served.subscribe()
    }

    /// How many data planes hang on each fleet, and what they hold. The fleet of no DataPlane has no name.
    pub(super) fn censuses(&self) -> Vec<(String, Census)> {
        let served = self.0.served.borrow().clone();
        let name = |fleet: &str| data_plane(fleet).map(|id| id.name).unwrap_or_default();
        served.iter().map(|(fleet, publisher)| (name(fleet), publisher.census())).collect()
    }

    /// What somebody gets. Provider credentials go to no account that neither a DataPlane nor the settings name, but for those
    /// of a namespace's own, which go to its sidecars.
    pub(super) fn assign(
        &self,
        identity: &Identity,
        accounts: &[(String, String)],
        sidecars: Option<&Sidecars>,
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
            Some(_) | None => match sidecars {
                Some(sidecars) => sidecars.assign(identity, published),
                None => Err(Denied::Forbidden(format!(
                    "service account `{service_account}` of namespace `{namespace}` is not one of data planes: name it in \
                     `spec.serviceAccounts` of a DataPlane (sidecars are off, setting `--sidecars` of the operator)"
                ))),
            },
        }
    }
}
