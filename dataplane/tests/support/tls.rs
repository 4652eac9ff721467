//! An authority of one's own, the certificates that it gives, and a client that trusts it alone.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The name that every certificate here is for.
pub(crate) const NAME: &str = "relay.relay-system.svc";

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for [`NAME`].
    pub(crate) fn leaf(&self) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { chain, key: key.serialize_pem() }
    }

    /// A connection to `address` by one of `protocols`, as whoever trusts this authority alone makes it.
    pub(crate) async fn connect(&self, address: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.attempt(address, protocol).await.expect("a handshake")
    }

    /// As [`Authority::connect`]. Errs where there is no handshake.
    pub(crate) async fn attempt(&self, address: SocketAddr, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.pem)).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(address).await.expect("the port is open");
        let name = NAME.try_into().expect("a name");
        TlsConnector::from(Arc::new(client)).connect(name, tcp).await
    }
}

impl Leaf {
    /// Puts both files into a directory, as a mounted Secret of type `kubernetes.io/tls` has them: whole and at once.
    pub(crate) fn mount(&self, directory: &Path, version: u32) {
        let data = directory.join(format!("..{version}"));
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("tls.crt"), &self.chain).expect("a file");
        fs::write(data.join("tls.key"), &self.key).expect("a file");
        for name in ["tls.crt", "tls.key"] {
            let link = directory.join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(Path::new("..data").join(name), link).expect("a link");
            }
        }
        std::os::unix::fs::symlink(&data, directory.join("..new")).expect("a link");
        fs::rename(directory.join("..new"), directory.join("..data")).expect("the links are swapped");
    }

    /// The certificate itself.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        der(&self.chain)
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}
