//! What `helm test` makes: pods, and what they may do for as long as they run.

use std::fs;

use chart::{Combination, Helm, charts, name};
use plane::Plane;
use serde_json::{Value, json};
use tempfile::tempdir;

/// The hooks of a combination, in the order in which helm makes them.
fn hooks(combination: &str) -> Vec<Value> {
    let home = tempdir().expect("a folder is made");
    let objects = Combination::named(combination).objects(&Helm::alone(home.path()));
    let annotation = |object: &Value, name: &str| object["metadata"]["annotations"][name].as_str().map(str::to_owned);
    let mut hooks: Vec<Value> =
        objects.into_iter().filter(|object| annotation(object, "helm.sh/hook").is_some()).collect();
    hooks.sort_by_key(|hook| {
        let weight = annotation(hook, "helm.sh/hook-weight");
        weight.map_or(0, |weight| weight.parse::<i64>().expect("a weight is a number"))
    });
    hooks
}

#[test]
fn a_test_checks_the_installation_and_asks_where_there_is_a_key() {
    let pods = |combination| -> Vec<String> {
        hooks(combination).iter().filter(|object| object["kind"] == "Pod").map(name).collect()
    };
    assert_eq!(pods("default"), ["Pod/relay-test-check"]);
    assert_eq!(pods("demo"), ["Pod/relay-test-check", "Pod/relay-test"], "the check says why nobody answers");
    assert_eq!(hooks("minimal"), Vec::<Value>::new(), "it can be switched off");
}

#[test]
fn rights_are_there_before_the_pod_and_go_when_the_test_is_over() {
    let rights: Vec<Value> = hooks("default").into_iter().filter(|object| object["kind"] != "Pod").collect();
    let kinds: Vec<&str> = rights.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
    for object in &rights {
        let wanted = json!({
            "helm.sh/hook": "test", "helm.sh/hook-weight": "-1",
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        });
        assert_eq!(object["metadata"]["annotations"], wanted, "{}", name(object));
    }
}

#[test]
fn the_account_of_the_check_may_do_what_the_check_needs_and_read_no_secret() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let home = tempdir().expect("a folder is made");
    let namespace = plane.namespace();
    let chart = charts().join("relay").display().to_string();
    let rendered = Helm::alone(home.path()).run(&[
        "template",
        "relay",
        &chart,
        "--namespace",
        &namespace,
        "--show-only",
        "templates/tests/check.yaml",
    ]);
    plane.apply(&rendered);
    let account = format!("--as=system:serviceaccount:{namespace}:relay-test-check");
    let may = |verb: &str, resource: &str, place: &[&str]| {
        let asked = [&["auth", "can-i", verb, resource, &account], place].concat();
        plane.try_kubectl(plane.kubeconfig(), &asked, "").is_ok()
    };
    let needed = fs::read_to_string(charts().join("relay/files/check.json")).expect("the chart has the rules");
    let needed: Value = serde_json::from_str(&needed).expect("they are JSON");
    let own = ["--namespace", &namespace];
    for (rules, place) in [("cluster", &["--all-namespaces"][..]), ("own", &own)] {
        for rule in needed[rules].as_array().expect("there are rules") {
            for (verb, resource) in asked(rule) {
                assert!(may(&verb, &resource, place), "{verb} {resource} {place:?}");
            }
        }
    }
    for verb in ["get", "list"] {
        assert!(!may(verb, "secrets", &own), "Secrets are not looked at");
    }
    assert!(!may("list", "pods", &["--namespace", "default"]), "pods of others are not looked at");
}

/// Each verb of a rule with what it is for, as kubectl names it.
fn asked(rule: &Value) -> Vec<(String, String)> {
    let words = |field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.map(|word| word.as_str().expect("rules are of words").to_owned()).collect()
    };
    let group = rule["apiGroups"][0].as_str().filter(|group| !group.is_empty());
    let mut all = Vec::new();
    for resource in words("resources") {
        let resource = group.map_or_else(|| resource.clone(), |group| format!("{resource}.{group}"));
        let named: Vec<String> = words("resourceNames").iter().map(|name| format!("{resource}/{name}")).collect();
        for what in if named.is_empty() { vec![resource] } else { named } {
            all.extend(words("verbs").into_iter().map(|verb| (verb, what.clone())));
        }
    }
    all
}
