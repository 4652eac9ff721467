//! Reads one object as the operator does: the status is left out, and what cannot be read is explained by the schema.

use crds::{GROUP, Kind, VERSION};
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Where kubectl keeps what was applied last. Nobody here reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads it; errs in words for the person who wrote it, without any value that could be a credential.
pub(super) fn read<T: DeserializeOwned>(kind: Kind, mut object: DynamicObject) -> Result<T, String> {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let mut value =
        json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.as_str(), "metadata": object.metadata});
    let spec = object.data["spec"].take();
    if spec != Value::Null {
        value["spec"] = spec;
    }
    serde_json::from_value(value.clone()).map_err(|_| reason(kind, value))
}

fn reason(kind: Kind, mut value: Value) -> String {
    let metadata = &value["metadata"];
    value["metadata"] = json!({"name": metadata["name"], "namespace": metadata["namespace"]});
    let violations = crds::validate_schema(kind, &value);
    if violations.is_empty() {
        return format!("spec: cannot be read as a {kind} of this version: apply the manifest again");
    }
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use crds::Policy;

    use super::*;

    fn object(spec: Value) -> DynamicObject {
        let metadata = json!({"name": "p", "namespace": "n", "generation": 3, "managedFields": [{"manager": "x"}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": {"keys": "many"}})).unwrap()
    }

    #[test]
    fn an_object_is_read_without_its_status() {
        let policy: Policy = read(Kind::Policy, object(json!({"models": {"allow": ["gpt"]}}))).unwrap();
        assert_eq!((policy.metadata.generation, policy.metadata.managed_fields), (Some(3), None));
        assert_eq!(policy.status, None);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_explained_by_field() {
        let reason = read::<Policy>(Kind::Policy, object(json!({"models": 5}))).unwrap_err();
        assert!(reason.contains("spec.models"), "{reason}");
    }
}
