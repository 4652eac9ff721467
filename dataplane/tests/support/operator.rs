//! An operator as far as a data plane sees one: a publisher behind TLS on loopback, and a data plane that follows it.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dataplane::{
    app::{self, App},
    config::{Config, follow::FollowConfig, sidecar::SharedPlace},
    follow, forward,
    meter::sinks::Target,
};
use feed::{
    fleet::{Bound, Identity, Pod},
    publisher::{Offer, Publisher},
    server::{Denied, Server, Settings},
    tls::Certificate,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use table::Secret;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{
    client::{Ask, Connection, Whole},
    relay::{Loopback, config},
    tables::Tables,
};

const NAME: &str = "relay-operator.relay-system.svc";

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let endless = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, endless).await;
    answer.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// What an operator and its data planes share: a certificate authority, tokens, and directories.
pub(crate) struct Site {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

/// An operator that serves.
pub(crate) struct Operator {
    pub(crate) publisher: Publisher,
    pub(crate) address: SocketAddr,
    server: Server,
    task: JoinHandle<()>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(directory.path().join("token"), "apps/pod-0/uid-0\n").unwrap();
        fs::write(directory.path().join("key"), [7; 32]).unwrap();
        fs::create_dir(directory.path().join("kept")).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the sealed copy is.
    pub(crate) fn copy(&self) -> PathBuf {
        self.path("kept/table.sealed")
    }

    /// Settings of a data plane that follows the operator at `address` and keeps a copy in a file.
    pub(crate) fn follow(&self, address: SocketAddr) -> FollowConfig {
        FollowConfig {
            operator: address.to_string().parse().unwrap(),
            operator_name: Some(NAME.to_owned()),
            operator_ca: self.path("ca.pem"),
            operator_token_file: self.path("token"),
            fleet: "default".to_owned(),
            pod_name: "pod-0".to_owned(),
            pod_uid: "uid-0".to_owned(),
            pod_namespace: "apps".to_owned(),
            node_name: "node".to_owned(),
            kept_key: Some(self.path("key")),
            kept_dir: Some(self.path("kept")),
            max_staleness: None,
        }
    }

    /// An operator at a free port.
    pub(crate) async fn operator(&self) -> Operator {
        self.operator_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// An operator with nothing to publish yet. Its tokens are `namespace/pod/uid`.
    pub(crate) async fn operator_at(&self, at: SocketAddr) -> Operator {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let certificate = Certificate::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let publisher = Publisher::new();
        let (published, heartbeat) = (publisher.clone(), Duration::from_millis(500));
        let server = Server::new(
            Settings { server_id: "operator-0".into(), heartbeat, jitter: Duration::ZERO, ..Settings::default() },
            identity_of,
            move |_, _| Ok(published.clone()),
        );
        // Who has taken the port of an operator that was away gives it back.
        let listener = until("the port", async || TcpListener::bind(at).await.ok()).await;
        let (address, serving) = (listener.local_addr().unwrap(), server.clone());
        let tls = certificate.server_config().unwrap();
        let task = tokio::spawn(async move { serving.serve(listener, tls).await });
        Operator { publisher, address, server, task }
    }
}

async fn identity_of(token: Secret<String>) -> Result<Identity, Denied> {
    let parts: Vec<_> = token.expose().split('/').collect();
    let [namespace, name, uid] = parts[..] else { return Err(Denied::Unauthenticated("the token is unknown".into())) };
    let pod = Some(Bound { name: name.to_owned(), uid: uid.to_owned() });
    Ok(Identity { namespace: namespace.into(), service_account: "relay".into(), pod, expires: None })
}

impl Operator {
    /// Publishes a table whose sources are at `version`.
    pub(crate) fn publish(&self, version: u64, tables: &Tables) {
        self.publisher.offer(Offer {
            revision: version,
            epoch: "epoch",
            vector: [("hosts", version)].into_iter().collect(),
            urgent: false,
            table: &tables.table,
            credentials: &tables.credentials,
        });
    }

    /// Waits for a data plane that stands as `what` says.
    pub(crate) async fn pod(&self, what: impl Fn(&Pod) -> bool) -> Pod {
        let waiting = until("the data plane stands otherwise", async || {
            self.publisher.fleet().pods().into_iter().find(|pod| what(pod))
        });
        waiting.await
    }

    /// Ends all streams and closes the port.
    pub(crate) async fn kill(self) {
        self.server.shut_down(Duration::ZERO).await;
        self.task.await.unwrap();
    }
}

/// A running data plane that follows an operator.
pub(crate) struct Follower {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(crate) async fn start(follow: &FollowConfig) -> Self {
        Self::start_with(follow, config()).await
    }

    pub(crate) async fn start_with(follow: &FollowConfig, config: Config) -> Self {
        let app: App = app::build_with(config, Target::None, Arc::new(Loopback)).await.unwrap();
        Self::following(app, follow).await
    }

    /// A sidecar, which passes on to `place` what it does not serve.
    pub(crate) async fn start_sidecar(follow: &FollowConfig, place: SharedPlace) -> Self {
        let app: App = app::build_with(config(), Target::None, Arc::new(Loopback)).await.unwrap();
        forward::start(&app, place);
        Self::following(app, follow).await
    }

    async fn following(app: App, follow: &FollowConfig) -> Self {
        follow::start(&app, follow).await.unwrap();
        let (address, admin) = (app.listen, app.admin);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run(async move {
            let _ = stopped.await;
        }));
        Self { address, admin, stop: Some(stop), task }
    }

    /// The answer to a conversation.
    pub(crate) async fn ask(&self, model: &str) -> Whole {
        ask(self.address, &Ask::openai(model)).await
    }

    /// Status of `/readyz`.
    pub(crate) async fn readiness(&self) -> u16 {
        ask(self.admin, &Ask::get("/readyz")).await.status
    }

    pub(crate) async fn ready(&self) {
        until("it is not ready", async || (self.readiness().await == 200).then_some(())).await;
    }

    /// What the admin port says of the feed.
    pub(crate) async fn feed(&self) -> Value {
        ask(self.admin, &Ask::get("/debug/feed")).await.json()
    }

    /// The value of a metric without labels; none: it has no series.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = ask(self.admin, &Ask::get("/metrics")).await.text();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Begins to stop.
    pub(crate) fn shut_down(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops and waits for the end.
    pub(crate) async fn stop(mut self) {
        self.shut_down();
        self.task.await.unwrap();
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, ask: &Ask) -> Whole {
    Connection::open(address).await.send(ask).await.expect("it answers").whole().await
}
