//! One replica of the operator.

use std::{net::SocketAddr, path::Path};

use crate::daemon::{Daemon, Ports, Settings};

/// A replica of the operator, as the service account `relay-operator` of its namespace.
#[derive(Debug)]
pub struct Operator {
    /// Its pod's name.
    pub name: String,
    /// Where data planes connect, whenever it runs.
    pub push: SocketAddr,
    /// The program.
    pub daemon: Daemon,
}

/// What all replicas of a site have in common.
pub(crate) struct Shared<'a> {
    pub(crate) program: &'a Path,
    pub(crate) directory: &'a Path,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) namespace: &'a str,
    pub(crate) watched: &'a str,
    pub(crate) peer_token: &'a Path,
}

impl Operator {
    pub(crate) async fn start(shared: &Shared<'_>, name: &str, more: &[&str]) -> Self {
        let settings = |ports: Ports| {
            let (admin, push) = (ports.admin.to_string(), ports.main.to_string());
            let fixed = ["--namespace", shared.namespace, "--watch-namespaces", shared.watched, "--pod-name", name];
            let bound = ["--admin", &admin, "--push", &push, "--push-grace-seconds", "1"];
            let arguments = fixed.iter().chain(&bound).chain(more).map(Into::into).collect();
            let of_peers = ("RELAY_PEER_TOKEN_FILE", shared.peer_token.into());
            Settings { arguments, environment: vec![("KUBECONFIG", shared.kubeconfig.into()), of_peers] }
        };
        let log = shared.directory.join(name).with_extension("log");
        let (daemon, ports) = Daemon::start(shared.program, log, settings).await;
        Self { name: name.to_owned(), push: ports.main, daemon }
    }

    /// Whether it holds the Lease, by its own word.
    pub async fn is_leading(&self) -> bool {
        self.daemon.metric("relay_operator_leading", &[]).await > 0.0
    }
}
