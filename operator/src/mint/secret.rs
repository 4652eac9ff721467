//! The Secret of a RelayKey: whose it is, what it holds, and how it is made. Draws no randomness.

use std::collections::BTreeMap;

use crds::RelayKey;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};
use table::token::{self, Minted};

/// The label of every Secret that Relay made, with the value `true`.
pub const MANAGED: &str = "llmrelay.io/managed";

/// The annotation that says when the current token was made.
pub const ISSUED_AT: &str = "llmrelay.io/issued-at";

/// The annotation that holds the `spec.rotation.trigger` which the current token answers to.
pub const TRIGGER: &str = "llmrelay.io/rotation-trigger";

/// The RelayKeys that a Secret says it was made for, by UID: what its metadata says of whose it is, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeFor(Vec<String>);

impl MadeFor {
    /// As the metadata of a Secret says it. Nobody, where it lacks the label of those that Relay made.
    pub fn of(secret: &ObjectMeta) -> Self {
        if !is_managed(secret) {
            return Self::default();
        }
        Self(owners(secret).map(|owner| owner.uid.clone()).filter(|uid| !uid.is_empty()).collect())
    }

    /// Whether it was made for exactly this RelayKey, and not for another of the same name.
    pub fn is(&self, key: &RelayKey) -> bool {
        let uid = key.meta().uid.as_deref();
        uid.is_some_and(|uid| self.0.iter().any(|owner| owner == uid))
    }
}

/// Whether the Secret with this metadata was made for exactly this RelayKey, and not for another of the same name.
pub fn is_ours(secret: &ObjectMeta, key: &RelayKey) -> bool {
    MadeFor::of(secret).is(key)
}

/// Whether it was made for a RelayKey of this name that is no longer there.
pub(super) fn is_of_a_former(secret: &ObjectMeta, key: &RelayKey) -> bool {
    let name = key.name_any();
    is_managed(secret) && owners(secret).next().is_some() && owners(secret).all(|owner| owner.name == name)
}

fn is_managed(secret: &ObjectMeta) -> bool {
    secret.labels.as_ref().and_then(|labels| labels.get(MANAGED)).is_some_and(|value| value == "true")
}

fn owners(secret: &ObjectMeta) -> impl Iterator<Item = &OwnerReference> {
    let kind = RelayKey::kind(&());
    let group = format!("{}/", crds::GROUP);
    let all = secret.owner_references.iter().flatten();
    all.filter(move |owner| owner.kind == kind && owner.api_version.starts_with(&group))
}

/// The names of the entries of a RelayKey's Secret.
pub(super) struct Entries {
    pub(super) token: String,
    pub(super) previous: String,
    pub(super) previous_until: String,
}

impl Entries {
    pub(super) fn of(spec: &crds::TokenSecret) -> Self {
        let token = spec.key.clone().unwrap_or_else(|| token::SECRET_KEY.to_owned());
        Self { previous: token::previous_key(&token), previous_until: token::previous_until_key(&token), token }
    }
}

/// The text of an entry.
pub(super) fn text<'a>(secret: &'a Secret, entry: &str) -> Option<&'a str> {
    let value = secret.data.as_ref()?.get(entry)?;
    std::str::from_utf8(&value.0).ok().map(str::trim).filter(|text| !text.is_empty())
}

pub(super) fn annotation<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    secret.annotations().get(name).map(String::as_str)
}

/// A new Secret with one token.
pub(super) fn created(key: &RelayKey, spec: &crds::TokenSecret, minted: &Minted, now: Timestamp) -> Secret {
    let metadata = ObjectMeta { name: Some(spec.name.clone()), namespace: key.namespace(), ..ObjectMeta::default() };
    let secret = Secret { metadata, type_: Some("Opaque".to_owned()), ..Secret::default() };
    reissued(secret, key, spec, minted, now)
}

/// The Secret as the RelayKey's own with one token, whatever was in it.
pub(super) fn reissued(
    mut secret: Secret,
    key: &RelayKey,
    spec: &crds::TokenSecret,
    minted: &Minted,
    now: Timestamp,
) -> Secret {
    secret.data = None;
    secret.metadata.owner_references = key.controller_owner_ref(&()).map(|owner| {
        // Blocking needs a permission on finalizers, and a Secret does not need to hold its RelayKey back.
        vec![OwnerReference { block_owner_deletion: None, ..owner }]
    });
    stamped(secret, key, spec, minted, now)
}

/// The Secret with a new token, and the one that it had under the entry for those that were replaced.
pub(super) fn rotated(
    mut secret: Secret,
    key: &RelayKey,
    spec: &crds::TokenSecret,
    minted: &Minted,
    now: Timestamp,
    until: Timestamp,
) -> Secret {
    let entries = Entries::of(spec);
    let data = secret.data.get_or_insert_default();
    if let Some(old) = data.remove(&entries.token) {
        data.insert(entries.previous, old);
        data.insert(entries.previous_until, bytes(&until.to_string()));
    }
    stamped(secret, key, spec, minted, now)
}

/// The Secret without the token that was replaced.
pub(super) fn retired(mut secret: Secret, spec: &crds::TokenSecret) -> Secret {
    let entries = Entries::of(spec);
    if let Some(data) = &mut secret.data {
        data.remove(&entries.previous);
        data.remove(&entries.previous_until);
    }
    unmanaged_fields(secret)
}

fn stamped(mut secret: Secret, key: &RelayKey, spec: &crds::TokenSecret, minted: &Minted, now: Timestamp) -> Secret {
    secret.metadata.labels.get_or_insert_default().insert(MANAGED.to_owned(), "true".to_owned());
    let trigger = key.spec.rotation.as_ref().and_then(|rotation| rotation.trigger).unwrap_or(0);
    let annotations = [(ISSUED_AT, now.to_string()), (TRIGGER, trigger.to_string())];
    let annotations: BTreeMap<String, String> = annotations.map(|(name, value)| (name.to_owned(), value)).into();
    secret.metadata.annotations.get_or_insert_default().extend(annotations);
    secret.data.get_or_insert_default().insert(Entries::of(spec).token, bytes(minted.token.expose()));
    unmanaged_fields(secret)
}

/// Whoever wrote which field is the API server's to say.
fn unmanaged_fields(mut secret: Secret) -> Secret {
    secret.metadata.managed_fields = None;
    secret
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
