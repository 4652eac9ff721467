//! Installing, upgrading, rolling back and removing both charts, as far as an API server alone can tell.

use std::{collections::BTreeMap, path::PathBuf};

use chart::{Helm, charts, name};
use plane::Plane;
use serde_json::{Value, json};
use tempfile::tempdir;

/// Kinds of which the chart has objects, but Events and what controllers make.
const KINDS: &str = "deployments,services,serviceaccounts,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,\
                     roles,rolebindings,secrets,dataplanes,hosts,hostkeys,models,policies,relaykeys";

#[test]
fn upgrades_that_change_nothing_write_nothing_and_a_rollback_gives_back_what_was() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let (home, namespace) = (tempdir().expect("a folder is made"), plane.namespace());
    let helm = Helm::on(home.path(), PathBuf::from(plane.kubeconfig()));
    let chart = charts().join("relay").display().to_string();
    let on = |verb: &str, more: &[&str]| {
        helm.run(&[&[verb, "relay", &chart, "--namespace", &namespace, "--set", "demo.enabled=true"], more].concat());
    };
    on("install", &[]);
    let installed = versions(made(&plane, &namespace));
    assert!(installed.len() > 20, "{installed:?}");
    for _ in 0..2 {
        on("upgrade", &[]);
        assert_eq!(versions(made(&plane, &namespace)), installed);
    }
    on("upgrade", &["--set", "dataPlane.drainSeconds=30", "--set", "redis.bundled.enabled=true"]);
    let changed: Vec<String> = difference(&installed, &versions(made(&plane, &namespace)));
    let expected = [
        "Deployment/relay-dataplane",
        "Deployment/relay-redis",
        "NetworkPolicy/relay-dataplane",
        "NetworkPolicy/relay-redis",
        "Service/relay-redis",
    ];
    assert_eq!(changed, expected);
    let specs = |objects: Vec<Value>| -> BTreeMap<String, Value> {
        objects.into_iter().map(|object| (name(&object), object["spec"].clone())).collect()
    };
    helm.run(&["rollback", "relay", "1", "--namespace", &namespace]);
    let (back, first) = (specs(made(&plane, &namespace)), installed.keys());
    assert!(back.keys().eq(first), "{:?}", back.keys());
    let grace = &back["Deployment/relay-dataplane"]["template"]["spec"]["terminationGracePeriodSeconds"];
    assert_eq!(*grace, 630);

    helm.run(&["uninstall", "relay", "--namespace", &namespace]);
    assert_eq!(made(&plane, &namespace), Vec::<Value>::new());
    let left = plane.kubectl(&[
        "get",
        "clusterroles,clusterrolebindings",
        "--selector=app.kubernetes.io/part-of=relay",
        "--output=name",
    ]);
    assert_eq!(left, "");
}

#[test]
fn a_number_of_pods_that_was_taken_out_of_helms_hands_outlasts_the_step_to_autoscaling() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let (home, namespace) = (tempdir().expect("a folder is made"), plane.namespace());
    let helm = Helm::on(home.path(), PathBuf::from(plane.kubeconfig()));
    let chart = charts().join("relay").display().to_string();
    let on = |verb: &str, value: &str| {
        let fixed = ["relay", &chart, "--namespace", &namespace, "--set", "rbac.aggregatedRoles=false", "--set", value];
        helm.run(&[&[verb], &fixed[..]].concat());
    };
    let replicas = || {
        let found = made(plane, &namespace).into_iter().find(|object| name(object) == "Deployment/relay-dataplane");
        found.expect("there is one")["spec"]["replicas"].clone()
    };
    on("install", "dataPlane.replicas=4");
    plane.kubectl(&["scale", "deployment/relay-dataplane", "--replicas=5", "--namespace", &namespace]);
    on("upgrade", "dataPlane.autoscaling.enabled=true");
    assert_eq!(replicas(), 5);
    on("upgrade", "dataPlane.autoscaling.enabled=true");
    assert_eq!(replicas(), 5);
}

