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
        {"apiGroups": ["admissionregistration.k8s.io"],
         "resources": ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]},
    ])
}

/// What is needed in each other namespace whose pods may have a sidecar.
fn sidecars() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [rights::BUNDLE], "verbs": ["get"]},
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
    json!({"cluster": cluster(), "own": own(), "sidecars": sidecars()})
}

/// The roles and their bindings to a service account, ready to apply. `watched` are the namespaces whose sidecars are looked
/// at, and `*` all.
pub(super) fn manifests(namespace: &str, account: &str, watched: &[String]) -> String {
    // Installations share a cluster.
    let of_cluster = format!("{NAME}-{namespace}");
    let mut everywhere = cluster();
    let all_are_watched = watched.iter().any(|name| name == "*");
    if let (Some(rules), Value::Array(more), true) = (everywhere.as_array_mut(), sidecars(), all_are_watched) {
        rules.extend(more);
    }
    let mut all = vec![
        role("ClusterRole", &of_cluster, None, &everywhere),
        binding("ClusterRole", &of_cluster, None, namespace, account),
        role("Role", NAME, Some(namespace), &own()),
        binding("Role", NAME, Some(namespace), namespace, account),
    ];
    for other in watched.iter().filter(|name| *name != namespace && !all_are_watched) {
        all.push(role("Role", NAME, Some(other), &sidecars()));
        all.push(binding("Role", NAME, Some(other), namespace, account));
    }
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
    fn sidecars_are_looked_at_where_they_are_asked_to_be_and_nowhere_else() {
        let places = |watched: &[&str]| {
            let watched: Vec<String> = watched.iter().map(|name| (*name).to_owned()).collect();
            let all: Vec<Value> = serde_saphyr::from_multiple(&manifests("own", NAME, &watched)).unwrap();
            let roles = all.iter().filter(|one| one["kind"] == "Role" || one["kind"] == "ClusterRole");
            let of = |role: &Value| (role["metadata"]["namespace"].clone(), role["rules"].as_array().unwrap().len());
            roles.map(of).collect::<Vec<_>>()
        };
        assert_eq!(places(&[]), [(Value::Null, 5), (json!("own"), 5)]);
        assert_eq!(places(&["own", "team-a"]), [(Value::Null, 5), (json!("own"), 5), (json!("team-a"), 2)]);
        assert_eq!(places(&["*"]), [(Value::Null, 7), (json!("own"), 5)]);
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
