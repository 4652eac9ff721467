//! Hands what was compiled to the publisher, in the order in which it was compiled.

use std::{collections::BTreeMap, sync::Arc};

use feed::{
    publisher::{Offer, Publisher},
    server::Server,
};
use table::{Credentials, RoutingTable};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{fleets::Fleets, sidecars::Sidecars};
use crate::{
    Published,
    fleets::Load,
    lease::Standing,
    status::{fleet::FleetName, run::Offered},
    workshop::Workshop,
};

pub(super) struct Offering {
    pub(super) published: watch::Receiver<Option<Arc<Published>>>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) fleets: Fleets,
    pub(super) sidecars: Option<Sidecars>,
    pub(super) server: Server,
    pub(super) offered: watch::Sender<Option<Offered>>,
    pub(super) workshop: Workshop,
}

impl Offering {
    /// Offers until `stop`. Nothing before the Lease is known, whose UID names the history that versions belong to.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut number, mut last) = (0, None::<(Arc<Published>, String)>);
        loop {
            let published = self.published.borrow_and_update().clone();
            let epoch = self.standing.borrow_and_update().uid.clone();
            if let (Some(published), Some(epoch)) = (published, epoch) {
                let is_known = last.as_ref().is_some_and(|(of, at)| Arc::ptr_eq(of, &published) && *at == epoch);
                if !is_known {
                    number += 1;
                    let before = last.as_ref().map_or(0, |(of, _)| of.revision);
                    let is_urgent = published.is_urgent_since(before);
                    self.offer(number, &published, &epoch, is_urgent).await;
                    // Who belongs to which fleet, or to any, may be another now.
                    if last.as_ref().is_some_and(|(before, _)| self.has_moved(before, &published)) {
                        self.server.review();
                    }
                    last = Some((published, epoch));
                } else {
                    self.offer_parts(number, &published, &epoch, None).await;
                }
            }
            let is_open = tokio::select! {
                () = stop.cancelled() => false,
                () = news(self.sidecars.as_ref()) => true,
                changed = self.published.changed() => changed.is_ok(),
                changed = self.standing.changed() => changed.is_ok(),
            };
            if !is_open {
                break;
            }
        }
    }

    async fn offer(&self, revision: u64, published: &Arc<Published>, epoch: &str, urgent: bool) {
        let (fleets, offering, of) = (self.fleets.clone(), published.clone(), epoch.to_owned());
        // All rows are encoded, which takes milliseconds.
        let encoded = self.workshop.done(move || {
            let offer = |publisher: &Publisher, table: &RoutingTable, credentials: &Credentials| {
                let vector = offering.source_vector.numbers().into();
                publisher.offer(Offer { revision, epoch: &of, vector, urgent, table, credentials });
            };
            offer(fleets.whole(), &offering.table, &offering.credentials);
            for (id, fleet) in &offering.fleets {
                offer(&fleets.of(id), &fleet.table, &fleet.credentials);
            }
        });
        if encoded.await.is_none() {
            return;
        }
        self.fleets.settle(published);
        let mut roots = BTreeMap::new();
        for fleet in fleets_of(published) {
            let publisher = fleet.as_ref().map_or_else(|| self.fleets.whole().clone(), |id| self.fleets.of(id));
            let Some(current) = publisher.current() else { return };
            roots.insert(fleet, current.root().to_string());
        }
        self.offered.send_replace(Some(Offered { published: published.clone(), roots }));
        self.offer_parts(revision, published, epoch, Some(urgent)).await;
    }

    /// Offers sidecars what is their namespaces' own: to all of them, and whether it is urgent; or to those that were offered
    /// nothing yet.
    async fn offer_parts(&self, revision: u64, published: &Arc<Published>, epoch: &str, urgent: Option<bool>) {
        let Some(sidecars) = self.sidecars.clone() else { return };
        let (published, epoch) = (published.clone(), epoch.to_owned());
        let encoded = self.workshop.done(move || {
            let served = sidecars.served();
            let due = served.iter().filter(|(_, publisher)| urgent.is_some() || publisher.current().is_none());
            for (namespace, publisher) in due {
                let Load { table, credentials } = &sidecars.part(namespace, &published);
                let vector = published.source_vector.numbers().into();
                let urgent = urgent.unwrap_or(false);
                publisher.offer(Offer { revision, epoch: &epoch, vector, urgent, table, credentials });
            }
        });
        if encoded.await.is_none() {
            error!("sidecars are told nothing new: encoding what is theirs has failed");
        }
    }

    /// Whether an account may belong to another fleet than before, or have a sidecar no more.
    fn has_moved(&self, before: &Published, now: &Published) -> bool {
        let claims = |published: &Published| -> Vec<_> {
            let fleets = published.fleets.iter();
            fleets.map(|(id, fleet)| (id.clone(), fleet.data_plane.spec.service_accounts.clone())).collect()
        };
        let entitled = |published: &Published| self.sidecars.as_ref().map(|sidecars| sidecars.entitled(published));
        claims(before) != claims(now) || entitled(before) != entitled(now)
    }
}

/// Waits until a sidecar was offered nothing.
async fn news(sidecars: Option<&Sidecars>) {
    match sidecars {
        Some(sidecars) => sidecars.news().await,
        None => std::future::pending().await,
    }
}

/// The fleets that pods may be of.
fn fleets_of(published: &Published) -> Vec<FleetName> {
    if published.fleets.is_empty() { vec![None] } else { published.fleets.keys().cloned().map(Some).collect() }
}
