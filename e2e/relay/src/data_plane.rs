//! One data plane.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::Value;

use crate::{
    client::{Answer, Ask},
    daemon::{Daemon, Ports, Settings},
};

/// A pod: an object without containers, and the files that a kubelet would mount into them.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// The file with its token for the operator, kept fresh.
    pub token: PathBuf,
    /// The file with the authorities that vouch for operators, kept fresh.
    pub bundle: PathBuf,
    /// The file with the key that copies of the last good table are sealed with; none: no copies are kept.
    pub seal_key: Option<PathBuf>,
    /// A folder that lives as long as the pod does: what is in it outlives the program.
    pub folder: PathBuf,
}

/// A data plane: the program, in its pod.
#[derive(Debug)]
pub struct DataPlane {
    /// Who it is.
    pub pod: Pod,
    /// Where applications reach it, whenever it runs.
    pub address: SocketAddr,
    /// The program.
    pub daemon: Daemon,
}

impl DataPlane {
    /// Starts the program in a pod; `operator` is where operators are reached, `name` what their certificates say.
    pub(crate) async fn start(program: &std::path::Path, pod: Pod, at: SocketAddr, name: &str, more: &[&str]) -> Self {
        let settings = |ports: Ports| {
            let (listen, admin, operator) = (ports.main.to_string(), ports.admin.to_string(), at.to_string());
            let bound = ["--listen", &listen, "--admin", &admin, "--deregister-delay", "0s"];
            let place = ["--operator", &operator, "--operator-name", name];
            let identity = ["--pod-name", &pod.name, "--pod-uid", &pod.uid, "--pod-namespace", &pod.namespace];
            let arguments = bound.iter().chain(&place).chain(&identity).chain(more).map(Into::into).collect();
            let mut environment = vec![
                ("RELAY_OPERATOR_CA", pod.bundle.clone().into()),
                ("RELAY_OPERATOR_TOKEN_FILE", pod.token.clone().into()),
            ];
            if let Some(key) = &pod.seal_key {
                environment.push(("RELAY_KEPT_KEY", key.into()));
                environment.push(("RELAY_KEPT_DIR", pod.folder.join("kept").into()));
            }
            Settings { arguments, environment }
        };
        let log = pod.folder.with_extension("log");
        let (daemon, ports) = Daemon::start(program, log, settings).await;
        Self { pod, address: ports.main, daemon }
    }

    /// Sends a request of an application, and gives its answer.
    #[track_caller]
    pub fn ask(&self, ask: &Ask) -> impl Future<Output = Answer> {
        let (sending, name) = (ask.send(self.address), self.pod.name.clone());
        async move { sending.await.unwrap_or_else(|error| panic!("data plane `{name}`: {error}")) }
    }

    /// How its feed stands, as `/debug/feed` tells it.
    pub async fn feed(&self) -> Value {
        self.daemon.admin("/debug/feed").await.expect("the admin port answers").json()
    }

    /// The table that it routes by, as `/debug/table` tells it.
    pub async fn table(&self) -> Value {
        self.daemon.admin("/debug/table").await.expect("the admin port answers").json()
    }
}
