//! What is kept of watched objects, and how an object is read: leniently, so that one which cannot be read costs only
//! itself and never the watch.

use crds::{DataPlane, Host, HostKey, Kind, Model, Policy, RelayKey};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::{DynamicObject, PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::debounce::Urgency;

/// Where kubectl keeps what was applied last. Nobody here reads it, and it doubles an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind of object that is watched and kept.
pub(crate) trait Kept: Sized + Send + Sync + 'static {
    /// What the watch brings.
    type Raw;
    /// Which of Relay's kinds it is; absent: one of Kubernetes' own.
    const KIND: Option<Kind>;

    /// The metadata of what the watch brought.
    fn metadata(raw: &Self::Raw) -> &ObjectMeta;
    /// Reads it; errs in words for the person who wrote it.
    fn read(raw: Self::Raw) -> Result<Self, String>;
    /// Whether it means the same as an earlier version of itself; whatever nobody compiles or reports on is left out.
    fn means(&self, earlier: &Self) -> bool;
    /// How soon the change from an earlier version has to be in effect.
    fn urgency(&self, earlier: &Self) -> Urgency;
    /// How soon its end has to be in effect.
    const END: Urgency;
}

macro_rules! kept {
    ($kind:ident, $end:expr, |$now:ident, $before:ident| $urgency:expr) => {
        impl Kept for $kind {
            type Raw = DynamicObject;
            const KIND: Option<Kind> = Some(Kind::$kind);
            const END: Urgency = $end;

            fn metadata(raw: &DynamicObject) -> &ObjectMeta {
                &raw.metadata
            }

            fn read(mut raw: DynamicObject) -> Result<Self, String> {
                slim(&mut raw.metadata);
                // What cannot be read of a status is written anew, and is no fault of who wrote the spec.
                let status = serde_json::from_value(raw.data["status"].take()).unwrap_or_default();
                let spec = spec(Kind::$kind, &mut raw)?;
                Ok(Self { metadata: raw.metadata, spec, status })
            }

            fn means(&self, earlier: &Self) -> bool {
                same_meta(&self.metadata, &earlier.metadata) && self.spec == earlier.spec
            }

            fn urgency(&self, earlier: &Self) -> Urgency {
                let ($now, $before) = (&self.spec, &earlier.spec);
                if $urgency { Urgency::Urgent } else { Urgency::Usual }
            }
        }
    };
}

kept!(Host, Urgency::Usual, |now, before| now.suspend == Some(true) && before.suspend != Some(true));
kept!(Model, Urgency::Usual, |now, before| now.suspend == Some(true) && before.suspend != Some(true));
kept!(HostKey, Urgency::Urgent, |now, before| now.suspend == Some(true) && before.suspend != Some(true));
kept!(RelayKey, Urgency::Urgent, |now, before| {
    let is_off = |spec: &crds::RelayKeySpec| spec.revoked == Some(true) || spec.suspend == Some(true);
    is_off(now) && !is_off(before) || now.revoked == Some(true) && before.revoked != Some(true)
});
kept!(Policy, Urgency::Urgent, |_now, _before| false);
kept!(DataPlane, Urgency::Usual, |_now, _before| false);

impl Kept for PartialObjectMeta<Namespace> {
    type Raw = Self;
    const KIND: Option<Kind> = None;
    const END: Urgency = Urgency::Usual;

    fn metadata(raw: &Self) -> &ObjectMeta {
        &raw.metadata
    }

    fn read(mut raw: Self) -> Result<Self, String> {
        slim(&mut raw.metadata);
        raw.metadata.annotations = None;
        Ok(raw)
    }

    fn means(&self, earlier: &Self) -> bool {
        self.metadata.labels == earlier.metadata.labels
    }

    fn urgency(&self, _: &Self) -> Urgency {
        Urgency::Usual
    }
}

/// Takes what nobody here reads out of an object's metadata.
fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// The spec of an object; errs in words without any value of it that could be a credential.
fn spec<T: DeserializeOwned>(kind: Kind, raw: &mut DynamicObject) -> Result<T, String> {
    let spec = raw.data["spec"].take();
    serde_json::from_value(spec.clone()).map_err(|_| {
        raw.data["spec"] = spec;
        reason(kind, raw)
    })
}

