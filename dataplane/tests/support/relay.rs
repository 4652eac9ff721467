//! A data plane of one's own: bound to free ports, served on a task, stopped at the end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dataplane::{
    app::{self, App, Counting, Installer},
    config::{Config, otlp::OtlpConfig, redis::RedisConfig, sealing::SealingConfig, sidecar::SharedPlace},
    forward,
    limit::{Limiter, memory::Memory},
    meter::sinks::Target,
    upstream::resolver::{Resolve, Resolved},
};
use futures::future::BoxFuture;
use serde_json::Value;
use table::Secret;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    client::{Answer, Ask, Connection, Whole},
    tables::Tables,
};

/// Resolves every name to the loopback address.
pub(crate) struct Loopback;

impl Resolve for Loopback {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        let addresses = vec![[127, 0, 0, 1].into()];
        Box::pin(async move { Ok(Resolved { addresses, valid_for: Duration::from_secs(60) }) })
    }
}

/// The settings of a data plane under test: free ports, a short drain.
pub(crate) fn config() -> Config {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        listen: free,
        admin: free,
        tls_cert: None,
        tls_key: None,
        tls_listen: None,
        tls_listen_cert: None,
        tls_listen_key: None,
        body_limit: 32 << 20,
        header_read_timeout: Duration::from_secs(30),
        body_read_timeout: Duration::from_secs(120),
        max_in_flight: 20_000,
        threads: None,
        keep_alive: Duration::from_secs(15),
        trusted_proxies: Vec::new(),
        deregister_delay: Duration::ZERO,
        drain_grace: Duration::from_secs(5),
        stop_within: None,
        otlp: OtlpConfig::default(),
        redis: RedisConfig::default(),
        sealing: SealingConfig::default(),
    }
}

/// The Redis whose nodes listen at `addresses`, with the usual settings.
pub(crate) fn redis_at(addresses: &[SocketAddr]) -> RedisConfig {
    let urls: Vec<_> = addresses.iter().map(|address| format!("redis://{address}")).collect();
    RedisConfig { url: Some(Secret::new(urls.join(","))), ..RedisConfig::default() }
}

/// A directory that goes away, and where in it usage records are written.
fn scratch() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let usage = directory.path().join("usage.jsonl");
    (directory, usage)
}

/// A running data plane.
pub(crate) struct TestRelay {
    /// Where applications connect.
    pub(crate) address: SocketAddr,
    /// Where health and metrics are.
    pub(crate) admin: SocketAddr,
    /// Where applications connect with TLS, where that is another place.
    pub(crate) tls: Option<SocketAddr>,
    /// Puts further tables into effect.
    pub(crate) installer: Installer,
    usage: PathBuf,
    _directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestRelay {
    /// Serves `tables` with the usual settings.
    pub(crate) async fn start(tables: Tables) -> Self {
        Self::start_with(tables, config(), Arc::new(Loopback)).await
    }

    /// Serves `tables` with settings and a resolver of one's own.
    pub(crate) async fn start_with(tables: Tables, config: Config, resolver: Arc<dyn Resolve>) -> Self {
        Self::start_counting(tables, config, resolver, Arc::new(Memory::new())).await
    }

    /// Serves `tables` and counts in the Redis at `address`, which may take its time: a busy machine is no outage.
    pub(crate) async fn start_sharing(tables: Tables, address: SocketAddr) -> Self {
        let redis = RedisConfig { timeout: Duration::from_secs(5), ..redis_at(&[address]) };
        Self::start_at(tables, redis).await
    }

    /// Serves `tables` and counts in this Redis.
    pub(crate) async fn start_at(tables: Tables, redis: RedisConfig) -> Self {
        let config = Config { redis, ..config() };
        let (directory, usage) = scratch();
        let app = app::build_with(config, Target::File(usage.clone()), Arc::new(Loopback)).await.expect("free ports");
        Self::serve(app, Some(tables), directory, usage)
    }

    /// A sidecar with these tables, if any, which passes on to `place` what it does not serve.
    pub(crate) async fn start_sidecar(tables: Option<Tables>, place: SharedPlace, config: Config) -> Self {
        Self::start_sidecar_asking(tables, place, config, Arc::new(Loopback)).await
    }

    /// As [`Self::start_sidecar`], with a resolver of one's own.
    pub(crate) async fn start_sidecar_asking(
        tables: Option<Tables>,
        place: SharedPlace,
        config: Config,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let (directory, usage) = scratch();
        let app = app::build_with(config, Target::File(usage.clone()), resolver).await.expect("free ports");
        forward::start(&app, place);
        Self::serve(app, tables, directory, usage)
    }

    /// Serves `tables` with settings, a resolver and a limiter of one's own.
    pub(crate) async fn start_counting(
        tables: Tables,
        config: Config,
        resolver: Arc<dyn Resolve>,
        limiter: Arc<dyn Limiter>,
    ) -> Self {
        let (directory, usage) = scratch();
        let target = Target::File(usage.clone());
        let app = app::build_counting(config, target, resolver, async |_| Ok(Counting::alone(limiter)));
        Self::serve(app.await.expect("free ports"), Some(tables), directory, usage)
    }

    fn serve(app: App, tables: Option<Tables>, directory: TempDir, usage: PathBuf) -> Self {
        let (address, admin, tls, installer) = (app.listen, app.admin, app.tls_listen, app.installer());
        if let Some(tables) = tables {
            installer.install(tables.table, tables.credentials);
        }
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run(async move {
            let _ = stopped.await;
        }));
        Self { address, admin, tls, installer, usage, _directory: directory, stop: Some(stop), task }
    }

    /// A connection for one request after the other.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Sends a request on a connection of its own; gives the head of the answer.
    pub(crate) async fn send(&self, ask: &Ask) -> Answer {
        self.connect().await.send(ask).await.expect("the relay answers")
    }

    /// Sends a request on a connection of its own and reads the answer to its end.
    pub(crate) async fn ask(&self, ask: &Ask) -> Whole {
        self.send(ask).await.whole().await
    }

    /// What the admin port says at `path`: status and body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let answer = Connection::open(self.admin).await.send(&Ask::get(path)).await.expect("the admin port answers");
        let whole = answer.whole().await;
        (whole.status, whole.text())
    }

    /// The value of the first sample of `/metrics` whose line starts with `prefix`.
    pub(crate) async fn metric(&self, prefix: &str) -> Option<f64> {
        let (_, text) = self.admin("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(prefix))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Begins to stop.
    pub(crate) fn shut_down(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops and gives every usage record.
    pub(crate) async fn records(mut self) -> Vec<Value> {
        self.shut_down();
        self.task.await.expect("the data plane does not panic");
        let text = std::fs::read_to_string(&self.usage).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a record is one line of JSON")).collect()
    }
}
