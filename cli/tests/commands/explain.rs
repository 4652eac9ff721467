//! `relay explain`: the plan of a request, which is the plan that requests follow.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

use crate::{
    server::{Server, ask, chat},
    support::{directory, examples, path, run},
};

const POLICY: &str = "\
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: all}
spec: {models: {allow: ['*'], deny: [secret]}, routing: {maxAttempts: 8}}
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: app}
spec: {policyRefs: [{name: all}], tokenSecretRef: {name: app, key: token}}
---
apiVersion: v1
kind: Secret
metadata: {name: app}
stringData: {token: a-token-of-the-application-long-enough}
---
";

fn explain(dir: &str, arguments: &[&str]) -> (i32, Value) {
    let said = run(&[&["explain", dir, "--output", "json"], arguments].concat());
    let value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{}{}", said.stdout, said.stderr));
    (said.code, value)
}

fn manifest(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
        + "\n---\n"
}

fn host(name: &str, address: &str) -> String {
    let spec = json!({
        "protocol": "OpenAI", "baseURL": format!("http://{address}"), "allowPlaintext": true,
        "network": {"allowPrivateAddresses": true},
    });
    manifest("Host", name, &spec)
}

fn host_key(name: &str, host: &str, more: &Value) -> String {
    let mut spec = json!({"hostRef": {"name": host}, "source": {"env": {"name": "RELAY_KEY_TEST"}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest("HostKey", name, &spec)
}

fn model(name: &str, hosts: &[&str], more: &Value) -> String {
    let bindings: Vec<Value> = hosts
        .iter()
        .enumerate()
        .map(|(at, host)| json!({"name": host, "hostRef": {"name": host}, "upstreamModel": "demo", "priority": at}))
        .collect();
    let mut spec = json!({"hosts": bindings});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest("Model", name, &spec)
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

#[test]
fn it_says_who_is_tried_in_order_and_why_not_the_others() {
    let text = [
        POLICY.to_owned(),
        host("one", "127.0.0.1:1"),
        host("two", "127.0.0.1:1"),
        host("bare", "127.0.0.1:1"),
        host_key("one-first", "one", &json!({"priority": 0})),
        host_key("one-second", "one", &json!({"priority": 1})),
        host_key("one-asleep", "one", &json!({"suspend": true})),
        host_key("two", "two", &json!({})),
        model("m", &["bare", "one", "two"], &json!({})),
    ];
    let dir = directory(&[("all.yaml", &text.concat())]);
    let (code, plan) = explain(path(&dir), &["--key", "app", "--model", "m"]);
    let steps: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["hostKey"].as_str().unwrap()).collect();
    assert_eq!((code, steps), (0, vec!["default/one-first", "default/one-second", "default/two"]));
    let skipped = strings(&plan["skipped"]).join("\n");
    assert!(skipped.contains("m at default/bare has no key that can be drawn"), "{skipped}");
    assert!(skipped.contains("key default/one-asleep of default/one is suspended"), "{skipped}");
    assert_eq!(plan["maxAttempts"], 8);
    let human = run(&["explain", path(&dir), "--key", "default/app", "--model", "m@two"]);
    assert!(human.stdout.contains("1. m at default/two as demo (openai-chat, keys two)"), "{}", human.stdout);
    assert!(human.stdout.contains("m at default/one is not what the request is pinned to"), "{}", human.stdout);
}

#[test]
fn what_a_request_needs_decides_who_can_serve_it() {
    let text = [
        POLICY.to_owned(),
        host("h", "127.0.0.1:1"),
        host_key("k", "h", &json!({})),
        model("m", &["h"], &json!({"capabilities": ["Chat", "Streaming"], "contextWindow": 1000})),
    ];
    let dir = directory(&[("all.yaml", &text.concat())]);
    let asked = |more: &[&str]| explain(path(&dir), &[&["--key", "app", "--model", "m"], more].concat());
    assert_eq!(asked(&["--stream"]).0, 0);
    let (code, refused) = asked(&["--tools"]);
    assert_eq!(
        (code, &refused["denied"]["status"], &refused["denied"]["code"]),
        (1, &json!(400), &json!("unsupported_capability"))
    );
    assert_eq!(asked(&["--vision"]).0, 1);
    let body = dir.path().join("body.json");
    std::fs::write(&body, chat("m", true)).unwrap();
    let (code, read) = explain(path(&dir), &["--key", "app", "--request", body.to_str().unwrap()]);
    assert_eq!((code, &read["model"]), (0, &json!("m")));
}

#[test]
fn nobody_is_explained_as_the_caller_would_be_told() {
    let dir = examples().join("quickstart");
    let dir = dir.to_str().unwrap();
    let (code, unknown) = explain(dir, &["--key", "quickstart", "--model", "gpt-9"]);
    assert_eq!((code, &unknown["denied"]["code"]), (1, &json!("model_not_found")));
    let typo = run(&["explain", dir, "--key", "quickstrat", "--model", "demo-chat"]);
    assert_eq!((typo.code, typo.stdout.as_str()), (2, ""));
    assert!(typo.stderr.contains("did you mean `default/quickstart`?"), "{}", typo.stderr);
}

#[test]
fn credentials_that_are_not_here_are_taken_to_be_there_and_that_is_said() {
    let text =
        [POLICY.to_owned(), host("h", "127.0.0.1:1"), host_key("k", "h", &json!({})), model("m", &["h"], &json!({}))];
    let dir = directory(&[("all.yaml", &text.concat())]);
    let (code, plan) = explain(path(&dir), &["--key", "app", "--model", "m"]);
    assert_eq!(code, 0);
    let said = strings(&plan["assumed"]).join("\n");
    assert!(said.contains("key default/k: variable `RELAY_KEY_TEST` is not set here"), "{said}");
}

/// A model with its own hosts and keys, of which every one fails: a request for it tries all of them.
fn random_model(rng: &mut StdRng, at: usize, demo: &str) -> String {
    let mut text = String::new();
    let mut hosts: Vec<String> = (0..rng.random_range(2..=4)).map(|host| format!("m{at}-h{host}")).collect();
    hosts.shuffle(rng);
    for name in &hosts {
        text += &host(name, demo);
        let mut priorities: Vec<u32> = (0..4).collect();
        priorities.shuffle(rng);
        for (key, priority) in priorities.into_iter().enumerate().take(rng.random_range(0..=3)) {
            let fault = ["broken", "invalid"][rng.random_range(0..2)];
            let name_of_key = format!("{name}-k{key}");
            let models = if rng.random_bool(0.2) { json!({"deny": ["demo"]}) } else { json!({}) };
            let secret = json!({"secretKeyRef": {"name": name_of_key, "key": "key"}});
            let more = json!({
                "priority": priority, "suspend": rng.random_bool(0.2), "models": models, "source": secret,
            });
            text += &host_key(&name_of_key, name, &more);
            let value = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name_of_key},
                "stringData": {"key": format!("{fault}-{name_of_key}")},
            });
            text += &format!("{value}\n---\n");
        }
    }
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    text + &model(&format!("m{at}"), &hosts, &json!({}))
}

