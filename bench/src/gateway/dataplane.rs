//! `relay-dataplane` as it runs in a pod: it has its table from an operator, of which there is as much here as it needs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use feed::{
    fleet::{Bound, Identity},
    publisher::{Offer, Publisher},
    server::{Server, Settings},
    tls::Certificate,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use table::Secret;
use tokio::{net::TcpListener, time::sleep};

use super::{Gateway, manifests::resources, relay::address};
use crate::{client::Connection, cores::Cores, process::Process};

const NAME: &str = "relay-operator.relay-system.svc";
const POD: &str = "pod-0";
const UID: &str = "uid-0";
const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes the table of the manifests.
pub(super) struct Operator {
    address: SocketAddr,
    folder: PathBuf,
}

impl Operator {
    /// Serves from a task of this runtime.
    pub(super) async fn start(directory: &Path, upstream: SocketAddr) -> anyhow::Result<Self> {
        let folder = directory.join("operator");
        fs::create_dir(&folder).context("making a directory for what a data plane is given")?;
        let authority = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.join("ca.pem"), params.self_signed(&authority)?.pem())?;
        fs::write(folder.join("token"), POD)?;
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &Issuer::new(params, authority))?;
        let certificate = Certificate::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes())?;
        let publisher = Publisher::new();
        let compilation = compiler::compile(&resources(upstream)?);
        publisher.offer(Offer {
            revision: 1,
            epoch: "epoch",
            vector: [("manifests", 1)].into_iter().collect(),
            urgent: false,
            table: &compilation.table,
            credentials: &compilation.credentials,
        });
        let settings = Settings { server_id: "operator-0".into(), ..Settings::default() };
        let server = Server::new(settings, async |_: Secret<String>| Ok(identity()), move |_, _| Ok(publisher.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, tls) = (listener.local_addr()?, certificate.server_config()?);
        tokio::spawn(async move { server.serve(listener, tls).await });
        Ok(Self { address, folder })
    }

    /// Starts a data plane, and says how long it took until it served its table.
    pub(super) async fn follow(&self, cores: Cores, program: &Path) -> anyhow::Result<(Gateway, Duration)> {
        let mut command = cores.gateway(program);
        let operator = self.address.to_string();
        command.args(["--operator", &operator, "--operator-name", NAME, "--pod-name", POD, "--pod-uid", UID]);
        command.args(["--pod-namespace", NAMESPACE, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--operator-ca").arg(self.folder.join("ca.pem"));
        command.arg("--operator-token-file").arg(self.folder.join("token"));
        command.env("RELAY_LOG", "error");
        let begun = Instant::now();
        let (process, line) = Process::announced(command)?;
        let (listen, admin) = (address(&line, "listening on")?, address(&line, "admin on")?);
        while !is_ready(admin).await {
            if begun.elapsed() > PATIENCE {
                bail!("relay-dataplane has no table after {PATIENCE:?}: what it said is above");
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok((Gateway { address: listen, process }, begun.elapsed()))
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(admin).await else { return false };
    connection.ask(b"GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n").await.is_ok()
}

fn identity() -> Identity {
    let pod = Some(Bound { name: POD.to_owned(), uid: UID.to_owned() });
    Identity { namespace: NAMESPACE.into(), service_account: "relay".into(), pod, expires: None }
}
