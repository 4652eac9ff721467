//! Pushes what was compiled: a TLS server whose certificates the operator makes itself, for data planes that show a token
//! of theirs. How tables travel is the feed's business.

pub mod acks;
mod ahead;
pub mod authority;
mod bundles;
mod fleets;
mod metrics;
mod offer;
pub mod peers;
mod seal_key;
mod serving;
mod sidecars;
pub mod token;
mod trust;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use feed::server::{self, Server};
use kube::Client;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

pub use self::seal_key::ENTRY as SEAL_KEY_ENTRY;
use self::{
    acks::report,
    fleets::Fleets,
    metrics::{ReviewMetrics, Streams, TrustMetrics},
    offer::Offering,
    sidecars::Sidecars,
    token::Tokens,
    trust::Trust,
};
use crate::{
    Published,
    config::Namespaces,
    lease::Standing,
    metrics::Metrics,
    status::{fleet::Acks, run::Offered},
    workshop::Workshop,
    world::World,
};

/// What tokens of data planes must be for.
pub const AUDIENCE: &str = "relay-push.llmrelay.io";

/// How tables are pushed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where data planes connect.
    pub address: SocketAddr,
    /// Names that the certificate is good for; the first is shown.
    pub names: Vec<String>,
    /// The operator's own namespace, where the authority is, and those that are watched.
    pub namespaces: Namespaces,
    /// Service accounts whose pods are data planes: namespace and name.
    pub accounts: Vec<(String, String)>,
    /// Whether pods of namespaces that opted in are served what is their namespace's own.
    pub sidecars: bool,
    /// Names that data planes' own certificate is for, which they show to sidecars; empty: none is made.
    pub serving_names: Vec<String>,
    /// Who answers, for people.
    pub server_id: String,
    /// How replicas find and trust each other.
    pub peers: peers::Settings,
    /// How long streams may take to go elsewhere at the end.
    pub grace: Duration,
    /// Lifetimes of certificates.
    pub times: authority::Times,
}

/// The server of the push streams, bound and not yet serving.
pub struct Push {
    /// Where it listens.
    pub address: SocketAddr,
    settings: Settings,
    listener: TcpListener,
    server: Server,
    fleets: Fleets,
    sidecars: Option<Sidecars>,
    client: Client,
    of_trust: TrustMetrics,
    /// Where tables are encoded.
    workshop: Workshop,
}

/// What the server is told.
pub struct Inputs {
    /// What is watched.
    pub world: Arc<World>,
    /// What was compiled last.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Who writes, and the Lease whose UID names the history of the cluster.
    pub standing: watch::Receiver<Standing>,
    /// Where it says what it offers.
    pub offered: watch::Sender<Option<Offered>>,
    /// Where it says what pods acknowledged.
    pub acks: watch::Sender<Arc<Acks>>,
    /// This process among all candidates for the Lease.
    pub identity: String,
}

impl Push {
    /// Binds the port. Errs where it is taken.
    pub async fn bind(
        settings: Settings,
        client: Client,
        published: watch::Receiver<Option<Arc<Published>>>,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(settings.address).await;
        let listener = listener.with_context(|| format!("listening on {} for data planes", settings.address))?;
        let workshop = Workshop::open("encode").context("starting the thread that encodes tables")?;
        let fleets = Fleets::new();
        let (of_reviews, of_trust) = (ReviewMetrics::default(), TrustMetrics::default());
        let tokens = Tokens::new(client.clone(), AUDIENCE, of_reviews.clone());
        let (accounts, assigning) = (settings.accounts.clone(), fleets.clone());
        let sidecars = settings.sidecars.then(|| Sidecars::new(settings.namespaces.clone()));
        let of_namespaces = sidecars.clone();
        let peers = Tokens::new(client.clone(), peers::AUDIENCE, of_reviews.clone());
        let token_file = settings.peers.token_file.clone();
        let server = Server::gathering(
            server::Settings { server_id: settings.server_id.clone(), ..server::Settings::default() },
            move |token| {
                let tokens = tokens.clone();
                async move { tokens.identity(&token).await }
            },
            move |identity, _| {
                let published = published.borrow().clone();
                assigning.assign(identity, &accounts, of_namespaces.as_ref(), published.as_deref())
            },
            move |token| peers::admit(peers.clone(), token_file.clone(), token),
        );
        let streams = Streams { server: server.clone(), fleets: fleets.clone(), sidecars: sidecars.clone() };
        metrics.register(|registry| {
            of_reviews.register(registry);
            of_trust.register(registry);
            registry.register_collector(Box::new(streams));
        });
        Ok(Self {
            address: listener.local_addr()?,
            settings,
            listener,
            server,
            fleets,
            sidecars,
            client,
            of_trust,
            workshop,
        })
    }

    /// Where other replicas reach the push port, if they do.
    pub fn advertised(&self) -> Option<SocketAddr> {
        let advertise = self.settings.peers.advertise.filter(|_| self.settings.peers.token_file.is_some());
        advertise.map(|advertise| advertise.address(self.address.port()))
    }

    /// Serves until `stop`, then asks all data planes to go elsewhere and waits a while until they have.
    pub async fn run(self, inputs: Inputs, stop: CancellationToken) {
        let Self { settings, listener, server, fleets, sidecars, client, of_trust, workshop, .. } = self;
        let Inputs { world, published, standing, offered, acks, identity } = inputs;
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let (following, serving) = (standing.clone(), server.clone());
        let offering = Offering {
            published: published.clone(),
            standing: following,
            fleets: fleets.clone(),
            sidecars: sidecars.clone(),
            server: serving,
            offered,
            workshop,
        };
        tasks.spawn(offering.run(end.clone()));
        let of_fleets = fleets.clone();
        tasks.spawn(ahead::run(move || of_fleets.served().borrow().clone(), ahead::AGAIN, world.clone(), end.clone()));
        if let Some(sidecars) = sidecars {
            let again = ahead::AGAIN_FOR_SIDECARS;
            tasks.spawn(ahead::run(move || sidecars.served(), again, world, end.clone()));
        }
        tasks.spawn(report(fleets.clone(), server.gathered().clone(), acks, end.clone()));
        let (trust, certificate) = Trust::new(&client, &settings, standing.clone(), published, of_trust);
        if let Some(token_file) = settings.peers.token_file.clone() {
            let (name, bundle) = (settings.names.first().cloned().unwrap_or_default(), trust.bundle());
            let telling = peers::Telling { token_file, identity, name, fleets, standing, bundle };
            tasks.spawn(telling.run(end.clone()));
        }
        tasks.spawn(trust.run(end.clone()));
        let serving = server.clone();
        let serving_end = end.clone();
        tasks.spawn(async move {
            let certificate = serving_end.run_until_cancelled(trust::first(certificate)).await;
            let Some(Some(certificate)) = certificate else { return };
            match certificate.server_config() {
                Ok(tls) => serving.serve(listener, tls).await,
                Err(error) => error!(%error, "data planes cannot be served: {error:#}"),
            }
        });
        stop.cancelled().await;
        let streams = server_streams(&server, settings.grace).await;
        info!(grace = ?streams, "data planes were asked to go elsewhere");
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

async fn server_streams(server: &Server, grace: Duration) -> Duration {
    let begun = tokio::time::Instant::now();
    server.shut_down(grace).await;
    begun.elapsed()
}
