//! `relay config dump` and `diff`: the operator's own table, and what a directory would change.

use plane::Plane;
use serde_json::Value;

use crate::support::{Operator, User, directory, manifests, path};

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_a_cluster_is_the_operators_and_holds_no_secret() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    // One key has a Secret that the operator made, one asks for a Secret that is somebody else's, one a policy that is not there.
    let key = |name: &str, secret: &str| {
        format!(
            "---\napiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{policyRefs: [{{name: all}}], secret: {{name: {secret}}}}}\n"
        )
    };
    let stray = key("stray", "stray").replace("name: all", "name: al");
    plane.apply(&(manifests(&namespace) + &key("minted", "minted") + &key("thief", "provider") + &stray));
    let operator = Operator::start(plane, &namespace).await;
    let wait_for = |object: &str, condition: &str| {
        let condition = format!("--for=condition={condition}");
        plane.kubectl(&["wait", object, "-n", &namespace, "--timeout=60s", &condition]);
    };
    wait_for("relaykey/minted", "Issued");
    wait_for("relaykey/minted", "ResolvedRefs");
    wait_for("relaykey/thief", "Accepted=False");
    wait_for("relaykey/stray", "Issued");
    let user = User::administrator(plane, &namespace);
    let (url, json) = (format!("http://{}", operator.admin), ["-o", "json", "--operator-namespace", &namespace]);
    let running = user.relay(&[&["config", "dump", "--admin", &url], &json[..]].concat());
    let compiled = user.relay(&[&["config", "dump", "--read-secrets"], &json[..]].concat());
    assert_eq!((running.code, compiled.code), (0, 0), "{running:#?}{compiled:#?}");
    let (running, compiled) = (running.json(), compiled.json());
    assert_eq!((&compiled["digest"], &compiled["table"]), (&running["digest"], &running["table"]));
    assert_eq!(compiled["credentials"], serde_json::json!({format!("{namespace}/main"): "secret"}));
    let hash = table::token::TokenHash::of("canary-token-of-the-application-long-enough").to_string();
    let text = compiled.to_string();
    assert!(text.contains(&format!("{}…", &hash[..8])) && !text.contains(&hash) && !text.contains("canary"), "{text}");

    let unread = user.relay(&[&["config", "dump"], &json[..]].concat());
    assert_eq!(unread.json()["digest"], Value::Null, "what is not known has no digest");
    assert!(unread.stderr.contains("not read"), "{}", unread.stderr);
    let same = user.relay(&["config", "diff", &url, "--operator-namespace", &namespace, "--exit-code"]);
    assert_eq!((same.code, same.stdout.as_str()), (0, "nothing differs\n"), "{}", same.stderr);
    let rows = user.relay(&["config", "dump", "-o", "table", "--operator-namespace", &namespace]);
    let rows: Vec<Vec<&str>> = rows.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KIND", "OBJECT", "STATE"]);
    let states: Vec<&str> = rows[5..].iter().map(|row| row[2]).collect();
    assert_eq!(states, ["usable", "usable", "unusable", "invalid"], "app, minted, stray, thief: {rows:?}");
    operator.stop().await;
}

#[test]
fn a_directory_is_compared_as_if_it_were_applied() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let user = User::administrator(plane, &namespace);
    let home = ["--catalog-namespace", &namespace];
    let diff =
        |text: &str| user.relay(&[&["config", "diff", path(&directory(text)), "--exit-code"], &home[..]].concat());

    let same = diff(&manifests(&namespace));
    assert_eq!((same.code, same.stdout.as_str()), (0, "nothing differs\n"), "{}", same.stderr);
    // One object that names no namespace: all others stay.
    let narrowed = diff(
        "apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {name: all}\nspec: {models: {allow: [other]}, hosts: \
         {allow: ['*']}}\n",
    );
    let expected = format!(
        "RelayKey {namespace}/app loses model `gpt`\nPolicy {namespace}/all: models.allow: [\"*\"] -> [\"other\"]\n"
    );
    assert_eq!((narrowed.code, narrowed.stdout), (1, expected), "{}", narrowed.stderr);
    let immutable = diff(
        "apiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata: {name: openai}\nspec: {protocol: Anthropic, baseURL: \
         'https://api.example/v1'}\n",
    );
    assert_eq!((immutable.code, immutable.stdout.as_str()), (1, "nothing differs\n"));
    let words = format!("Host {namespace}/openai cannot be changed like this, and stays as it is: spec.protocol");
    assert!(immutable.stderr.contains(&words), "{}", immutable.stderr);
    let malformed = diff("apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {name: all}\nspec: {model: {}}\n");
    assert!(malformed.code == 1 && malformed.stderr.contains("all.yaml:4"), "{malformed:#?}");
}

#[test]
fn a_process_that_is_not_there_or_is_none_of_ours_is_told() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let user = User::administrator(plane, &namespace);
    let nobody = user.relay(&["config", "dump", "--admin", "http://127.0.0.1:1"]);
    assert!(nobody.code == 2 && nobody.stderr.contains("connecting to the admin port"), "{}", nobody.stderr);
    let https = user.relay(&["config", "dump", "--admin", "https://127.0.0.1:1"]);
    assert!(https.code == 2 && https.stderr.contains("http://"), "{}", https.stderr);
    let home = ["--operator-namespace", &namespace];
    let operator = user.relay(&[&["config", "dump", "--from-operator"], &home[..]].concat());
    assert!(operator.code == 2 && operator.stderr.contains("has no Lease"), "{}", operator.stderr);
    let pod = user.relay(&["config", "dump", "--from-pod", "relay-0"]);
    assert!(pod.code == 2 && pod.stderr.contains("pods \"relay-0\" not found"), "{}", pod.stderr);
}
