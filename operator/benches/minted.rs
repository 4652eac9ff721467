//! Measures, on a real API server, what minted Secrets cost an operator that starts: requests and seconds until its first
//! table. `cargo bench -p relay-operator --bench minted`; `RELAY_MINTED_KEYS` says how many there are.

#[path = "../tests/cluster/support.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use plane::Plane;
use serde_json::json;

use self::support::{has_key, manifests, start};

/// Requests for Secrets that the API server has answered, by verb.
fn requests(plane: &Plane) -> BTreeMap<String, f64> {
    let mut by_verb = BTreeMap::new();
    for line in plane.kubectl(&["get", "--raw", "/metrics"]).lines() {
        let Some(labels) =
            line.strip_prefix("apiserver_request_total{").filter(|line| line.contains("resource=\"secrets\""))
        else {
            continue;
        };
        let verb = labels.split_once("verb=\"").and_then(|(_, rest)| rest.split_once('"'));
        let count: f64 = labels.rsplit(' ').next().unwrap().parse().unwrap();
        *by_verb.entry(verb.unwrap().0.to_owned()).or_default() += count;
    }
    by_verb
}

async fn make(plane: &Plane, namespace: &str, keys: usize) {
    let client = plane.client().await;
    let relay_keys: Api<crds::RelayKey> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let made = stream::iter(0..keys).map(|n| {
        let (relay_keys, secrets) = (relay_keys.clone(), secrets.clone());
        async move {
            let name = format!("key-{n:05}");
            let key = json!({
                "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "metadata": {"name": name},
                "spec": {"policyRefs": [{"name": "all"}], "secret": {"name": name}},
            });
            let key = relay_keys.create(&PostParams::default(), &serde_json::from_value(key).unwrap()).await.unwrap();
            let owner = json!({
                "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "name": name, "uid": key.metadata.uid,
            });
            let secret = json!({
                "metadata": {
                    "name": name, "labels": {"llmrelay.io/managed": "true"}, "ownerReferences": [owner],
                    "annotations": {"llmrelay.io/issued-at": "2026-01-01T00:00:00Z", "llmrelay.io/rotation-trigger": "0"},
                },
                "stringData": {"token": format!("{name}-0123456789-0123456789-0123456789-0123456789")},
            });
            secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        }
    });
    made.buffer_unordered(32).collect::<()>().await;
}

#[tokio::main]
async fn main() {
    let keys: usize = std::env::var("RELAY_MINTED_KEYS").map_or(2_000, |text| text.parse().unwrap());
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    make(&plane, &namespace, keys).await;
    for who in ["first operator, which leads", "second operator"] {
        let before = requests(&plane);
        let begun = Instant::now();
        let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
        let first = operator.until("something is published", |_| true).await;
        let seconds = begun.elapsed().as_secs_f64();
        let usable = first.table.relay_keys.keys().filter(|id| has_key(&first.table, id)).count();
        let to_table = requests(&plane);
        // What comes after the first table: the one that leads looks after each Secret.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let later = requests(&plane);
        println!("{who}: {keys} minted keys, {usable} usable in the first table after {seconds:.2} s");
        for verb in ["GET", "LIST", "WATCH"] {
            let of = |counts: &BTreeMap<String, f64>| counts.get(verb).copied().unwrap_or(0.0);
            let (soon, all) = (of(&to_table) - of(&before), of(&later) - of(&before));
            println!("  {verb} of Secrets: {soon} until the first table, {all} after 30 s more");
        }
        // It stays, so that the next one does not lead.
        std::mem::forget(operator);
    }
}
