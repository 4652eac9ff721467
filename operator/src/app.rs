//! An operator from its settings to its end: connects, watches, compiles, pushes, writes, and stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use crds::rights::LEASE;
use kube::{Api, Client};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin::Admin,
    compile::Compiler,
    config::{Config, Namespaces},
    events::{EventMetrics, Poster},
    lease::{self, Election, Keeper, Standing, Timing},
    metrics::Metrics,
    published::Published,
    push::{self, Push},
    requests::Requests,
    status::{self, fleet::Acks, metrics::StatusMetrics},
    watch as watching,
    world::World,
};

/// An operator that is bound and knows its cluster. It watches once it runs.
pub struct App {
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// Where data planes connect.
    pub push: SocketAddr,
    /// Which namespaces are watched, and which is what.
    pub namespaces: Namespaces,
    /// The connection to the API server.
    pub client: Client,
    /// What is watched.
    pub world: Arc<World>,
    /// Metrics, for parts to register theirs.
    pub metrics: Arc<Metrics>,
    compiler: Compiler,
    published: watch::Receiver<Option<Arc<Published>>>,
    socket: TcpListener,
    replica: String,
    timing: Timing,
    pushing: Push,
}

/// Binds the admin port for an operator of the cluster that the environment says: the one that it runs in, or a
/// kubeconfig's. Errs where there is none, an address is taken or a setting is wrong.
pub async fn build(config: Config) -> anyhow::Result<App> {
    let cluster = kube::Config::infer().await.context("finding the cluster")?;
    build_for(config, cluster).await
}

/// As [`build`], for a cluster of one's own choice.
pub async fn build_for(config: Config, cluster: kube::Config) -> anyhow::Result<App> {
    let namespaces = config.namespaces(&cluster.default_namespace)?;
    let requests = Requests::default();
    let client = requests.client(cluster).context("preparing to connect to the cluster")?;
    let socket = TcpListener::bind(config.admin).await;
    let socket = socket.with_context(|| format!("listening on {} for the admin port", config.admin))?;
    let world = Arc::new(World::new(&namespaces));
    let metrics = Arc::new(Metrics::new());
    metrics.register(|registry| requests.register(registry));
    let compiler = Compiler::new(world.clone(), metrics.clone())?;
    let published = compiler.published();
    let pushing = Push::bind(config.push(&namespaces)?, client.clone(), published.clone(), &metrics).await?;
    let (admin, push, replica) = (socket.local_addr()?, pushing.address, config.replica());
    let timing = config.leading.timing()?;
    Ok(App { admin, push, namespaces, client, world, metrics, compiler, published, socket, replica, timing, pushing })
}

impl App {
    /// What was compiled last; absent until everything was heard of once.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// Watches, compiles, pushes and, while it leads, writes until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { namespaces, client, world, metrics, compiler, published, socket, replica, timing, pushing, .. } =
            self;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let watched = namespaces.watched.iter().map(|name| if name.is_empty() { "*" } else { name });
        info!(namespaces = %watched.collect::<Vec<_>>().join(","), "watching");
        watching::start(&client, &world, &tasks, &stop);
        tasks.spawn(compiler.run(stop.clone()));
        let admin = Admin { world: world.clone(), metrics: metrics.clone(), published: published.clone() };
        let admin_stop = stop.clone();
        tasks.spawn(async move { admin_stop.run_until_cancelled(admin.serve(socket)).await });

        let (standing, stands) = watch::channel(Standing::default());
        let (offered, offers) = watch::channel(None);
        let (acks, acknowledged) = watch::channel(Arc::new(Acks::default()));
        let ending = CancellationToken::new();
        // A process that comes back under the same name is another candidate.
        let identity = format!("{replica}_{:016x}", rand::random::<u64>());
        let address = pushing.advertised().map(|address| address.to_string());
        let inputs = push::Inputs {
            world: world.clone(),
            published,
            standing: stands.clone(),
            offered,
            acks,
            identity: identity.clone(),
        };
        let pushing = pushing.run(inputs, ending.clone());
        let inputs = status::run::Inputs { world, offered: offers, acks: acknowledged, standing: stands };
        let writing = Writing { client, namespace: namespaces.own, replica, identity, address, timing, metrics };
        let writing = writing.run(inputs, standing, ending.clone());
        let ended = async {
            shutdown.await;
            info!("shutting down");
            ending.cancel();
        };
        tokio::join!(pushing, writing, ended);
        stop.cancel();
        tasks.close();
        // What only reads is not waited for where the API server hangs.
        let _ = tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await;
        info!("stopped");
    }
}

/// What one replica does for all.
struct Writing {
    client: Client,
    namespace: String,
    replica: String,
    identity: String,
    /// Where other replicas reach this one.
    address: Option<String>,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl Writing {
    /// Competes for the Lease and writes while it holds it, until `stop`. The last write has ended when it gives the
    /// Lease back.
    async fn run(self, inputs: status::run::Inputs, standing: watch::Sender<Standing>, stop: CancellationToken) {
        let Self { client, namespace, replica, identity, address, timing, metrics } = self;
        let (of_statuses, of_events) = (StatusMetrics::default(), EventMetrics::default());
        metrics.register(|registry| {
            of_statuses.register(registry);
            of_events.register(registry);
        });
        let election = Election::new(identity, timing);
        let keeper = Keeper::new(Api::namespaced(client.clone(), &namespace), LEASE, election).at(address);
        let released = CancellationToken::new();
        let (poster, posting) = Poster::new(client.clone(), replica, of_events, released.clone());
        let writing = async {
            status::run::run(client, inputs, poster, of_statuses, stop).await;
            released.cancel();
        };
        tokio::join!(lease::keep(keeper, standing, released.clone()), posting, writing);
    }
}
