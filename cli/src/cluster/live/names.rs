//! Which Secrets and ConfigMaps objects name, and what stands in for a Secret that was not read.

use std::collections::BTreeSet;

use compiler::Resources;
use crds::{CaKind, Kind};
use table::{ObjectRef, Secret, token};

/// A key of a Secret that an object names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// The object that names it.
    pub(super) owner: (Kind, ObjectRef),
    pub(super) secret: ObjectRef,
    pub(super) key: String,
}

impl Named {
    fn new(kind: Kind, owner: &ObjectRef, secret: &str, key: &str) -> Self {
        let secret = ObjectRef::new(&owner.namespace, secret);
        Self { owner: (kind, owner.clone()), secret, key: key.to_owned() }
    }

    /// Something that is right where the Secret stands: of its own, because keys and tokens are told apart by their
    /// values.
    pub(super) fn stand_in(&self) -> Secret<Vec<u8>> {
        let text = match (self.owner.0, self.key.as_str()) {
            (Kind::Host, "tls.key") => "-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----\n".to_owned(),
            (Kind::Host, _) => "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n".to_owned(),
            _ => format!("stands-in-for-what-was-not-read-of-{}-{}", self.secret, self.key),
        };
        Secret::new(text.into_bytes())
    }
}

/// Every key of a Secret that an object names.
pub(super) fn secrets(resources: &Resources) -> BTreeSet<Named> {
    let mut all = BTreeSet::new();
    for (id, host) in &resources.hosts {
        let Some(tls) = &host.spec.tls else { continue };
        let authority = tls.ca_ref.iter().filter(|reference| reference.kind == CaKind::Secret);
        all.extend(authority.map(|reference| Named::new(Kind::Host, id, &reference.name, &reference.key)));
        let certificate = tls.client_certificate_ref.iter();
        all.extend(
            certificate.flat_map(|reference| {
                ["tls.crt", "tls.key"].map(|key| Named::new(Kind::Host, id, &reference.name, key))
            }),
        );
    }
    for (id, key) in &resources.host_keys {
        let reference = key.spec.source.secret_key_ref.iter();
        all.extend(reference.map(|reference| Named::new(Kind::HostKey, id, &reference.name, &reference.key)));
    }
    for (id, key) in &resources.relay_keys {
        let minted = key.spec.secret.iter();
        let minted = minted.map(|secret| (&secret.name, secret.key.as_deref().unwrap_or(token::SECRET_KEY)));
        let brought = key.spec.token_secret_ref.iter().map(|reference| (&reference.name, reference.key.as_str()));
        all.extend(minted.chain(brought).map(|(name, key)| Named::new(Kind::RelayKey, id, name, key)));
    }
    all
}

/// Every ConfigMap that an object names.
pub(super) fn config_maps(resources: &Resources) -> BTreeSet<ObjectRef> {
    let authorities =
        resources.hosts.iter().filter_map(|(id, host)| Some((id, host.spec.tls.as_ref()?.ca_ref.as_ref()?)));
    let maps = authorities.filter(|(_, reference)| reference.kind == CaKind::ConfigMap);
    maps.map(|(id, reference)| ObjectRef::new(&id.namespace, &reference.name)).collect()
}
