//! `relay keys create`, `list`, `rotate` and `revoke`, with an operator that makes tokens.

use plane::Plane;
use serde_json::{Value, json};

use crate::{
    pod::connected,
    support::{KINDS, Operator, User, manifests, wait},
};

fn object(plane: &Plane, namespace: &str, what: &str) -> Value {
    let text = plane.kubectl(&["get", what, "-n", namespace, "-o", "json", "--show-managed-fields"]);
    serde_json::from_str(&text).unwrap()
}

/// Who wrote the spec.
fn managers(object: &Value) -> Vec<&str> {
    let fields = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let spec = fields.filter(|entry| entry.get("subresource").is_none());
    spec.map(|entry| entry["manager"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_rotated_and_revoked_and_each_is_waited_for() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = Operator::start(plane, &namespace).await;
    let _pod = connected(plane, &operator, &namespace, "pod-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    let user = User::administrator(plane, &namespace);

    let made = user.relay(&["keys", "create", "checkout", "--policy", "all", "--rpm", "60", "--budget", "50/Month"]);
    let expected = format!(
        "\
RelayKey {namespace}/checkout is made and in effect: 1 model
The token is in Secret `checkout-token`, key `token`:
  kubectl get secret checkout-token -n {namespace} -o go-template='{{{{index .data \"token\" | base64decode}}}}'
In a container:
  env:
  - {{name: OPENAI_BASE_URL, value: https://relay.example/v1}}
  - {{name: OPENAI_API_KEY, valueFrom: {{secretKeyRef: {{name: checkout-token, key: token}}}}}}
  - {{name: ANTHROPIC_BASE_URL, value: https://relay.example}}
  - {{name: ANTHROPIC_AUTH_TOKEN, valueFrom: {{secretKeyRef: {{name: checkout-token, key: token}}}}}}
"
    );
    assert_eq!((made.code, made.stderr.as_str(), made.stdout), (0, "", expected));
    let key = object(plane, &namespace, "relaykey/checkout");
    assert_eq!(managers(&key), ["relay-cli"]);
    assert_eq!(key["spec"]["limits"], json!({"rpm": 60}));
    let template = "{{index .data \"token\" | base64decode}}";
    let read = || {
        plane.kubectl(&["get", "secret", "checkout-token", "-n", &namespace, "-o", &format!("go-template={template}")])
    };
    let first = read();

    let rotated = user.relay(&["key", "rotate", "checkout", "--show-token", "-o", "json"]);
    assert_eq!(rotated.code, 0, "{rotated:#?}");
    let second = rotated.json()["token"].as_str().unwrap().to_owned();
    assert!(second.starts_with("sk-relay-") && second != first && second == read(), "the Secret has the new token");
    let key = object(plane, &namespace, "relaykey/checkout");
    assert_eq!((&key["spec"]["rotation"]["trigger"], managers(&key)), (&json!(1), vec!["relay-cli"]));
    let told = user.relay(&["keys", "rotate", "checkout"]);
    assert!(
        told.stdout.contains("has a new token in Secret `checkout-token`, key `token`; the old one is good until 2")
    );
    assert!(!told.stdout.contains("sk-relay-") && read() != second);

    let unsure = user.relay_with(&["keys", "revoke", "checkout"], "yes\n");
    assert_eq!((unsure.code, unsure.stdout.as_str()), (2, ""));
    assert!(unsure.stderr.contains("is not revoked") && unsure.stderr.contains("--yes"), "{}", unsure.stderr);
    let revoked = user.relay_with(&["keys", "revoke", "checkout"], "checkout\n");
    let sentence = format!("RelayKey {namespace}/checkout is revoked: every data plane that is connected refuses it\n");
    assert_eq!((revoked.code, revoked.stdout), (0, sentence), "{}", revoked.stderr);
    assert_eq!(object(plane, &namespace, "relaykey/checkout")["spec"]["revoked"], true);
    let again = user.relay(&["keys", "rotate", "checkout"]);
    assert!(again.code == 2 && again.stderr.contains("`spec.revoked: true`"), "{}", again.stderr);

    let list = user.relay(&["keys", "list"]);
    let lines: Vec<Vec<&str>> = list.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let (app, checkout) = (format!("{namespace}/app"), format!("{namespace}/checkout"));
    assert_eq!(lines[0], ["KEY", "POLICIES", "TOKEN", "MODELS", "EXPIRES", "STATE"]);
    assert_eq!(lines[1], [&app, "all", "own/app", "1", "-", "Ready"]);
    assert_eq!(lines[2], [&checkout, "all", "secret/checkout-token", "1", "-", "Revoked"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_made_here_is_printed_once_and_its_hash_alone_is_in_the_cluster() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let user = User::administrator(plane, &namespace);
    let made = user.relay(&["keys", "create", "laptop", "--policy", "all", "--hash-only", "--wait=false"]);
    assert_eq!(made.code, 0, "{made:#?}");
    let token = made.stdout.lines().next().unwrap();
    assert!(token.starts_with("sk-relay-") && made.stdout.matches(token).count() == 1, "{}", made.stdout);
    let key = object(plane, &namespace, "relaykey/laptop");
    let hash = format!("sha256:{}", table::token::TokenHash::of(token));
    assert_eq!(key["spec"], json!({"policyRefs": [{"name": "all"}], "tokenHash": hash}));
    let rotated = user.relay(&["keys", "rotate", "laptop"]);
    assert!(rotated.code == 2 && rotated.stderr.contains("`spec.tokenHash`"), "{}", rotated.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_work_is_told_with_its_reason_and_not_waited_for() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = Operator::start(plane, &namespace).await;
    wait(plane, &namespace, "policies", "Accepted");
    let user = User::administrator(plane, &namespace);
    let made = user.relay(&["keys", "create", "stray", "--policy", "al", "--timeout", "50s", "-o", "json"]);
    assert_eq!(made.code, 1, "{made:#?}");
    let problem = made.json()["problems"][0].as_str().unwrap().to_owned();
    assert!(problem.contains("RefNotFound") && problem.contains("did you mean `all`?"), "{problem}");

    let lonely = user.relay(&["keys", "create", "lonely", "--policy", "all", "--timeout", "3s"]);
    assert_eq!(lonely.code, 1);
    assert!(
        lonely.stdout.contains("within 3s (--timeout)") && lonely.stdout.contains("NoDataPlane"),
        "{}",
        lonely.stdout
    );
    let twice = user.relay(&["keys", "create", "lonely", "--policy", "all"]);
    assert!(twice.code == 2 && twice.stderr.contains("there is a RelayKey"), "{}", twice.stderr);
    let wrong = user.relay(&["keys", "create", "wrong", "--policy", "all", "--rotate-every", "5m"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("every must be at least 1h"), "{}", wrong.stderr);
    operator.stop().await;
}

#[test]
fn what_git_keeps_is_left_to_git_unless_forced() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let tracking = format!("argocd.argoproj.io/tracking-id=shop:llmrelay.io/RelayKey:{namespace}/app");
    plane.kubectl(&["annotate", "relaykey/app", "-n", &namespace, &tracking]);
    let user = User::administrator(plane, &namespace);
    let refused = user.relay(&["keys", "revoke", "app", "--yes", "--wait=false"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    let words = ["Argo CD application `shop`", "`spec.revoked: true`", "--force"];
    assert!(words.iter().all(|word| refused.stderr.contains(word)), "{}", refused.stderr);
    assert_eq!(object(plane, &namespace, "relaykey/app")["spec"]["revoked"], Value::Null);
    let forced = user.relay(&["keys", "revoke", "app", "--yes", "--wait=false", "--force"]);
    assert_eq!(forced.code, 0);
    assert!(forced.stderr.contains("the next sync may undo this"), "{}", forced.stderr);
    assert_eq!(object(plane, &namespace, "relaykey/app")["spec"]["revoked"], true);
}
