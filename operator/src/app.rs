//! An operator from its settings to its end: connects, watches, compiles, and stops.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use kube::Client;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin::Admin,
    compile::Compiler,
    config::{Config, Namespaces},
    metrics::Metrics,
    published::Published,
    watch as watching,
    world::World,
};

/// An operator that is bound and knows its cluster. It watches once it runs.
pub struct App {
    /// Where health and metrics are served.
    pub admin: SocketAddr,
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
    let client = Client::try_from(cluster).context("preparing to connect to the cluster")?;
    let socket = TcpListener::bind(config.admin).await;
    let socket = socket.with_context(|| format!("listening on {} for the admin port", config.admin))?;
    let world = Arc::new(World::new(&namespaces));
    let metrics = Arc::new(Metrics::new());
    let compiler = Compiler::new(world.clone(), metrics.clone());
    let published = compiler.published();
    Ok(App { admin: socket.local_addr()?, namespaces, client, world, metrics, compiler, published, socket })
}

impl App {
    /// What was compiled last; absent until everything was heard of once.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// Watches and compiles until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { namespaces, client, world, metrics, compiler, published, socket, .. } = self;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let watched = namespaces.watched.iter().map(|name| if name.is_empty() { "*" } else { name });
        info!(namespaces = %watched.collect::<Vec<_>>().join(","), "watching");
        watching::start(&client, &world, &tasks, &stop);
        tasks.spawn(compiler.run(stop.clone()));
        let admin = Admin { world, metrics, published };
        let admin_stop = stop.clone();
        tasks.spawn(async move { admin_stop.run_until_cancelled(admin.serve(socket)).await });
        shutdown.await;
        info!("shutting down");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        info!("stopped");
    }
}
