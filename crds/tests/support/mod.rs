//! Manifests for tests: the least that each kind takes, and changes to it.

use crds::Kind;
use serde_json::{Value, json};

/// YAML as a value.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The least that a kind takes.
pub(crate) fn least(kind: Kind) -> Value {
    let spec = match kind {
        Kind::Host => "protocol: OpenAI\nbaseURL: https://api.example.com/v1",
        Kind::Model => "hosts: [{name: a, hostRef: {name: example}}]",
        Kind::HostKey => "hostRef: {name: example}\nsource: {secretKeyRef: {name: example, key: token}}",
        Kind::RelayKey => "policyRefs: [{name: all}]\nsecret: {name: app-token}",
        Kind::Policy => "models: {allow: ['*']}",
        Kind::DataPlane => "{}",
    };
    json!({
        "apiVersion": "llmrelay.io/v1alpha1",
        "kind": kind.as_str(),
        "metadata": {"name": "example", "namespace": "team-a"},
        "spec": yaml(spec),
    })
}

/// The least that a kind takes, with its spec changed by a merge patch in YAML.
pub(crate) fn with(kind: Kind, patch: &str) -> Value {
    let mut object = least(kind);
    merge(&mut object["spec"], yaml(patch));
    object
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    target.shift_remove(&name);
                } else if target.get(&name).is_some_and(Value::is_object) && value.is_object() {
                    merge(&mut target[&name], value);
                } else {
                    target.insert(name, value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}
