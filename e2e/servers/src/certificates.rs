//! A certificate authority for one test, and the server certificates that it signs.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key pair is generated");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        // The default name is the same for all, and who is signed by their own name counts as self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The authority's own certificate: what a client has to trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes `ca.pem`, `server.pem` and `server.key` for a server on this machine.
    pub(crate) fn write(&self, directory: &Path) {
        let key = KeyPair::generate().expect("a key pair is generated");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("the names are valid");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let files =
            [("ca.pem", self.pem.clone()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())];
        for (name, text) in files {
            fs::write(directory.join(name), text).expect("the server's directory is writable");
        }
    }
}
