//! `relay compile`: the table, deterministic and without a secret.

use crate::support::{directory, examples, path, run};
use serde_json::Value;

const SECRETS: &str = "\
apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: h}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com'}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: k}
spec: {hostRef: {name: h}, source: {secretKeyRef: {name: s, key: provider}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: p}
spec: {models: {allow: ['*']}}
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: app}
spec: {policyRefs: [{name: p}], tokenSecretRef: {name: s, key: token}}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData:
  provider: sk-canary-of-the-provider
  token: sk-canary-of-the-application-long-enough
";

fn quickstart() -> String {
    examples().join("quickstart").to_str().expect("UTF-8").to_owned()
}

#[test]
fn no_secret_is_in_the_table_or_the_reports() {
    let dir = directory(&[("all.yaml", SECRETS)]);
    for output in ["yaml", "json"] {
        let said = run(&["compile", path(&dir), "--reports", "--output", output]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stdout.contains("default/app") && !said.stdout.contains("canary"), "{}", said.stdout);
        assert!(!said.stdout.contains("c2stY2FuYXJ5"), "not in base64 either");
    }
}

#[test]
fn a_data_plane_is_said_to_have_no_say() {
    let fleet =
        "apiVersion: llmrelay.io/v1alpha1\nkind: DataPlane\nmetadata: {name: edge}\nspec: {drain: {grace: 1m}}\n";
    let dir = directory(&[("fleet.yaml", fleet)]);
    let said = run(&["compile", path(&dir)]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("DataPlane default/edge: note: ignored here"), "{}", said.stderr);
    assert!(!said.stdout.contains("drainGrace"), "{}", said.stdout);
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = run(&["compile", &quickstart(), "--reports"]);
    let json = run(&["compile", &quickstart(), "--reports", "--output", "json"]);
    let from_yaml: Value = serde_saphyr::from_str(&yaml.stdout).expect("YAML");
    let from_json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(from_yaml.to_string(), from_json.to_string());
    assert_eq!(from_json["digest"].as_str().map(str::len), Some(32));
    assert_eq!(from_json["reports"].as_array().map(Vec::len), Some(8));
}

#[test]
fn the_digest_does_not_depend_on_how_objects_are_spread_over_files() {
    let whole = directory(&[("all.yaml", SECRETS)]);
    let documents: Vec<&str> = SECRETS.split("---\n").collect();
    let names: Vec<String> = (0..documents.len()).map(|at| format!("{}/{at}.yaml", documents.len() - at)).collect();
    let spread: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(documents).collect();
    let spread = directory(&spread);
    let digest = |dir| {
        let said: Value = serde_json::from_str(&run(&["compile", path(dir), "--output", "json"]).stdout).expect("JSON");
        said["digest"].to_string()
    };
    assert_eq!(digest(&whole), digest(&spread));
}