#[test]
fn nothing_that_the_chart_makes_has_a_finalizer() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let (home, namespace) = (tempdir().expect("a folder is made"), plane.namespace());
    let helm = Helm::on(home.path(), PathBuf::from(plane.kubeconfig()));
    let chart = charts().join("relay").display().to_string();
    let trial = charts().join("relay/ci/trial-values.yaml").display().to_string();
    helm.run(&[
        "install",
        "relay",
        &chart,
        "--namespace",
        &namespace,
        "--values",
        &trial,
        "--set",
        "rbac.aggregatedRoles=false",
    ]);
    for object in made(plane, &namespace) {
        assert_eq!(object["metadata"]["finalizers"], Value::Null, "{}", name(&object));
    }
}

#[test]
fn two_releases_live_beside_each_other() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let (home, namespace, other) = (tempdir().expect("a folder is made"), plane.namespace(), plane.namespace());
    let helm = Helm::on(home.path(), PathBuf::from(plane.kubeconfig()));
    let chart = charts().join("relay").display().to_string();
    let second = ["--set", "rbac.aggregatedRoles=false"];
    helm.run(&["install", "relay", &chart, "--namespace", &namespace]);
    helm.run(&[&["install", "relay", &chart, "--namespace", &other], &second[..]].concat());
    helm.run(&[&["install", "blue", &chart, "--namespace", &namespace], &second[..]].concat());
    let selectors: Vec<Value> = made(&plane, &namespace)
        .into_iter()
        .filter(|object| object["kind"] == "Deployment")
        .map(|object| object["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"].clone())
        .collect();
    assert_eq!(selectors, [json!("blue"), json!("blue"), json!("relay"), json!("relay")]);
}

#[test]
fn definitions_and_their_objects_outlive_the_release_unless_it_is_told_otherwise() {
    let Some(plane) = Plane::start() else { return };
    let home = tempdir().expect("a folder is made");
    let helm = Helm::on(home.path(), PathBuf::from(plane.kubeconfig()));
    let chart = charts().join("relay-crds").display().to_string();
    let on =
        |verb: &str, more: &[&str]| helm.run(&[&[verb, "relay-crds", &chart, "--namespace", "default"], more].concat());
    let remove = || helm.run(&["uninstall", "relay-crds", "--namespace", "default"]);
    let definitions = || {
        let list = plane.kubectl(&["get", "crd", "--output=json"]);
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        versions(list["items"].as_array().expect("a list has items").clone())
    };
    on("install", &[]);
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
    let host = json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "Host", "metadata": {"name": "openai", "namespace": "default"},
        "spec": {"protocol": "OpenAI", "baseURL": "https://api.openai.com/v1"}});
    plane.apply(&host.to_string());
    let installed = definitions();
    assert_eq!(installed.len(), crds::Kind::ALL.len());
    on("upgrade", &[]);
    assert_eq!(definitions(), installed, "an upgrade that changes nothing writes nothing");
    remove();
    assert_eq!(plane.kubectl(&["get", "hosts", "--output=name"]).trim(), "host.llmrelay.io/openai");
    on("install", &["--set", "keep=false"]);
    assert_eq!(plane.kubectl(&["get", "hosts", "--output=name"]).trim(), "host.llmrelay.io/openai");
    remove();
    plane.kubectl(&["wait", "--for=delete", "--timeout=60s", "crd/hosts.llmrelay.io"]);
}

/// All objects of the chart's kinds in a namespace, but helm's own Secrets.
fn made(plane: &Plane, namespace: &str) -> Vec<Value> {
    let text = plane.kubectl(&["get", KINDS, "--namespace", namespace, "--output=json"]);
    let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let all = list["items"].as_array().expect("a list has items").clone();
    all.into_iter().filter(|object| object["type"] != "helm.sh/release.v1").collect()
}

/// Generation and resourceVersion of each.
fn versions(objects: Vec<Value>) -> BTreeMap<String, (Value, Value)> {
    let of = |object: &Value| (object["metadata"]["generation"].clone(), object["metadata"]["resourceVersion"].clone());
    objects.iter().map(|object| (name(object), of(object))).collect()
}

/// The names of those that are not the same.
fn difference(before: &BTreeMap<String, (Value, Value)>, after: &BTreeMap<String, (Value, Value)>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}