#[test]
fn requests_try_hosts_and_keys_in_the_order_that_is_explained() {
    const MODELS: usize = 16;
    let demo = Server::demo();
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let models: String = (0..MODELS).map(|at| random_model(&mut rng, at, &demo.listen().to_string())).collect();
    let dir = directory(&[("all.yaml", &(POLICY.to_owned() + &models))]);
    let out = tempfile::tempdir().unwrap();
    let usage = out.path().join("usage.jsonl");
    let mut relay = Server::run(dir.path(), &["--usage", usage.to_str().unwrap()], &[]);
    let bearer = ("authorization", "Bearer a-token-of-the-application-long-enough");
    for at in 0..MODELS {
        ask(relay.listen(), "/v1/chat/completions", &[bearer], &chat(&format!("m{at}"), false));
    }
    relay.signal("TERM");
    assert_eq!(relay.end().0, Some(0));
    let records = std::fs::read_to_string(&usage).unwrap();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), MODELS);
    let mut tried_by_all = 0;
    for record in &records {
        let model = record["requested_model"].as_str().unwrap();
        let (_, plan) = explain(path(&dir), &["--key", "app", "--model", model]);
        let place = |value: &Value, key: &str| (value["host"].clone(), value[key].clone());
        let tried: Vec<_> =
            record["attempts"].as_array().unwrap().iter().map(|attempt| place(attempt, "host_key")).collect();
        let steps = plan["steps"].as_array().cloned().unwrap_or_default();
        let planned: Vec<_> = steps.iter().map(|step| place(step, "hostKey")).take(8).collect();
        assert_eq!(tried[..planned.len().min(tried.len())], planned, "{model}");
        tried_by_all += planned.len();
    }
    assert!(tried_by_all > MODELS, "the cases are too poor: {tried_by_all}");
}
