//! The credentials that travel beside the table, with a digest of their own.

use std::collections::BTreeMap;

use crate::{Digest, ObjectRef, Secret};

/// What data planes need to authenticate to upstreams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// By HostKey.
    pub host_keys: BTreeMap<ObjectRef, Credential>,
    /// By Host: the certificate that Relay shows to it.
    pub client_certificates: BTreeMap<ObjectRef, ClientCertificate>,
}

/// Where the credential of one HostKey is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The value itself.
    Value(Secret<String>),
    /// A file that the data plane reads, again whenever it changes; white space around the value is trimmed.
    File(String),
    /// An environment variable of the data plane.
    Env(String),
}

/// A TLS client certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// The private key of the leaf.
    pub key_pem: Secret<String>,
}

impl Credentials {
    /// The hash of all credentials; says whether something changed and nothing else.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for (key, credential) in &self.host_keys {
            field(&key.to_string());
            match credential {
                Credential::Value(value) => (field("value"), field(value.expose())),
                Credential::File(path) => (field("file"), field(path)),
                Credential::Env(name) => (field("env"), field(name)),
            };
        }
        for (host, certificate) in &self.client_certificates {
            field(&host.to_string());
            field(&certificate.chain_pem);
            field(certificate.key_pem.expose());
        }
        Digest::from_hash(hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(value: Credential) -> Credentials {
        Credentials { host_keys: [(ObjectRef::new("a", "k"), value)].into(), ..Credentials::default() }
    }

    #[test]
    fn the_digest_changes_with_the_value_and_with_its_source() {
        let one = holding(Credential::Value(Secret::new("x".into()))).digest();
        assert_ne!(one, holding(Credential::Value(Secret::new("y".into()))).digest());
        assert_ne!(one, holding(Credential::Env("x".into())).digest());
        assert_eq!(one, holding(Credential::Value(Secret::new("x".into()))).digest());
    }
}
