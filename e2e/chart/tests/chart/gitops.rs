//! The values that `examples/gitops` gives to the chart.

use std::{collections::BTreeSet, fs, path::Path};

use chart::{Helm, charts, name, objects};
use serde_json::Value;
use tempfile::tempdir;

const RELEASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/gitops/flux/charts/relay.yaml");

#[test]
fn the_values_of_the_gitops_example_mount_its_sealing_keys_and_open_its_namespaces_to_the_operator() {
    let text = fs::read_to_string(RELEASE).expect("the example is there");
    let release = objects(&text).into_iter().find(|object| object["kind"] == "HelmRelease").expect("it has a release");
    let home = tempdir().expect("a folder is made");
    let values = home.path().join("values.json");
    fs::write(&values, release["spec"]["values"].to_string()).expect("the folder is writable");
    let rendered = render(home.path(), &values);

    let found = rendered.iter().find(|object| name(object) == "Deployment/relay-dataplane");
    let pod = &found.expect("there are data planes")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let has =
        |list: &Value, wanted: &dyn Fn(&Value) -> bool| list.as_array().is_some_and(|list| list.iter().any(wanted));
    assert!(has(&container["args"], &|argument| *argument == "--sealing-keys=/etc/relay/sealing"), "{container:#}");
    assert!(has(&container["volumeMounts"], &|mount| mount["mountPath"] == "/etc/relay/sealing"), "{container:#}");
    assert!(has(&pod["volumes"], &|volume| volume["secret"]["secretName"] == "relay-sealing-keys"), "{pod:#}");

    let roles = rendered.iter().filter(|object| object["kind"] == "Role");
    let namespaces: BTreeSet<&str> = roles.filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    assert_eq!(namespaces, BTreeSet::from(["platform", "relay-system", "team-search", "team-support"]));
}

fn render(home: &Path, values: &Path) -> Vec<Value> {
    let (chart, values) = (charts().join("relay").display().to_string(), values.display().to_string());
    let helm = Helm::alone(home);
    objects(&helm.run(&["template", "relay", &chart, "--namespace", "relay-system", "--values", &values]))
}
