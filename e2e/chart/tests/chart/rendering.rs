//! What every combination of values becomes, whatever it is.

use std::{collections::BTreeSet, fs};

use chart::{Combination, Helm, NAMESPACE, charts, name};
use regex::Regex;
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn helm_finds_nothing_to_say_about_any_combination() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let chart = |name: &str| charts().join(name).display().to_string();
    helm.run(&["lint", "--strict", "--quiet", &chart("relay-crds")]);
    for combination in Combination::all() {
        let file = combination.file.display().to_string();
        helm.run(&["lint", "--strict", "--quiet", &chart("relay"), "--values", &file]);
    }
}

#[test]
fn the_same_values_give_the_same_bytes() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    for combination in Combination::all() {
        assert_eq!(combination.rendered(&helm, &[]), combination.rendered(&helm, &[]), "{}", combination.name);
    }
}

#[test]
fn no_object_is_a_hook_of_an_installation_nor_a_webhook_nor_stands_twice() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    for combination in Combination::all() {
        let mut seen = BTreeSet::new();
        for object in combination.objects(&helm) {
            let name = name(&object);
            let hook = object["metadata"]["annotations"]["helm.sh/hook"].as_str().unwrap_or("test");
            assert_eq!(hook, "test", "{}: {name}", combination.name);
            assert!(!name.contains("Webhook"), "{}: {name}", combination.name);
            let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
            assert!(seen.insert((name.clone(), namespace)), "{} has {name} twice", combination.name);
        }
    }
}

#[test]
fn whatever_lives_in_a_namespace_names_it() {
    const OF_THE_CLUSTER: [&str; 4] =
        ["ClusterRole", "ClusterRoleBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    for combination in Combination::all() {
        for object in combination.objects(&helm) {
            let kind = object["kind"].as_str().expect("an object has a kind");
            let of_the_cluster = OF_THE_CLUSTER.contains(&kind);
            let named = object["metadata"]["namespace"].is_string();
            assert_eq!(named, !of_the_cluster, "{}: {}", combination.name, name(&object));
            // Rights in other namespaces are all that goes there.
            if named && object["metadata"]["namespace"] != NAMESPACE {
                assert!(kind.starts_with("Role"), "{}: {}", combination.name, name(&object));
            }
        }
    }
}

#[test]
fn without_the_star_nobody_may_read_secrets_of_the_whole_cluster() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let reads = |object: &Value| {
        let rules = object["rules"].as_array().into_iter().flatten();
        rules.flat_map(|rule| rule["resources"].as_array().into_iter().flatten()).any(|of| of == "secrets")
    };
    for combination in Combination::all() {
        let everywhere = combination.name == "everywhere";
        let objects = combination.objects(&helm);
        let found = objects.iter().any(|object| object["kind"] == "ClusterRole" && reads(object));
        assert_eq!(found, everywhere, "{}", combination.name);
    }
}

#[test]
fn every_flag_that_pods_get_is_one_of_the_documented_settings() {
    let docs = charts().join("../docs");
    let read = |name: &str| fs::read_to_string(docs.join(name)).expect("the page is there");
    let documented = read("running.md") + &read("operator.md");
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let flag = Regex::new(r"^--[a-z-]+").expect("it is a pattern");
    let mut count = 0;
    for combination in Combination::all() {
        for object in combination.objects(&helm) {
            for container in containers(&object) {
                if !["operator", "dataplane"].contains(&container["name"].as_str().unwrap_or_default()) {
                    continue;
                }
                for argument in container["args"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let found = flag.find(argument).unwrap_or_else(|| panic!("{argument} is no flag")).as_str();
                    let row = format!("`{found}");
                    assert!(documented.contains(&row), "{}: {found}", combination.name);
                    count += 1;
                }
            }
        }
    }
    assert!(count > 100, "{count} flags");
}

#[test]
fn the_grace_of_a_pod_is_longer_than_its_drain() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    for (name, seconds) in [("default", 5 + 10 + 600 + 15), ("everything", 5 + 5 + 60 + 15)] {
        let objects = Combination::named(name).objects(&helm);
        let pods = objects
            .iter()
            .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "relay-dataplane");
        let pods = &pods.expect("there are data planes")["spec"]["template"]["spec"];
        assert_eq!(pods["terminationGracePeriodSeconds"], seconds, "{name}");
    }
}

/// All containers that an object stands for.
fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten()
}
