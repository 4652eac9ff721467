//! What a check may do at the least, as roles for the service account that it runs as. No Secret is among it.

use crds::{GROUP, Kind, rights};
use serde_json::{Value, json};

/// The name of the roles, and of the service account unless another is named.
pub(super) const NAME: &str = "relay-check";

/// What is needed in the whole cluster.
fn cluster() -> Value {
    let definitions = Kind::ALL.map(|kind| format!("{}.{GROUP}", kind.plural()));
    json!([
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "resourceNames": definitions,
         "verbs": ["get"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": [GROUP], "resources": Kind::ALL.map(Kind::plural), "verbs": ["list"]},
    ])
}

/// What is needed in the namespace of the installation.
fn own() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [rights::BUNDLE], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [rights::LEASE], "verbs": ["get"]},
    ])
}

/// The rules by where they are needed, for those who make roles of their own from them, as the chart does.
pub(super) fn rules() -> Value {
    json!({"cluster": cluster(), "own": own()})
}

/// The roles and their bindings to a service account, ready to apply.
pub(super) fn manifests(namespace: &str, account: &str) -> String {
    // Installations share a cluster.
    let of_cluster = format!("{NAME}-{namespace}");
    let all = [
        role("ClusterRole", &of_cluster, None, &cluster()),
        binding("ClusterRole", &of_cluster, None, namespace, account),
        role("Role", NAME, Some(namespace), &own()),
        binding("Role", NAME, Some(namespace), namespace, account),
    ];
    all.iter().map(|manifest| format!("---\n{}", crds::to_yaml(manifest))).collect()
}

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &Value) -> Value {
    let metadata = metadata(name, namespace);
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(kind: &str, name: &str, within: Option<&str>, namespace: &str, account: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata(name, within),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata =
        json!({"name": name, "labels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "relay"}});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_gives_its_test_these_rights() {
        let of_chart: Value = serde_json::from_str(include_str!("../../../charts/relay/files/check.json")).unwrap();
        assert_eq!(
            of_chart,
            rules(),
            "`relay check --cluster --rbac -o json >charts/relay/files/check.json` writes them"
        );
    }

    #[test]
    fn no_secret_can_be_read_and_nothing_changed() {
        for rules in rules().as_object().unwrap().values() {
            for rule in rules.as_array().unwrap() {
                let resources: Vec<&str> =
                    rule["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert!(!resources.iter().any(|name| name.starts_with("secrets") || name.contains('/')), "{rule}");
                let verbs: Vec<&str> = rule["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let asks = resources == ["subjectaccessreviews"];
                assert!(asks || verbs.iter().all(|verb| ["get", "list"].contains(verb)), "{rule}");
            }
        }
    }
}
