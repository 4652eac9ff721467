//! An operator in this process, against a real API server.

use std::{sync::Arc, time::Duration};

use compiler::{ConditionType, Reason};
use crds::Kind;
use kube::config::{KubeConfigOptions, Kubeconfig};
use operator::{Published, app, config::Config, leading::Settings, push::authority::Times, world::World};
use table::{ObjectRef, RoutingTable, Row};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen. Far more than it takes, so that only what never happens fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// An operator that runs.
pub(crate) struct Running {
    pub(crate) world: Arc<World>,
    admin: std::net::SocketAddr,
    pub(crate) push: std::net::SocketAddr,
    published: watch::Receiver<Option<Arc<Published>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Its own, so that it can end without a word.
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts an operator that watches these namespaces, as whoever the kubeconfig says.
pub(crate) async fn start(kubeconfig: &std::path::Path, namespaces: &[&str]) -> Running {
    start_as(kubeconfig, config(namespaces)).await
}

/// As [`start`], with lifetimes of the push port's certificates.
pub(crate) async fn start_with(kubeconfig: &std::path::Path, namespaces: &[&str], push_times: Times) -> Running {
    start_as(kubeconfig, Config { push_times, ..config(namespaces) }).await
}

/// The settings of an operator that lives in the first of these namespaces.
pub(crate) fn config(namespaces: &[&str]) -> Config {
    Config {
        namespace: namespaces.iter().find(|name| **name != "*").map(|name| (*name).to_owned()),
        watch_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        catalog_namespace: None,
        admin: ([127, 0, 0, 1], 0).into(),
        push: ([127, 0, 0, 1], 0).into(),
        push_names: Vec::new(),
        data_plane_accounts: vec!["relay-dataplane".to_owned()],
        sidecars: false,
        serving_names: Vec::new(),
        push_grace_seconds: 1,
        pod_name: Some("operator-0".to_owned()),
        peer_token_file: None,
        advertise: None,
        leading: Settings::default(),
        push_times: Times::default(),
    }
}

/// Starts an operator with all of its settings.
pub(crate) async fn start_as(kubeconfig: &std::path::Path, config: Config) -> Running {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let cluster = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let runtime = Runtime::new().unwrap();
    let app = runtime.spawn(app::build_for(config, cluster)).await.unwrap().unwrap();
    let (world, admin, push, published) = (app.world.clone(), app.admin, app.push, app.published());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = runtime.spawn(async move { app.run(stopped.cancelled_owned()).await });
    Running { world, admin, push, published, stop, task, runtime: Some(runtime) }
}

impl Running {
    /// What was published first that is such, or is such already.
    pub(crate) async fn until(&mut self, what: &str, is_such: impl Fn(&Published) -> bool) -> Arc<Published> {
        let such = self.published.wait_for(|published| published.as_deref().is_some_and(&is_such));
        let found = timeout(PATIENCE, such).await.map(|found| found.unwrap().clone().unwrap());
        found.unwrap_or_else(|_| {
            let last = self.published.borrow().clone();
            let reports = last.map(|last| format!("{:#?}", last.reports));
            panic!("waited in vain until {what}; missing: {:?}; last: {reports:?}", self.world.missing())
        })
    }

    /// What is published now.
    pub(crate) fn now(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }

    /// Every publication from now on that is not overtaken by the next before it is seen.
    pub(crate) fn every(&self) -> mpsc::UnboundedReceiver<Arc<Published>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut published = self.published.clone();
        tokio::spawn(async move {
            while published.changed().await.is_ok() {
                let seen = published.borrow_and_update().clone();
                if seen.is_some_and(|seen| sender.send(seen).is_err()) {
                    break;
                }
            }
        });
        receiver
    }

    /// What the admin port answers: the status and the body.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        ask(&self.admin.to_string(), path).await
    }

    /// Ends it as `kill -9` does: it gives nothing back and says nothing.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, &mut self.task).await.expect("an operator that is told to stops").unwrap();
    }
}

/// What an admin port answers: the status and the body.
pub(crate) async fn ask(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The reason of one condition of an object; absent: nothing is said of it.
pub(crate) fn reason(
    published: &Published,
    kind: Kind,
    id: &ObjectRef,
    of: ConditionType,
) -> Option<(bool, Reason, String)> {
    let report = published.reports.iter().find(|report| report.kind == kind && report.id == *id)?;
    report.condition(of).map(|condition| (condition.status, condition.reason, condition.message.clone()))
}

/// Whether a relay key is in the table and can be used.
pub(crate) fn has_key(table: &RoutingTable, id: &ObjectRef) -> bool {
    table.relay_keys.get(id).and_then(Row::usable).is_some()
}

/// A Host, a HostKey with its Secret, a Model, a Policy and a RelayKey by hash.
pub(crate) fn manifests(namespace: &str) -> String {
    format!(
        "{}---\n{}",
        secret(namespace, "provider", "sk-provider"),
        "apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: openai, namespace: NS}
spec: {protocol: OpenAI, baseURL: 'https://api.example/v1'}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: main, namespace: NS}
spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: provider, key: token}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: gpt, namespace: NS}
spec: {hosts: [{name: a, hostRef: {name: openai}, upstreamModel: gpt-5}]}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: all, namespace: NS}
spec: {models: {allow: ['*']}, hosts: {allow: ['*']}}
---
"
        .replace("NS", namespace)
            + &relay_key(namespace, "app", 0)
    )
}

/// A RelayKey by the hash of a token that nobody has.
pub(crate) fn relay_key(namespace: &str, name: &str, number: u64) -> String {
    format!(
        "apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{policyRefs: [{{name: all}}], tokenHash: 'sha256:{number:064x}'}}
"
    )
}

/// A Secret with one text under `token`.
pub(crate) fn secret(namespace: &str, name: &str, text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{token: '{text}'}}\n"
    )
}
