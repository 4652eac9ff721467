//! Which Secrets and ConfigMaps an object names. Only these are ever read.

use crds::{CaKind, Host, HostKey, RelayKey};
use kube::ResourceExt;
use table::ObjectRef;

/// One of Kubernetes' own objects that one of ours names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    /// A Secret.
    Secret(ObjectRef),
    /// A Secret that Relay makes, and that has its label.
    Minted(ObjectRef),
    /// A ConfigMap.
    ConfigMap(ObjectRef),
}

/// An object that may name others.
pub(crate) trait Names {
    /// What it names, in its own namespace.
    fn names(&self) -> Vec<Named>;

    /// Whether it may be in effect only once all of that was read.
    fn waits(&self) -> bool {
        true
    }
}

impl Names for Host {
    fn names(&self) -> Vec<Named> {
        let Some(tls) = &self.spec.tls else { return Vec::new() };
        let at = |name: &str| ObjectRef::new(self.namespace().unwrap_or_default(), name);
        let authority = tls.ca_ref.iter().map(|reference| match reference.kind {
            CaKind::Secret => Named::Secret(at(&reference.name)),
            CaKind::ConfigMap => Named::ConfigMap(at(&reference.name)),
        });
        let certificate = tls.client_certificate_ref.iter().map(|reference| Named::Secret(at(&reference.name)));
        authority.chain(certificate).collect()
    }
}

impl Names for HostKey {
    fn names(&self) -> Vec<Named> {
        let reference = self.spec.source.secret_key_ref.iter();
        let at = |name: &str| ObjectRef::new(self.namespace().unwrap_or_default(), name);
        reference.map(|reference| Named::Secret(at(&reference.name))).collect()
    }
}

impl Names for RelayKey {
    fn names(&self) -> Vec<Named> {
        let minted = self.spec.secret.iter().map(|secret| &secret.name);
        let brought = self.spec.token_secret_ref.iter().map(|reference| &reference.name);
        let at = |name: &String| ObjectRef::new(self.namespace().unwrap_or_default(), name);
        minted.map(at).map(Named::Minted).chain(brought.map(at).map(Named::Secret)).collect()
    }

    /// A key that is taken away is taken away now.
    fn waits(&self) -> bool {
        self.spec.revoked != Some(true) && self.spec.suspend != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn read<T: DeserializeOwned>(kind: &str, spec: Value) -> T {
        let metadata = json!({"name": "x", "namespace": "n"});
        let object = json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn secret(name: &str) -> Named {
        Named::Secret(ObjectRef::new("n", name))
    }

    #[test]
    fn a_host_names_its_authority_and_its_certificate() {
        let tls = |kind: &str| {
            json!({"protocol": "OpenAI", "baseURL": "https://h.example", "tls": {
                "caRef": {"kind": kind, "name": "ca", "key": "ca.crt"}, "clientCertificateRef": {"name": "cert"},
            }})
        };
        let config_map = Named::ConfigMap(ObjectRef::new("n", "ca"));
        assert_eq!(read::<Host>("Host", tls("ConfigMap")).names(), [config_map, secret("cert")]);
        assert_eq!(read::<Host>("Host", tls("Secret")).names(), [secret("ca"), secret("cert")]);
    }

    #[test]
    fn keys_name_the_secrets_they_are_in() {
        let source = |source: Value| read::<HostKey>("HostKey", json!({"hostRef": {"name": "h"}, "source": source}));
        assert_eq!(source(json!({"secretKeyRef": {"name": "s", "key": "k"}})).names(), [secret("s")]);
        assert_eq!(source(json!({"env": {"name": "RELAY_KEY_X"}})).names(), []);
        let token = |more: Value| {
            let mut spec = json!({"policyRefs": [{"name": "p"}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read::<RelayKey>("RelayKey", spec)
        };
        let minted = Named::Minted(ObjectRef::new("n", "minted"));
        assert_eq!(token(json!({"secret": {"name": "minted"}})).names(), [minted]);
        assert_eq!(token(json!({"tokenSecretRef": {"name": "mine", "key": "k"}})).names(), [secret("mine")]);
        assert_eq!(token(json!({"tokenHash": "sha256:0"})).names(), []);
        assert!(token(json!({"secret": {"name": "m"}})).waits());
        assert!(!token(json!({"secret": {"name": "m"}, "revoked": true})).waits());
    }
}
