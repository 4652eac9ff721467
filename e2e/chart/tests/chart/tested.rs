//! What `helm test` makes, and what it may do.

use std::fs;

use chart::{Combination, Helm, charts, name, objects};
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
fn every_hook_is_a_pod_for_helm_asks_each_for_its_log() {
    for hook in Combination::all().iter().flat_map(|combination| hooks(&combination.name)) {
        assert_eq!((&hook["kind"], &hook["metadata"]["annotations"]["helm.sh/hook"]), (&json!("Pod"), &json!("test")));
    }
}

#[test]
fn sidecars_are_looked_at_where_the_release_watches() {
    let places = |more: &[&str]| -> Vec<String> {
        let home = tempdir().expect("a folder is made");
        let only = ["--show-only", "templates/tests/check.yaml"];
        let rendered = Combination::named("sidecars").rendered(&Helm::alone(home.path()), &[&only, more].concat());
        let roles = objects(&rendered).into_iter().filter(|object| object["kind"] == "Role");
        roles.filter_map(|role| role["metadata"]["namespace"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(places(&[]), ["routing", "team-a"]);
    assert_eq!(places(&["--set", "sidecars.enabled=false"]), ["routing"]);
    assert_eq!(places(&["--set", "watchNamespaces={*}"]), ["routing"], "the cluster's role has it");
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
    let account = format!("--as=system:serviceaccount:{namespace}:relay-test");
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
