//! A data plane from its settings to its end: binds, serves what is installed, and stops in phases.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use hyper::{Request, body::Incoming};
use table::{Credentials, RoutingTable};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    admin::Admin,
    config::{Config, otlp::Destination},
    heal::peers::Peers,
    limit::{
        Limiter,
        estimate::Estimator,
        memory::Memory,
        redis::{Redis, Settings, script::Time},
    },
    listener::{Listener, Origin},
    meter::{
        Books,
        logs::Logs,
        sinks::{Sinks, Target},
    },
    metrics::Metrics,
    otlp::collector::Collector,
    pipeline,
    pool::signals::Signals,
    relay::Relay,
    serving::Serving,
    spans::Spans,
    upstream::resolver::{Resolve, System},
};

/// How long the last usage records and spans may take to where they go.
const FLUSH: Duration = Duration::from_secs(10);

/// A bound data plane. It refuses requests until a table is installed and serves once it runs.
pub struct App {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Where applications connect with TLS, where that is another place.
    pub tls_listen: Option<SocketAddr>,
    /// Where health, metrics and the table are served.
    pub admin: SocketAddr,
    pub(crate) relay: Arc<Relay>,
    listeners: Vec<Listener>,
    certificates: Certificates,
    admin_server: Admin,
    admin_stop: CancellationToken,
}

/// Puts tables into effect.
#[derive(Clone)]
pub struct Installer(Arc<Relay>);

impl Installer {
    /// Puts a table into effect for every request that begins from now on.
    pub fn install(&self, table: RoutingTable, credentials: Credentials) {
        self.0.install(table, credentials);
    }
}

/// Binds both ports. Errs where an address is taken or a certificate cannot be read.
pub async fn build(config: Config, usage: Target) -> anyhow::Result<App> {
    build_with(config, usage, Arc::new(System::new())).await
}

/// As [`build`], with a resolver of one's own.
pub async fn build_with(config: Config, usage: Target, resolver: Arc<dyn Resolve>) -> anyhow::Result<App> {
    let (redis, prefix) = (config.redis.target()?, config.redis.prefix.clone());
    let records = match &usage {
        Target::File(path) => Some(path.clone()),
        Target::None | Target::Stdout => None,
    };
    let app = build_counting(config, usage, resolver, async |books| {
        let Some(target) = redis else { return Ok(Counting::alone(Arc::new(Memory::new()))) };
        let settings = Settings { prefix, time: Time::Redis, records };
        let signals = Arc::new(Signals::new());
        let redis = Redis::start(target, &settings, books, signals.clone()).await?;
        Ok(Counting { peers: redis.peers(), limiter: Arc::new(redis), signals })
    });
    app.await
}

/// Who counts limits, and what is known together with other processes.
pub struct Counting {
    /// Counts.
    pub limiter: Arc<dyn Limiter>,
    /// Health and load of keys and hosts.
    pub signals: Arc<Signals>,
    /// The other processes.
    pub peers: Peers,
}

impl Counting {
    /// This process alone.
    pub fn alone(limiter: Arc<dyn Limiter>) -> Self {
        Self { limiter, signals: Arc::new(Signals::new()), peers: Peers::none() }
    }
}

/// As [`build_with`], with a limiter of one's own.
pub async fn build_counting(
    config: Config,
    usage: Target,
    resolver: Arc<dyn Resolve>,
    counting: impl AsyncFnOnce(&Arc<Books>) -> anyhow::Result<Counting>,
) -> anyhow::Result<App> {
    let certificates = Certificates { first: Serving::of(&config)?, second: Serving::of_second_port(&config) };
    config.sealing.check()?;
    let listeners = listeners(&config, &certificates).await?;
    let metrics = Arc::new(Metrics::new());
    let sinks = Sinks::new(usage, metrics.clone());
    let spans = spans(&config, &resolver, &metrics)?;
    let logs = logs(&config, &resolver, &metrics)?;
    let books = Arc::new(Books { metrics, sinks, logs, spans, estimator: Arc::new(Estimator::new()) });
    let admin = config.admin;
    let Counting { limiter, signals, peers } = counting(&books).await?;
    let relay = Arc::new(Relay::new(config, limiter, books, resolver).among(signals, peers));
    let admin_stop = CancellationToken::new();
    let admin_server = Admin::start(admin, relay.clone(), admin_stop.clone())
        .with_context(|| format!("listening on {admin} for the admin port"))?;
    let mut places = listeners.iter().map(Listener::address);
    let listen = places.next().context("nobody listens")??;
    let tls_listen = places.next().transpose()?;
    let admin = admin_server.address;
    Ok(App { listen, tls_listen, admin, relay, listeners, certificates, admin_server, admin_stop })
}