/// What the schema says is wrong with an object that an older schema let in.
fn reason(kind: Kind, raw: &DynamicObject) -> String {
    let metadata = serde_json::json!({"name": raw.metadata.name, "namespace": raw.metadata.namespace});
    let mut object =
        serde_json::json!({"apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION), "kind": kind.as_str()});
    object["metadata"] = metadata;
    if raw.data["spec"] != Value::Null {
        object["spec"] = raw.data["spec"].clone();
    }
    let violations = crds::validate_schema(kind, &object);
    if violations.is_empty() {
        return format!("spec: cannot be read as a {kind} of this version: apply the manifest again");
    }
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether what is read of metadata is the same: the version and the managed fields change with every status.
fn same_meta(one: &ObjectMeta, two: &ObjectMeta) -> bool {
    one.uid == two.uid
        && one.generation == two.generation
        && one.labels == two.labels
        && one.annotations == two.annotations
        && one.owner_references == two.owner_references
}

/// A number for what an object is: the same for the same object on every replica, whoever wrote its status since.
pub(crate) fn fingerprint(metadata: &ObjectMeta) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for text in [&metadata.namespace, &metadata.name, &metadata.uid] {
        field(text.as_deref().unwrap_or_default());
    }
    for (name, value) in metadata.labels.iter().flatten() {
        field(name);
        field(value);
    }
    match metadata.generation {
        Some(generation) => field(&generation.to_string()),
        None => field(metadata.resource_version.as_deref().unwrap_or_default()),
    }
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn key(spec: Value, status: Value) -> Result<RelayKey, String> {
        RelayKey::read(object(json!({
            "apiVersion": "llmrelay.io/v1alpha1",
            "kind": "RelayKey",
            "metadata": {
                "name": "k", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "9",
                "annotations": {LAST_APPLIED: "{}", "other": "kept"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply"}],
            },
            "spec": spec,
            "status": status,
        })))
    }

    const HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn an_object_is_read_without_what_nobody_reads() {
        let read =
            key(json!({"policyRefs": [{"name": "p"}], "tokenHash": HASH}), json!({"effectiveModels": 3})).unwrap();
        assert_eq!(read.spec.policy_refs[0].name, "p");
        assert_eq!(read.metadata.generation, Some(3));
        assert_eq!(read.metadata.managed_fields, None);
        let annotations = read.metadata.annotations.unwrap();
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("other".to_owned(), "kept".to_owned())]);
        assert_eq!(read.status.unwrap().effective_models, Some(3));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_no_fault_of_the_object() {
        let read = key(json!({"policyRefs": [{"name": "p"}], "tokenHash": HASH}), json!({"effectiveModels": "many"}));
        assert_eq!(read.unwrap().status, None);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_explained_by_field_and_without_values() {
        let reason = key(json!({"policyRefs": "sk-canary", "tokenHash": HASH, "revoked": 1}), Value::Null).unwrap_err();
        assert!(reason.contains("spec.policyRefs") && reason.contains("spec.revoked"), "{reason}");
        assert!(!reason.contains("canary"), "{reason}");
        let reason = key(Value::Null, Value::Null).unwrap_err();
        assert!(reason.contains("spec"), "{reason}");
    }

    #[test]
    fn what_a_status_writer_changes_means_nothing() {
        let spec = || json!({"policyRefs": [{"name": "p"}], "tokenHash": HASH});
        let before = key(spec(), Value::Null).unwrap();
        let mut after = key(spec(), json!({"effectiveModels": 3})).unwrap();
        after.metadata.resource_version = Some("10".to_owned());
        assert!(after.means(&before));
        assert_eq!(fingerprint(&after.metadata), fingerprint(&before.metadata));
        after.metadata.generation = Some(4);
        assert!(!after.means(&before));
        assert_ne!(fingerprint(&after.metadata), fingerprint(&before.metadata));
    }

    #[test]
    fn taking_a_key_away_is_urgent_and_giving_it_back_is_not() {
        let with = |more: Value| {
            let mut spec = json!({"policyRefs": [{"name": "p"}], "tokenHash": HASH});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key(spec, Value::Null).unwrap()
        };
        let (plain, revoked) = (with(json!({})), with(json!({"revoked": true})));
        let suspended = with(json!({"suspend": true}));
        assert_eq!(revoked.urgency(&plain), Urgency::Urgent);
        assert_eq!(suspended.urgency(&plain), Urgency::Urgent);
        assert_eq!(revoked.urgency(&suspended), Urgency::Urgent);
        assert_eq!(plain.urgency(&suspended), Urgency::Usual);
        assert_eq!(plain.urgency(&plain), Urgency::Usual);
    }
}
