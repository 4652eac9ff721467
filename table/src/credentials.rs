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
    /// The value, sealed with a key that the data plane holds.
    Sealed(Sealed),
}

/// A sealed credential as it was written. What it opens to is bound to its HostKey and to `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The Host that the credential is for.
    pub host: ObjectRef,
    /// The name of the key that `wrapped_key` is wrapped by.
    pub key_id: String,
    /// The credential's own key, wrapped, in base64.
    pub wrapped_key: String,
    /// The nonce of `ciphertext`, in base64.
    pub nonce: String,
    /// The encrypted credential, in base64.
    pub ciphertext: String,
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
                Credential::Value(value) => ["value", value.expose()].into_iter().for_each(&mut field),
                Credential::File(path) => ["file", path].into_iter().for_each(&mut field),
                Credential::Env(name) => ["env", name].into_iter().for_each(&mut field),
                Credential::Sealed(Sealed { host, key_id, wrapped_key, nonce, ciphertext }) => {
                    let parts = ["sealed", &host.to_string(), key_id, wrapped_key, nonce, ciphertext];
                    parts.into_iter().for_each(&mut field);
                }
            }
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

    #[test]
    fn the_digest_changes_with_every_part_of_a_sealed_value() {
        let sealed = |change: fn(&mut Sealed)| {
            let mut sealed = Sealed {
                host: ObjectRef::new("a", "h"),
                key_id: "k".into(),
                wrapped_key: "w".into(),
                nonce: "n".into(),
                ciphertext: "c".into(),
            };
            change(&mut sealed);
            holding(Credential::Sealed(sealed)).digest()
        };
        let changes: [fn(&mut Sealed); 6] = [
            |_| {},
            |sealed| sealed.host.name.push('x'),
            |sealed| sealed.key_id.push('x'),
            |sealed| sealed.wrapped_key.push('x'),
            |sealed| sealed.nonce.push('x'),
            |sealed| sealed.ciphertext.push('x'),
        ];
        let digests: std::collections::BTreeSet<_> = changes.map(|change| sealed(change).to_string()).into();
        assert_eq!(digests.len(), 6);
    }
}