/// What applications are shown.
struct Certificates {
    /// The pair of `--tls-cert`.
    first: Option<Arc<Serving>>,
    /// The pair that `--tls-listen` has for itself.
    second: Option<Arc<Serving>>,
}

/// The listener of `--listen`, then that of `--tls-listen` where there is one, which takes `--tls-cert` from the first unless it
/// has a pair of its own.
async fn listeners(config: &Config, certificates: &Certificates) -> anyhow::Result<Vec<Listener>> {
    let first = certificates.first.as_ref().map(Serving::server_config).transpose()?;
    let second = certificates.second.as_ref().map(Serving::server_config).transpose()?;
    let places = match (config.tls_listen, second) {
        (None, _) => vec![(config.listen, first)],
        (Some(tls_listen), None) => vec![(config.listen, None), (tls_listen, first)],
        (Some(tls_listen), second) => vec![(config.listen, first), (tls_listen, second)],
    };
    let mut listeners = Vec::new();
    for (place, tls) in places {
        let bound = Listener::bind(place, tls, config.header_read_timeout).await;
        listeners.push(bound.with_context(|| format!("listening on {place}"))?);
    }
    Ok(listeners)
}

impl App {
    /// Puts tables into effect, before and while the data plane runs.
    pub fn installer(&self) -> Installer {
        Installer(self.relay.clone())
    }

    /// Where it listens, in words.
    pub fn places(&self) -> String {
        let (listen, admin) = (self.listen, self.admin);
        let Certificates { first, second } = &self.certificates;
        let is_first_with_tls = first.is_some() && (self.tls_listen.is_none() || second.is_some());
        let scheme = if is_first_with_tls { "https" } else { "http" };
        let also = self.tls_listen.map_or_else(String::new, |tls| format!(", https://{tls}"));
        format!("listening on {scheme}://{listen}{also}, admin on http://{admin}")
    }

    /// Serves until `shutdown` resolves, then drains: no new connections after the deregister delay, open answers until
    /// the grace is over, usage records to their sink.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { relay, listeners, certificates, admin_server, admin_stop, .. } = self;
        let (drain, connections) = (relay.drain.clone(), relay.connections.clone());
        relay.start_tasks();
        let handler = relay.clone();
        let service = tower::service_fn(move |(origin, request): (Origin, Request<Incoming>)| {
            let relay = handler.clone();
            // On the heap, because what hands it on moves it: a request's way is long, and so is what it has to keep.
            Box::pin(async move { Ok::<_, Infallible>(pipeline::handle(relay, origin, request).await) })
        });
        for listener in listeners {
            drain.tasks.spawn(listener.serve(service.clone(), drain.clone(), connections.clone()));
        }
        for serving in [certificates.first, certificates.second].into_iter().flatten() {
            drain.tasks.spawn(serving.follow(relay.books.metrics.clone(), drain.until_expired()));
        }
        shutdown.await;
        info!("shutting down: no longer ready");
        drain.run(relay.stopping(), &connections).await;
        drain.tasks.close();
        drain.tasks.wait().await;
        let books = relay.books.clone();
        // The writer's end is waited for on a thread that may block.
        let writer = books.clone();
        let written = tokio::task::spawn_blocking(move || writer.sinks.close(FLUSH));
        let sent = async { tokio::join!(books.logs.close(FLUSH), books.spans.close(FLUSH)) };
        let _ = tokio::join!(written, sent, relay.limiter.close(FLUSH));
        admin_stop.cancel();
        let _ = tokio::task::spawn_blocking(move || admin_server.join()).await;
        info!("stopped");
    }
}

fn spans(config: &Config, resolver: &Arc<dyn Resolve>, metrics: &Metrics) -> anyhow::Result<Spans> {
    let Some(to) = config.otlp.spans()? else { return Ok(Spans::none()) };
    let wrong = format!("sending spans to {}", to.url);
    Ok(Spans::to(collector(to, resolver).context(wrong)?, metrics))
}

fn logs(config: &Config, resolver: &Arc<dyn Resolve>, metrics: &Metrics) -> anyhow::Result<Logs> {
    let Some(to) = config.otlp.logs()? else { return Ok(Logs::none()) };
    let wrong = format!("sending usage records to {}", to.url);
    Ok(Logs::to(collector(to, resolver).context(wrong)?, metrics))
}

fn collector(to: Destination<'_>, resolver: &Arc<dyn Resolve>) -> anyhow::Result<Collector> {
    Collector::new(to.url, to.path, to.headers, resolver.clone()).map_err(anyhow::Error::msg)
}
