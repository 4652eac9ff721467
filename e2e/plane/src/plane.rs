//! The control plane as one thing: start, stop, ask.

use std::{
    hash::{BuildHasher, RandomState},
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
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api_server,
    binaries::{self, Binaries, Wanted},
    cleaning::{self, Cleaning},
    etcd::Etcd,
    kubeconfig, kubectl, pki, ports,
    process::Process,
};

/// Relay's definitions, as they are installed.
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/yaml");

/// etcd and kube-apiserver, or the cluster that the environment names.
pub struct Plane {
    // Processes before the folder in which they write.
    servers: Option<Servers>,
    _cleaning: Option<Cleaning>,
    kubectl: PathBuf,
    cluster: Value,
    administrator: PathBuf,
    /// What namespaces are named by: a cluster that outlives its tests has those of others.
    prefix: String,
    namespaces: AtomicU32,
    directory: TempDir,
}

/// What runs for these tests alone.
struct Servers {
    api: Mutex<Option<Process>>,
    etcd: Etcd,
    binaries: Binaries,
    port: u16,
}

impl Plane {
    /// The plane that all tests of this process share. A test that stops or compacts it [starts](Plane::start) its own.
    /// `None` when the environment asks for none.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Plane> = OnceLock::new();
        match Wanted::find() {
            Wanted::Nothing => {
                binaries::skip("RELAY_E2E_CLUSTER is `none`");
                None
            }
            Wanted::Own(binaries) => Some(SHARED.get_or_init(|| Self::launch(binaries))),
            Wanted::Existing(kubectl) => Some(SHARED.get_or_init(|| Self::existing(kubectl))),
        }
    }

    /// Starts a plane of its own and waits until it is ready. `None` when the environment asks for none, or for a cluster
    /// that is not the test's to stop.
    pub fn start() -> Option<Self> {
        match Wanted::find() {
            Wanted::Own(binaries) => return Some(Self::launch(binaries)),
            Wanted::Nothing => binaries::skip("RELAY_E2E_CLUSTER is `none`"),
            Wanted::Existing(_) => binaries::skip("RELAY_E2E_CLUSTER is `existing`, and it needs one of its own"),
        }
        None
    }

    fn launch(binaries: Binaries) -> Self {
        let directory = folder();
        pki::write(directory.path());
        let etcd = Etcd::start(&binaries.path("etcd"), directory.path());
        let (port, administrator, api) = serve(&binaries, directory.path());
        let (kubectl, cluster) = (binaries.path("kubectl"), kubeconfig::cluster(directory.path(), port));
        let servers = Some(Servers { api: Mutex::new(Some(api)), etcd, binaries, port });
        let (prefix, namespaces) = ("test".to_owned(), AtomicU32::new(0));
        Self { servers, _cleaning: None, kubectl, cluster, administrator, prefix, namespaces, directory }
    }

    fn existing(kubectl: PathBuf) -> Self {
        let directory = folder();
        let (administrator, cluster) = kubeconfig::existing(directory.path(), &kubectl);
        // Each `RandomState` has keys of its own: randomness without a dependency.
        let prefix = format!("relay-test-{:08x}", RandomState::new().hash_one(()) >> 32);
        let cleaning = Some(Cleaning::start(&kubectl, &administrator, &prefix, directory.path()));
        let namespaces = AtomicU32::new(0);
        Self { servers: None, _cleaning: cleaning, kubectl, cluster, administrator, prefix, namespaces, directory }
    }

    /// Where the API server listens.
    pub fn url(&self) -> String {
        self.cluster["server"].as_str().expect("a cluster has a server").to_owned()
    }

    /// A kubeconfig file of somebody who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.administrator
    }

    /// A client of somebody who may do everything. It lives as long as the runtime in which it was made.
    pub async fn client(&self) -> Client {
        client(&self.administrator).await
    }

    /// The folder in which kubectl is; empty where it is found on the `PATH`.
    pub fn programs(&self) -> &Path {
        self.kubectl.parent().unwrap_or(Path::new(""))
    }

    /// Runs kubectl as somebody who may do everything, and panics with what it says when it fails.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(&self.administrator, arguments, "")
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// Runs kubectl as the one whose kubeconfig this is, with `input` to read. The error is what it says when it fails.
    pub fn try_kubectl(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        kubectl::run(&self.kubectl, kubeconfig, arguments, input)
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
        let name = format!("{}-{}", self.prefix, self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.apply(&format!(
            "{}\n",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name, "labels": {cleaning::LABEL: self.prefix},
            }})
        ));
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

    /// Stops the API server (SIGSTOP): it takes connections and answers nothing.
    pub fn freeze_api(&self) {
        self.api().as_ref().expect("the API server runs").freeze();
    }

    /// Starts the API server again, on its port, with all that was stored.
    pub fn start_api(&self) {
        let (servers, mut api) = (self.servers(), self.api());
        assert!(api.is_none(), "the API server runs already");
        let started = attempt(&servers.binaries, self.directory.path(), servers.port, &self.administrator);
        *api = Some(started.unwrap_or_else(|log| panic!("kube-apiserver ended at its start: {log}")));
    }

    /// Makes etcd forget all revisions before the newest, which is returned. An API server that runs still remembers the
    /// last changes of each kind: who is to hear 410 Gone needs one that was started afterwards.
    pub fn compact(&self) -> i64 {
        self.servers().etcd.compact()
    }

    pub(crate) fn cluster(&self) -> &Value {
        &self.cluster
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn api(&self) -> MutexGuard<'_, Option<Process>> {
        self.servers().api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> &Servers {
        self.servers.as_ref().expect("a test stops only an API server that it started itself")
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("relay-plane-").tempdir().expect("a folder is made")
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
        let administrator = kubeconfig::administrator(directory, &kubeconfig::cluster(directory, port));
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
