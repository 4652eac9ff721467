//! What an operator asks of the API server, counted.

use std::{collections::BTreeMap, time::Duration};

use operator::push::authority::Times;
use plane::Plane;

use crate::{
    pushing::connected,
    support::{Running, manifests, relay_key, secret, start_with},
    writing::{KINDS, wait, wait_for},
};

/// It looks once at the Secrets that are its own, however long a test takes.
fn seldom() -> Times {
    Times { look: Duration::from_secs(3_600), ..Times::default() }
}

/// Requests so far, as `list relaykeys`.
async fn asked(operator: &Running) -> BTreeMap<String, u64> {
    let (_, metrics) = operator.ask("/metrics").await;
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("relay_operator_api_requests_total{"));
    let read = |line: &str| {
        let (labels, count) = line.split_once("} ").unwrap();
        let label = |name: &str| {
            let value = labels.split(',').find_map(|label| label.strip_prefix(name)).unwrap();
            value.trim_matches(['=', '"']).to_owned()
        };
        (format!("{} {}", label("verb"), label("resource")), count.parse().unwrap())
    };
    lines.map(read).collect()
}

fn of(asked: &BTreeMap<String, u64>, what: &str) -> u64 {
    asked.get(what).copied().unwrap_or(0)
}

/// Those that write statuses.
fn statuses(asked: &BTreeMap<String, u64>) -> u64 {
    asked.iter().filter(|(what, _)| what.starts_with("patch") && what.ends_with("/status")).map(|(_, many)| many).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_listed_once_and_a_status_is_written_once() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let keys: Vec<String> = (1..=20).map(|n| relay_key(&namespace, &format!("app-{n}"), n)).collect();
    let unrelated: Vec<String> = (1..=30).map(|n| secret(&namespace, &format!("unrelated-{n}"), "x")).collect();
    plane.apply(&[manifests(&namespace), keys.join("---\n"), unrelated.join("---\n")].join("---\n"));

    let operator = start_with(plane.kubeconfig(), &[&namespace], seldom()).await;
    let _data_plane = connected(plane, &operator, &namespace, "dataplane-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    let first = asked(&operator).await;
    for collection in ["hosts", "models", "hostkeys", "relaykeys", "policies", "dataplanes", "namespaces"] {
        let at = |verb: &str| of(&first, &format!("{verb} {collection}"));
        assert_eq!((at("list"), at("watch")), (1, 1), "{collection}: {first:?}");
    }
    assert!(of(&first, "get secrets") <= 4, "the Secret that is named, and the operator's own: {first:?}");
    assert_eq!(of(&first, "create tokenreviews"), 1);

    // One change costs one status.
    let patch = r#"{"spec": {"limits": {"rpm": 7}}}"#;
    plane.kubectl(&["patch", "relaykey", "app-7", "-n", &namespace, "--type=merge", "-p", patch]);
    wait_for(plane, &namespace, "relaykey/app-7", "{.status.observedGeneration}=2");
    wait(plane, &namespace, KINDS, "Ready");
    let second = asked(&operator).await;
    assert!((1..=2).contains(&(statuses(&second) - statuses(&first))), "{second:?}");
    operator.stop().await;

    // Whoever comes next finds that all is said.
    let operator = start_with(plane.kubeconfig(), &[&namespace], seldom()).await;
    let _data_plane = connected(plane, &operator, &namespace, "dataplane-0-again").await;
    let patch = r#"{"spec": {"limits": {"rpm": 8}}}"#;
    plane.kubectl(&["patch", "relaykey", "app-8", "-n", &namespace, "--type=merge", "-p", patch]);
    wait_for(plane, &namespace, "relaykey/app-8", "{.status.observedGeneration}=2");
    let third = asked(&operator).await;
    assert!((1..=2).contains(&statuses(&third)), "{third:?}");
    operator.stop().await;
}
