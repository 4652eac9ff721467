//! The control plane as one thing: start, stop, ask.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;

use crate::{api_server, binaries::Binaries, etcd::Etcd, kubeconfig, kubectl, pki, ports, process::Process};

/// Relay's definitions, as they are installed.
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/yaml");

/// etcd and kube-apiserver.
pub struct Plane {
    // Processes before the folder in which they write.
    api: Mutex<Option<Process>>,
    etcd: Etcd,
    binaries: Binaries,
    port: u16,
    administrator: PathBuf,
    namespaces: AtomicU32,
    directory: TempDir,
}

impl Plane {
    /// The plane that all tests of this process share. A test that stops or compacts it [starts](Plane::start) its own.
    /// `None` when the environment asks for none.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Plane> = OnceLock::new();
        Binaries::find().map(|binaries| SHARED.get_or_init(|| Self::launch(binaries)))
    }

    /// Starts a plane and waits until it is ready. `None` when the environment asks for none.
    pub fn start() -> Option<Self> {
        Binaries::find().map(Self::launch)
    }

    fn launch(binaries: Binaries) -> Self {
        let directory = tempfile::Builder::new().prefix("relay-plane-").tempdir().expect("a folder is made");
        pki::write(directory.path());
        let etcd = Etcd::start(&binaries.path("etcd"), directory.path());
        let (port, administrator, api) = serve(&binaries, directory.path());
        let namespaces = AtomicU32::new(0);
        Self { api: Mutex::new(Some(api)), etcd, binaries, port, administrator, namespaces, directory }
    }

    /// Where the API server listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A kubeconfig file of somebody who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.administrator
    }

    /// A client of somebody who may do everything. It lives as long as the runtime in which it was made.
    pub async fn client(&self) -> Client {
        client(&self.administrator).await
    }

    /// Runs kubectl as somebody who may do everything, and panics with what it says when it fails.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(&self.administrator, arguments, "")
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// Runs kubectl as the one whose kubeconfig this is, with `input` to read. The error is what it says when it fails.
    pub fn try_kubectl(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        kubectl::run(&self.binaries.path("kubectl"), kubeconfig, arguments, input)
    }

    /// Applies manifests, server-side, and panics with what kubectl says when one is refused.
    #[track_caller]
    pub fn apply(&self, manifests: &str) -> String {
        self.try_kubectl(&self.administrator, &["apply", "--server-side", "-f", "-"], manifests)
            .unwrap_or_else(|error| panic!("{error}\n{manifests}"))
    }

    /// Installs Relay's definitions and waits until the API server serves them. Does nothing when they are there.
    pub fn install_crds(&self) {
        self.kubectl(&["apply", "--server-side", "-f", DEFINITIONS]);
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", DEFINITIONS]);
    }

    /// A new namespace.
    pub fn namespace(&self) -> String {
        let name = format!("test-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]);
        name
    }

    /// Ends the API server (SIGTERM) and waits until it has: answers are finished, watches are closed.
    pub fn stop_api(&self) {
        self.api().take().expect("the API server runs").end();
    }

    /// Kills the API server (SIGKILL).
    pub fn kill_api(&self) {
        drop(self.api().take().expect("the API server runs"));
    }

    /// Starts the API server again, on its port, with all that was stored.
    pub fn start_api(&self) {
        let mut api = self.api();
        assert!(api.is_none(), "the API server runs already");
        let started = attempt(&self.binaries, self.directory.path(), self.port, &self.administrator);
        *api = Some(started.unwrap_or_else(|log| panic!("kube-apiserver ended at its start: {log}")));
    }

    /// Makes etcd forget all revisions before the newest, which is returned. An API server that runs still remembers the
    /// last changes of each kind: who is to hear 410 Gone needs one that was started afterwards.
    pub fn compact(&self) -> i64 {
        self.etcd.compact()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn api(&self) -> MutexGuard<'_, Option<Process>> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of the one whose kubeconfig this is.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig was written here");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the kubeconfig is whole")).expect("a client is made")
}

/// Starts an API server on a free port.
fn serve(binaries: &Binaries, directory: &Path) -> (u16, PathBuf, Process) {
    const TRIES: u32 = 10;
    let mut log = String::new();
    for _ in 0..TRIES {
        let port = ports::free();
        let administrator = kubeconfig::administrator(directory, port);
        match attempt(binaries, directory, port, &administrator) {
            Ok(process) => return (port, administrator, process),
            Err(ended) if ended.contains("address already in use") => log = ended,
            Err(ended) => panic!("kube-apiserver ended at its start: {ended}"),
        }
    }
    panic!("kube-apiserver finds no free port: {log}")
}

/// Starts an API server and waits until it is ready, its first roles included.
fn attempt(binaries: &Binaries, directory: &Path, port: u16, administrator: &Path) -> Result<Process, String> {
    let command = api_server::command(&binaries.path("kube-apiserver"), port);
    let kubectl = binaries.path("kubectl");
    let ready = || kubectl::run(&kubectl, administrator, &["get", "--raw=/readyz"], "").is_ok();
    Process::start(command, directory, ready)
}
