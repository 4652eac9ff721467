//! TLS 1.3 on both sides: a certificate that can be replaced while the server runs, and trust that is read anew for each
//! connection.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::RwLock;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

const HTTP2: &[u8] = b"h2";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificate that a server shows. A handle: connections that begin after [`Certificate::replace`] see the new one.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Slot>);

#[derive(Debug)]
struct Slot(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// A chain, leaf first, and the leaf's private key, both PEM. Errs when they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Slot(RwLock::new(certified(chain, key)?)))))
    }

    /// Shows another certificate from now on. Errs, and keeps the old one, when chain and key do not belong together.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> anyhow::Result<()> {
        *self.0.0.write() = certified(chain, key)?;
        Ok(())
    }

    /// For a server that speaks HTTP/2 over TLS 1.3 and shows this certificate.
    pub fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn certified(chain: &[u8], key: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().context("reading the chain")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("reading the private key")?;
    let key =
        CertifiedKey::from_der(chain, key, &provider()).context("the chain and the key do not belong together")?;
    Ok(Arc::new(key))
}

/// For a client that trusts the authorities of a PEM bundle and nobody else. Errs when the bundle holds none.
pub fn client_config(bundle: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        roots.add(certificate.context("reading the bundle of authorities")?).context("an authority of the bundle")?;
    }
    anyhow::ensure!(!roots.is_empty(), "the bundle of authorities holds no certificate");
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}
