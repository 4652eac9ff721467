//! What the operator may do, as one table: the roles that are installed, those that are shown, and those that tests check
//! are made of it. Whatever the code does to the API server has a row here, and nothing else has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Namespaces;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In each namespace that is watched.
    Watched,
    /// In the operator's own namespace.
    Own,
    /// In each namespace whose pods may be data planes: those of the first two, and those of service accounts that are.
    Trusting,
    /// In the whole cluster.
    Cluster,
}

/// One right: these verbs on these resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Where.
    pub scope: Scope,
    /// API group; empty: the core group.
    pub group: &'static str,
    /// Plurals, and subresources as `plural/subresource`.
    pub resources: &'static [&'static str],
    /// Objects by name; empty: all.
    pub names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// Which part of the code does it.
    pub why: &'static str,
}

/// The Lease that says who writes.
pub const LEASE: &str = "relay-operator";

/// The Secret with those who sign the certificates of the push port.
pub const AUTHORITY: &str = "relay-push-authority";

/// The Secret with the key that data planes seal their copies of the last good table with.
pub const SEAL_KEY: &str = "relay-lkg-key";

/// The ConfigMap that says whom data planes trust.
pub const BUNDLE: &str = "relay-push-ca";

/// The plurals of the kinds that are compiled.
const KINDS: &[&str] = &["hosts", "models", "hostkeys", "relaykeys", "policies"];
/// The plurals of all kinds.
const ALL: &[&str] = &["hosts", "models", "hostkeys", "relaykeys", "policies", "dataplanes"];
const STATUSES: &[&str] = &["hosts/status", "models/status", "hostkeys/status", "relaykeys/status", "policies/status"];

/// The plural of the kind that describes fleets: only those in the operator's own namespace count.
const FLEETS: &[&str] = &["dataplanes"];
const FLEET_STATUSES: &[&str] = &["dataplanes/status"];

/// All that the operator does.
pub const RIGHTS: &[Right] = &[
    right(
        Scope::Watched,
        crds::GROUP,
        KINDS,
        &["get", "list", "watch"],
        "watch: what is compiled; get before a status is written onto what changed meanwhile",
    ),
    right(Scope::Watched, crds::GROUP, STATUSES, &["patch"], "status: server-side apply of conditions"),
    right(
        Scope::Own,
        crds::GROUP,
        FLEETS,
        &["get", "list", "watch"],
        "watch: fleets, of the own namespace alone because they are given credentials",
    ),
    right(Scope::Own, crds::GROUP, FLEET_STATUSES, &["patch"], "status: server-side apply of what a fleet holds"),
    right(
        Scope::Watched,
        "",
        &["secrets"],
        &["get", "list", "watch"],
        "watch: metadata of all, data of those that are named",
    ),
    right(Scope::Watched, "", &["secrets"], &["create", "update"], "mint: tokens of RelayKeys with spec.secret"),
    right(
        Scope::Watched,
        "",
        &["configmaps"],
        &["get", "list", "watch"],
        "watch: metadata of all, data of those that are named",
    ),
    right(Scope::Watched, "events.k8s.io", &["events"], &["create", "patch"], "events: what happened to an object"),
    right(
        Scope::Cluster,
        "",
        &["namespaces"],
        &["get", "list", "watch"],
        "watch: labels, for allowedNamespaces and for who opted in",
    ),
    right(Scope::Cluster, "authentication.k8s.io", &["tokenreviews"], &["create"], "push: who a data plane is"),
    right(Scope::Own, "coordination.k8s.io", &["leases"], &["create"], "lease: a name cannot be asked for at creation"),
    Right {
        names: &[LEASE],
        ..right(Scope::Own, "coordination.k8s.io", &["leases"], &["get", "update"], "lease: who writes")
    },
    right(Scope::Own, "", &["secrets"], &["create"], "push: a name cannot be asked for at creation"),
    Right {
        names: &[AUTHORITY],
        ..right(Scope::Own, "", &["secrets"], &["get", "update"], "push: who signs certificates of the push port")
    },
    Right {
        names: &[SEAL_KEY],
        ..right(Scope::Own, "", &["secrets"], &["get"], "push: whether data planes have a key to seal copies with")
    },
    right(Scope::Trusting, "", &["configmaps"], &["create"], "push: a name cannot be asked for at creation"),
    Right {
        names: &[BUNDLE],
        ..right(Scope::Trusting, "", &["configmaps"], &["get", "update"], "push: whom data planes trust")
    },
];

const fn right(
    scope: Scope,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { scope, group, resources, names: &[], verbs, why }
}

impl Right {
    fn rule(&self) -> Value {
        let mut rule = json!({"apiGroups": [self.group], "resources": self.resources, "verbs": self.verbs});
        if !self.names.is_empty() {
            rule["resourceNames"] = json!(self.names);
        }
        rule
    }
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
    // Who may edit workloads may use a policy, not loosen it, nor say where prompts go.
    let own: &[&str] = &["relaykeys"];
    [
        ("relay-viewer", vec![(ALL, READ)], &["view", "edit", "admin"][..]),
        ("relay-editor", vec![(own, WRITE)], &["edit", "admin"]),
        ("relay-admin", vec![(ALL, WRITE)], &["admin"]),
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
    RIGHTS.iter().filter(|right| scopes.contains(&right.scope)).map(Right::rule).collect()
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
    fn every_kind_has_its_rights() {
        let plurals: Vec<&str> = crds::Kind::ALL.into_iter().map(crds::Kind::plural).collect();
        assert_eq!(ALL, plurals);
        assert_eq!(KINDS, &plurals[..5], "fleets alone are not compiled");
        let statuses: Vec<String> = KINDS.iter().map(|plural| format!("{plural}/status")).collect();
        assert_eq!(STATUSES, statuses);
    }

    #[test]
    fn secrets_are_open_in_watched_namespaces_alone() {
        let watched = ["team-a"];
        assert!(!touches(&named("ClusterRole", None, &watched).unwrap(), "secrets"));
        assert!(touches(&named("Role", Some("team-a"), &watched).unwrap(), "secrets"));
        assert!(!touches(&named("Role", Some("relay-system"), &watched).unwrap(), "secrets"));
        let own = named("Role", Some("relay-system"), &watched).unwrap();
        assert_eq!(names(&own, "leases"), [json!([LEASE])]);
        assert_eq!(names(&own, "secrets"), [json!([AUTHORITY]), json!([SEAL_KEY])]);
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

    #[test]
    fn nothing_is_deleted_and_nothing_is_a_wildcard() {
        for right in RIGHTS {
            let words = right.verbs.iter().chain(right.resources).chain([&right.group]);
            assert!(words.clone().all(|word| *word != "*"), "{right:?}");
            assert!(!right.verbs.iter().any(|verb| verb.starts_with("delete")), "{right:?}");
        }
    }
}
