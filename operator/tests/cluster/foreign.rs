//! A Secret that was not made for a RelayKey says nothing of its token, whoever put it there and whenever: on no replica
//! is such a token ever in a table.

use std::{sync::Arc, time::Duration};

use operator::Published;
use plane::Plane;
use serde_json::json;
use table::{ObjectRef, Row, token::TokenHash};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{Running, manifests, start};

fn minted(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{policyRefs: [{{name: all}}], secret: {{name: {name}-token}}}}\n"
    )
}

/// A token that its holder thinks of, and that nobody minted.
fn forged(name: &str) -> String {
    format!("forged-token-of-{name}-that-is-long-enough")
}

/// The Secret of a RelayKey as somebody else makes it, with whatever metadata.
fn forgery(namespace: &str, name: &str, metadata: serde_json::Value) -> String {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
    object["metadata"]["name"] = json!(format!("{name}-token"));
    object["metadata"]["namespace"] = json!(namespace);
    object["stringData"] = json!({
        "token": forged(name), "token-previous": forged(name), "token-previous-until": "2099-01-01T00:00:00Z",
    });
    format!("---\n{object}\n")
}

fn owner(name: &str, uid: &str) -> serde_json::Value {
    json!([{"apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "name": name, "uid": uid}])
}

/// The hash of the token that a table has for a RelayKey.
fn hash(published: &Published, id: &ObjectRef) -> Option<String> {
    published.table.relay_keys.get(id).and_then(Row::usable).map(|key| key.token_sha256.clone())
}

/// Whether any table has a token that was forged, under any name.
fn holds_forged(published: &Published, names: &[&str]) -> bool {
    let tables = published.fleets.values().map(|fleet| &fleet.table).chain([&published.table]);
    let text = tables.map(|table| serde_json::to_string(&**table).unwrap()).collect::<String>();
    names.iter().any(|name| text.contains(&TokenHash::of(&forged(name)).to_string()))
}

/// Two replicas, of which one leads, and everything that each of them published.
struct Replicas {
    running: Vec<Running>,
    published: Vec<UnboundedReceiver<Arc<Published>>>,
}

impl Replicas {
    async fn start(plane: &Plane, namespace: &str) -> Self {
        let mut running = Vec::new();
        for _ in 0..2 {
            running.push(start(plane.kubeconfig(), &[namespace]).await);
        }
        let published = running.iter().map(Running::every).collect();
        Self { running, published }
    }

    async fn until(&mut self, what: &str, is_such: impl Fn(&Published) -> bool) {
        for operator in &mut self.running {
            operator.until(what, &is_such).await;
        }
    }

    async fn never_held_forged(self, names: &[&str]) {
        for operator in self.running {
            let last = operator.now().unwrap();
            assert!(!holds_forged(&last, names));
            operator.stop().await;
        }
        for mut published in self.published {
            while let Some(published) = published.recv().await {
                assert!(!holds_forged(&published, names), "revision {} has a forged token", published.revision);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_there_before_its_relay_key_says_nothing_of_its_token() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let mut replicas = Replicas::start(plane, &namespace).await;
    let labels = json!({"llmrelay.io/managed": "true"});
    let app = plane.kubectl(&["get", "relaykey", "app", "-n", &namespace, "-o", "jsonpath={.metadata.uid}"]);
    let secrets = [
        forgery(&namespace, "plain", json!({})),
        forgery(&namespace, "labelled", json!({"labels": labels})),
        // The garbage collector does not run here: it would delete one whose owner is not there.
        forgery(&namespace, "stolen", json!({"labels": labels, "ownerReferences": owner("app", app.trim())})),
        forgery(&namespace, "unlabelled", json!({"ownerReferences": owner("unlabelled", app.trim())})),
    ];
    plane.apply(&secrets.concat());
    let names = ["plain", "labelled", "stolen", "unlabelled"];
    for name in names {
        plane.apply(&minted(&namespace, name));
    }
    let is_refused = |published: &Published, name: &str| {
        let id = ObjectRef::new(&namespace, name);
        let row = published.table.relay_keys.get(&id);
        matches!(row, Some(Row::Invalid { reason }) if reason.contains("was not made for this RelayKey"))
    };
    replicas.until("all are refused", |now| names.iter().all(|name| is_refused(now, name))).await;
    for name in names {
        let wait = "--for=jsonpath={.status.conditions[?(@.type==\"Accepted\")].reason}=Conflicted";
        plane.kubectl(&["wait", &format!("relaykey/{name}"), "-n", &namespace, "--timeout=60s", wait]);
    }
    // One whose forgery is deleted is issued a token of its own.
    plane.kubectl(&["delete", "secret", "plain-token", "-n", &namespace]);
    let plain = ObjectRef::new(&namespace, "plain");
    replicas.until("a token is issued", |now| hash(now, &plain).is_some()).await;
    replicas.never_held_forged(&names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_becomes_somebody_elses_is_no_token_until_it_is_ours_again() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&minted(&namespace, "turning"));
    let mut replicas = Replicas::start(plane, &namespace).await;
    let id = ObjectRef::new(&namespace, "turning");
    replicas.until("the token is issued", |now| hash(now, &id).is_some()).await;
    let issued = hash(&replicas.running[0].now().unwrap(), &id);
    let label =
        |value: &str| plane.kubectl(&["label", "secret", "turning-token", "-n", &namespace, value, "--overwrite"]);
    label("llmrelay.io/managed-");
    replicas.until("it is not its token any more", |now| hash(now, &id).is_none()).await;
    let data = json!({"stringData": {"token": forged("turning")}}).to_string();
    plane.kubectl(&["patch", "secret", "turning-token", "-n", &namespace, "--type=merge", "-p", &data]);
    let wait = "--for=jsonpath={.status.conditions[?(@.type==\"Accepted\")].reason}=Conflicted";
    plane.kubectl(&["wait", "relaykey/turning", "-n", &namespace, "--timeout=60s", wait]);

    // A RelayKey of the same name is another RelayKey: what the Secret of the former one holds is not its token.
    plane.kubectl(&["delete", "secret", "turning-token", "-n", &namespace]);
    replicas.until("another token is issued", |now| hash(now, &id).is_some_and(|now| Some(now) != issued)).await;
    let former = hash(&replicas.running[0].now().unwrap(), &id);
    plane.kubectl(&["delete", "relaykey", "turning", "-n", &namespace]);
    replicas.until("it is gone", |now| !now.table.relay_keys.contains_key(&id)).await;
    plane.apply(&minted(&namespace, "turning"));
    for operator in &mut replicas.running {
        let now = operator.until("a third token is issued", |now| hash(now, &id).is_some()).await;
        assert_ne!(hash(&now, &id), former);
    }
    replicas.never_held_forged(&["turning"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_quicker_than_the_leader_gains_no_token() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let mut replicas = Replicas::start(plane, &namespace).await;
    replicas.until("something is published", |_| true).await;
    let names: Vec<String> = (0..12).map(|n| format!("race-{n}")).collect();
    let keys: String = names.iter().map(|name| minted(&namespace, name)).collect();
    let labels = json!({"llmrelay.io/managed": "true"});
    let forgeries: String = names.iter().map(|name| forgery(&namespace, name, json!({"labels": labels}))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| plane.apply(&keys));
        // Whichever the leader made first is refused, and that is as it should be.
        scope.spawn(|| plane.try_kubectl(plane.kubeconfig(), &["create", "-f", "-"], &forgeries));
    });
    let is_settled = |published: &Published| {
        names.iter().all(|name| {
            let row = published.table.relay_keys.get(&ObjectRef::new(&namespace, name));
            match row {
                Some(Row::Usable(_)) => true,
                Some(Row::Invalid { reason }) => reason.contains("was not made for this RelayKey"),
                None => false,
            }
        })
    };
    tokio::time::timeout(Duration::from_secs(90), replicas.until("every key is settled", is_settled)).await.unwrap();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    replicas.never_held_forged(&names).await;
}
