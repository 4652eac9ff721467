//! A namespace of a real API server, an operator in this process, and the built `relay`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use operator::{app, config::Config};
use plane::Plane;
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen. Far more than it takes, so that only what never happens fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What was printed as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{self:#?}"))
    }
}

/// Somebody who asks a cluster in one namespace.
pub(crate) struct User {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) namespace: String,
}

impl User {
    /// Somebody who may do everything.
    pub(crate) fn administrator(plane: &Plane, namespace: &str) -> Self {
        Self { kubeconfig: plane.kubeconfig().to_owned(), namespace: namespace.to_owned() }
    }

    /// Runs `relay` in the namespace.
    pub(crate) fn relay(&self, arguments: &[&str]) -> Ran {
        self.relay_with(arguments, "")
    }

    /// As [`User::relay`], with this on stdin.
    pub(crate) fn relay_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        run(&[arguments, &["-n", &self.namespace]].concat(), Some(&self.kubeconfig), stdin)
    }
}

/// Runs `relay` to its end with no settings but those that it is given.
pub(crate) fn run(arguments: &[&str], kubeconfig: Option<&Path>, stdin: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments);
    let home = tempfile::tempdir().unwrap();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RELAY_") || name.starts_with("KUBE")) {
        command.env_remove(name);
    }
    command.env("HOME", home.path());
    command.envs(kubeconfig.map(|file| ("KUBECONFIG", file)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("relay runs");
    // Who reads nothing has closed its end.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("relay ends");
    let text = |bytes| String::from_utf8(bytes).expect("relay prints UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// An operator that runs in this process.
pub(crate) struct Operator {
    pub(crate) admin: std::net::SocketAddr,
    pub(crate) push: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    runtime: Option<Runtime>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An operator's own command line, so that settings which no test here needs have their defaults.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

impl Operator {
    /// Starts an operator that lives in a namespace and watches it alone.
    pub(crate) async fn start(plane: &Plane, namespace: &str) -> Self {
        Self::start_with(plane, namespace, &[]).await
    }

    /// As [`Operator::start`], with further settings.
    pub(crate) async fn start_with(plane: &Plane, namespace: &str, more: &[&str]) -> Self {
        let flags = ["--namespace", namespace, "--watch-namespaces", namespace, "--pod-name", "operator-0"];
        let ports = ["--admin", "127.0.0.1:0", "--push", "127.0.0.1:0", "--push-grace-seconds", "1"];
        let config = Flags::parse_from([&["operator"], &flags[..], &ports, more].concat()).config;
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
        let cluster = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let runtime = Runtime::new().unwrap();
        let app = runtime.spawn(app::build_for(config, cluster)).await.unwrap().unwrap();
        let (admin, push) = (app.admin, app.push);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = runtime.spawn(async move { app.run(stopped.cancelled_owned()).await });
        Self { admin, push, stop, task, runtime: Some(runtime) }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, &mut self.task).await.expect("an operator that is told to stops").unwrap();
    }
}

/// The kinds that are compiled, as kubectl takes them.
pub(crate) const KINDS: &str = "hosts,models,hostkeys,relaykeys,policies";

/// Waits until all of these objects have a condition.
#[track_caller]
pub(crate) fn wait(plane: &Plane, namespace: &str, what: &str, condition: &str) {
    let condition = format!("--for=condition={condition}");
    let arguments = ["wait", what, "--all", "-n", namespace, "--timeout=60s", &condition];
    if let Err(error) = plane.try_kubectl(plane.kubeconfig(), &arguments, "") {
        let said = run(&["status", "-n", namespace], Some(plane.kubeconfig()), "");
        panic!("{error}\n{}{}", said.stdout, said.stderr);
    }
}

/// A Host, a HostKey with its Secret, a Model, a Policy and a RelayKey with a token of its own.
pub(crate) fn manifests(namespace: &str) -> String {
    "apiVersion: v1
kind: Secret
metadata: {name: provider, namespace: NS}
stringData: {token: sk-canary-of-the-provider}
---
apiVersion: v1
kind: Secret
metadata: {name: app, namespace: NS}
stringData: {token: canary-token-of-the-application-long-enough}
---
apiVersion: llmrelay.io/v1alpha1
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
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: app, namespace: NS}
spec: {policyRefs: [{name: all}], tokenSecretRef: {name: app, key: token}}
"
    .replace("NS", namespace)
}

/// A directory with one file.
pub(crate) fn directory(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.yaml"), text).unwrap();
    dir
}

/// The path of a directory as an argument.
pub(crate) fn path(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().expect("temporary paths are UTF-8")
}
