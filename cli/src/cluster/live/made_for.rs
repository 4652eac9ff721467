//! Whether a Secret was made for a RelayKey, as the operator tells it: only then a token in it is one of that key.

use crds::{GROUP, RelayKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// The label of every Secret that Relay made, with the value `true`.
const MANAGED: &str = "llmrelay.io/managed";

/// Whether the Secret with this metadata was made for exactly this RelayKey.
pub(super) fn is_made_for(secret: &ObjectMeta, key: &RelayKey) -> bool {
    let is_managed = secret.labels.as_ref().and_then(|labels| labels.get(MANAGED)).is_some_and(|value| value == "true");
    let group = format!("{GROUP}/");
    let mut owners = secret.owner_references.iter().flatten();
    is_managed
        && owners.any(|owner| {
            owner.kind == "RelayKey"
                && owner.api_version.starts_with(&group)
                && Some(&owner.uid) == key.meta().uid.as_ref()
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_made_for_the_key_whose_uid_it_bears_alone() {
        let key = json!({
            "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "metadata": {"name": "app", "uid": "1"},
            "spec": {"policyRefs": [{"name": "all"}], "secret": {"name": "app-token"}},
        });
        let key: RelayKey = serde_json::from_value(key).unwrap();
        let secret = |uid: &str, managed: &str| -> ObjectMeta {
            let owner = json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "name": "app", "uid": uid});
            serde_json::from_value(json!({"labels": {MANAGED: managed}, "ownerReferences": [owner]})).unwrap()
        };
        assert!(is_made_for(&secret("1", "true"), &key));
        assert!(!is_made_for(&secret("2", "true"), &key));
        assert!(!is_made_for(&secret("1", "false"), &key));
        assert!(!is_made_for(&ObjectMeta::default(), &key));
    }
}
