//! The TLS configuration of a host: roots, versions, certificate, protocols. The cryptography is always named, never
//! the process's default.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use table::{ClientCertificate, HttpVersion, Tls, TlsVerification, TlsVersion};
use tracing::warn;

static TLS_1_3: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Builds the configuration. Errs, in words for the owner of the Host, when a certificate or key cannot be read.
pub(super) fn config(
    tls: &Tls,
    version: HttpVersion,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = match tls.min_version {
        TlsVersion::V1_2 => TLS_1_2,
        TlsVersion::V1_3 => TLS_1_3,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &tls.verification {
        TlsVerification::System => builder.with_root_certificates(system_roots()),
        TlsVerification::Custom(pem) => builder.with_root_certificates(custom_roots(pem)?),
        TlsVerification::None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))),
    };
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let (chain, key) = identity(certificate)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the client certificate does not fit its key: {error}"))?
        }
    };
    config.alpn_protocols = match version {
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::H1 => vec![b"http/1.1".to_vec()],
        HttpVersion::H2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// The roots of the system, or the built-in ones where the system has none. Read once.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            warn!(errors = found.errors.len(), "the system has no root certificates; using the built-in ones");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// The roots of a bundle. Errs, in words for its owner, when it holds no usable certificate.
pub(crate) fn custom_roots(pem: &str) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("the CA bundle is not valid PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the CA bundle holds an unusable certificate: {error}"))?;
    }
    if roots.is_empty() { Err("the CA bundle holds no certificate".to_owned()) } else { Ok(Arc::new(roots)) }
}

fn identity(certificate: &ClientCertificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the client certificate is not valid PEM: {error}"))?;
    // What the parser says of a private key could quote it.
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose().as_bytes())
        .map_err(|_| "the key of the client certificate is not valid PEM".to_owned())?;
    Ok((chain, key))
}

/// Takes every certificate, but still checks that the host holds the key of the one it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
