//! The roles of the operator, made of the table of its rights: those that are installed and those that are shown.

use std::collections::BTreeMap;

use crds::{
    Kind,
    rights::{RIGHTS, Right, Scope},
};
use serde_json::{Value, json};

use crate::config::Namespaces;

fn rule(right: &Right) -> Value {
    let mut rule = json!({"apiGroups": [right.group], "resources": right.resources, "verbs": right.verbs});
    if !right.names.is_empty() {
        rule["resourceNames"] = json!(right.names);
    }
    rule
}

/// Whom the roles are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The namespace of the operator.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The namespaces that it watches; empty: all.
    pub watched: Vec<String>,
    /// The namespaces of data planes.
    pub trusting: Vec<String>,
}

impl Subject {
    /// An operator of these namespaces, with data planes of these service accounts.
    pub fn new(namespaces: &Namespaces, service_account: String, accounts: &[(String, String)]) -> Self {
        let is_watching_all = namespaces.watched.contains("");
        let watched = namespaces.watched.iter().filter(|_| !is_watching_all).cloned().collect();
        let trusting = accounts.iter().map(|(namespace, _)| namespace.clone()).collect();
        Self { namespace: namespaces.own.clone(), service_account, watched, trusting }
    }

    /// What it needs in the whole cluster.
    fn cluster(&self) -> &[Scope] {
        if self.watched.is_empty() { &[Scope::Cluster, Scope::Watched, Scope::Trusting] } else { &[Scope::Cluster] }
    }

    /// The namespaces in which it needs something, and what.
    fn namespaces(&self) -> BTreeMap<&str, Vec<Scope>> {
        let mut all: BTreeMap<&str, Vec<Scope>> = BTreeMap::new();
        let watched = self.watched.iter().map(|name| (name, Scope::Watched));
        let own = [(&self.namespace, Scope::Own)];
        let trusting = self.watched.iter().chain(&self.trusting).chain([&self.namespace]);
        for (name, scope) in watched.chain(own).chain(trusting.map(|name| (name, Scope::Trusting))) {
            let scopes = all.entry(name).or_default();
            if !scopes.contains(&scope) && !self.cluster().contains(&scope) {
                scopes.push(scope);
            }
        }
        all.retain(|_, scopes| !scopes.is_empty());
        all
    }
}

/// The roles and bindings of the operator, ready to apply.
pub fn manifests(subject: &Subject) -> Vec<Value> {
    let cluster = role("ClusterRole", "relay-operator", None, subject.cluster());
    let mut all = vec![cluster, binding(subject, "ClusterRole", None)];
    for (name, scopes) in subject.namespaces() {
        all.push(role("Role", "relay-operator", Some(name), &scopes));
        all.push(binding(subject, "Role", Some(name)));
    }
    all.extend(for_people());
    all
}

/// Roles that add themselves to the cluster's own view, edit and admin.
fn for_people() -> Vec<Value> {
    const READ: &[&str] = &["get", "list", "watch"];
    const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
    let all = &Kind::ALL.map(Kind::plural)[..];
    // Who may edit workloads may use a policy, not loosen it, nor say where prompts go.
    let own: &[&str] = &["relaykeys"];
    [
        ("relay-viewer", vec![(all, READ)], &["view", "edit", "admin"][..]),
        ("relay-editor", vec![(own, WRITE)], &["edit", "admin"]),
        ("relay-admin", vec![(all, WRITE)], &["admin"]),
    ]
    .into_iter()
    .map(|(name, rights, into)| {
        let rules: Vec<Value> = rights
            .iter()
            .map(|(resources, verbs)| json!({"apiGroups": [crds::GROUP], "resources": resources, "verbs": verbs}))
            .collect();
        let mut labels = labels();
        for role in into {
            labels[format!("rbac.authorization.k8s.io/aggregate-to-{role}")] = json!("true");
        }
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        })
    })
    .collect()
}

/// The rules by where they are needed, for those who make roles of their own from them, as the chart does.
pub fn rules_by_scope() -> Value {
    json!({
        "watched": rules(&[Scope::Watched]), "own": rules(&[Scope::Own]), "trusting": rules(&[Scope::Trusting]),
        "cluster": rules(&[Scope::Cluster]), "people": for_people(),
    })
}

fn rules(scopes: &[Scope]) -> Vec<Value> {
    RIGHTS.iter().filter(|right| scopes.contains(&right.scope)).map(rule).collect()
}

fn role(kind: &str, name: &str, namespace: Option<&str>, scopes: &[Scope]) -> Value {
    let rules = rules(scopes);
    let metadata = metadata(name, namespace);
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(subject: &Subject, kind: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
        "metadata": metadata("relay-operator", namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "relay-operator"},
        "subjects": [{"kind": "ServiceAccount", "name": subject.service_account, "namespace": subject.namespace}],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name, "labels": labels()});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "relay-operator", "app.kubernetes.io/part-of": "relay"})
}

/// The manifests as YAML documents: `kubectl apply -f -` takes them as they are.
pub fn yaml(subject: &Subject) -> String {
    manifests(subject).iter().map(|manifest| format!("---\n{}", crds::to_yaml(manifest))).collect()
}

#[cfg(test)]
mod tests {
    use crds::rights::{AUTHORITY, BUNDLE, LEASE, SEAL_KEY, SERVING};

    use super::*;

    fn subject(watched: &[&str]) -> Subject {
        Subject {
            namespace: "relay-system".to_owned(),
            service_account: "relay-operator".to_owned(),
            watched: watched.iter().map(|name| (*name).to_owned()).collect(),
            trusting: vec!["relay-system".to_owned(), "edge".to_owned()],
        }
    }

    fn named(kind: &str, namespace: Option<&str>, watched: &[&str]) -> Option<Value> {
        manifests(&subject(watched)).into_iter().find(|object| {
            object["kind"] == kind
                && object["metadata"]["name"] == "relay-operator"
                && object["metadata"].get("namespace").and_then(Value::as_str) == namespace
        })
    }

    /// Whether a role lets anything be read or changed of a resource, other than by a name that it says.
    fn touches(role: &Value, resource: &str) -> bool {
        let touches = |rule: &&Value| rule["resources"].as_array().unwrap().contains(&json!(resource));
        let is_open = |rule: &Value| rule.get("resourceNames").is_none() && rule["verbs"] != json!(["create"]);
        role["rules"].as_array().unwrap().iter().filter(touches).any(is_open)
    }

    fn names(role: &Value, resource: &str) -> Vec<Value> {
        let rules = role["rules"].as_array().unwrap().iter();
        let rules = rules.filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)));
        rules.filter_map(|rule| rule.get("resourceNames").cloned()).collect()
    }

    #[test]
    fn secrets_are_open_in_watched_namespaces_alone() {
        let watched = ["team-a"];
        assert!(!touches(&named("ClusterRole", None, &watched).unwrap(), "secrets"));
        assert!(touches(&named("Role", Some("team-a"), &watched).unwrap(), "secrets"));
        assert!(!touches(&named("Role", Some("relay-system"), &watched).unwrap(), "secrets"));
        let own = named("Role", Some("relay-system"), &watched).unwrap();
        assert_eq!(names(&own, "leases"), [json!([LEASE])]);
        assert_eq!(names(&own, "secrets"), [json!([AUTHORITY]), json!([SEAL_KEY]), json!([SERVING])]);
        assert!(touches(&named("ClusterRole", None, &[]).unwrap(), "secrets"), "all namespaces were asked for");
        assert_eq!(named("Role", Some("team-b"), &watched), None);
    }

    #[test]
    fn where_data_planes_are_whom_they_trust_may_be_written_and_nothing_else() {
        let edge = named("Role", Some("edge"), &["team-a"]).unwrap();
        assert!(!touches(&edge, "configmaps"));
        assert_eq!(names(&edge, "configmaps"), [json!([BUNDLE])]);
        let resources = edge["rules"].as_array().unwrap().iter().map(|rule| rule["resources"].clone());
        assert!(resources.clone().all(|resource| resource == json!(["configmaps"])), "{edge}");
        assert_eq!(named("Role", Some("edge"), &[]), None, "the cluster's role says it for all");
    }

    #[test]
    fn the_roles_are_for_the_namespaces_that_an_operator_of_these_settings_watches() {
        let subject = |watch: &[&str], catalog: Option<&str>| {
            let watch: Vec<String> = watch.iter().map(|name| (*name).to_owned()).collect();
            let namespaces = Namespaces::new("own".to_owned(), catalog.map(str::to_owned), &watch).unwrap();
            Subject::new(&namespaces, "relay-operator".to_owned(), &[("edge".to_owned(), "pods".to_owned())])
        };
        assert_eq!(subject(&["team-a"], None).watched, ["own", "team-a"], "the catalog is in its own namespace");
        assert_eq!(subject(&["team-a"], Some("shared")).watched, ["shared", "team-a"]);
        assert_eq!(subject(&[], Some("shared")).watched, ["own", "shared"]);
        assert_eq!(subject(&["*"], Some("shared")).watched, [] as [&str; 0]);
        assert_eq!(subject(&[], None).trusting, ["edge"]);
    }
}
