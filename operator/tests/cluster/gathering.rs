//! What data planes hold and report, whichever replica and fleet they are of, is said on objects by the one that leads.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use feed::wire::{Breaker, BreakerState, Report};
use operator::{config::Config, leading::Settings, push::peers};
use plane::Plane;
use serde_json::Value;
use table::ObjectRef;

use crate::{
    pushing::{connected, connected_as, follower},
    support::{Running, config, manifests, relay_key, start, start_as},
    writing::{KINDS, PATIENCE, Witness, condition, events, eventually, get, wait, wait_for},
};

/// The settings of a replica that knows its peers, and tells and is told what data planes hold.
async fn replica(plane: &Plane, namespace: &str, pod: &str) -> Config {
    let account = plane.service_account(namespace, "relay-operator").await;
    let pod = account.pod(pod).await;
    let token = account.bound_token(&pod, peers::AUDIENCE).await;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("peer-{namespace}-{}", pod.name));
    std::fs::write(&file, token).unwrap();
    // Short, as one test waits for it; still so long that nobody loses it where the API server is slow: whoever leads next
    // may tell of a breaker once more.
    let leading = Settings {
        lease_duration: Duration::from_secs(10),
        lease_renew_deadline: Duration::from_secs(8),
        lease_retry: Duration::from_millis(200),
    };
    Config { pod_name: Some(pod.name), peer_token_file: Some(file), leading, ..config(&[namespace]) }
}

/// Two replicas of one operator; the first one leads.
async fn replicas(plane: &Plane, namespace: &str) -> (Running, Running) {
    let leader = start_as(plane.kubeconfig(), replica(plane, namespace, "operator-0").await).await;
    let path = "jsonpath={.metadata.annotations.llmrelay\\.io/push-address}";
    let ask = ["get", "lease", "relay-operator", "-n", namespace, "--ignore-not-found", "-o", path];
    let address =
        eventually("the leader says where it is", || Some(plane.kubectl(&ask)).filter(|at| !at.is_empty())).await;
    assert_eq!(address, leader.push.to_string());
    let follower = start_as(plane.kubeconfig(), replica(plane, namespace, "operator-1").await).await;
    (leader, follower)
}

fn reason(object: &Value, of: &str) -> String {
    condition(object, of)["reason"].as_str().unwrap().to_owned()
}

fn until_reason(plane: &Plane, namespace: &str, object: &str, of: &str, reason: &str) -> Value {
    wait_for(plane, namespace, object, &format!("{{.status.conditions[?(@.type==\"{of}\")].reason}}={reason}"));
    get(plane, namespace, object)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_in_effect_when_the_pods_of_every_replica_have_it() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let (leader, other) = replicas(plane, &namespace).await;
    let near = connected(plane, &leader, &namespace, "near").await;
    let far = connected(plane, &other, &namespace, "far").await;
    wait(plane, &namespace, KINDS, "Ready");

    for (number, held, behind) in [(1, &far, "far"), (2, &near, "near")] {
        let gate = held.gate.lock().await;
        let name = format!("late-{behind}");
        plane.apply(&relay_key(&namespace, &name, number));
        let late = until_reason(plane, &namespace, &format!("relaykey/{name}"), "Programmed", "PartiallyProgrammed");
        let message = condition(&late, "Programmed")["message"].as_str().unwrap();
        let expected = format!("1 of 2 data planes have it; waiting for `{namespace}/{behind}`");
        assert_eq!(message, expected);
        assert_eq!(reason(&get(plane, &namespace, "relaykey/app"), "Programmed"), "Programmed", "others let be");
        drop(gate);
        plane.kubectl(&["wait", "relaykey", &name, "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    }

    // What a pod of the follower does not take is said on the object, and on no other.
    far.refuses.lock().unwrap().push(ObjectRef::new(&namespace, "bad"));
    plane.apply(&relay_key(&namespace, "bad", 3));
    let bad = until_reason(plane, &namespace, "relaykey/bad", "Programmed", "Nacked");
    let message = condition(&bad, "Programmed")["message"].as_str().unwrap();
    assert_eq!(message, format!("data plane `{namespace}/far` did not take it (Unusable): not usable here"));
    assert_eq!(reason(&get(plane, &namespace, "relaykey/app"), "Ready"), "Ready");
    eventually("it is told", || (events(plane, &namespace, "Nacked") == ["bad"]).then_some(())).await;

    // A follower that is gone takes its pods with it, after a while.
    drop(far);
    other.kill();
    let begun = Instant::now();
    plane.kubectl(&["wait", "relaykey/bad", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    assert!(begun.elapsed() > Duration::from_secs(5), "its pods might have come back: {:?}", begun.elapsed());
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_go_from_one_replica_to_another_and_leaders_that_change_leave_statuses_as_they_are() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let (first, second) = replicas(plane, &namespace).await;
    let at = Arc::new(Mutex::new(second.push));
    let mut pods = Vec::new();
    for pod in ["pod-0", "pod-1", "pod-2"] {
        pods.push(follower(plane, &at, &namespace, pod).await);
    }
    let stays = connected(plane, &first, &namespace, "stays").await;
    wait(plane, &namespace, KINDS, "Ready");
    let witness = Witness::new(&plane.client().await, &namespace);
    // What one of them refuses is refused wherever it goes.
    pods[0].refuses.lock().unwrap().push(ObjectRef::new(&namespace, "bad"));
    plane.apply(&relay_key(&namespace, "bad", 3));
    until_reason(plane, &namespace, "relaykey/bad", "Programmed", "Nacked");

    // All pods of the follower go to the leader.
    *at.lock().unwrap() = first.push;
    second.stop().await;
    for (number, pod) in pods.iter_mut().enumerate() {
        pod.until("it is at the leader", |state, _| state.streams >= 2).await;
        let name = format!("key-{number}");
        plane.apply(&relay_key(&namespace, &name, 10 + number as u64));
        plane.kubectl(&["wait", "relaykey", &name, "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    }

    // The leader goes; the next one has them all, and must hear of none twice.
    let third = start_as(plane.kubeconfig(), replica(plane, &namespace, "operator-2").await).await;
    *at.lock().unwrap() = third.push;
    drop(stays);
    first.kill();
    for (name, number) in [("late-0", 20), ("late-1", 21)] {
        plane.apply(&relay_key(&namespace, name, number));
        plane.kubectl(&["wait", "relaykey", name, "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    }
    let bad = get(plane, &namespace, "relaykey/bad");
    assert_eq!(reason(&bad, "Programmed"), "Nacked");
    assert_eq!(events(plane, &namespace, "Nacked"), ["bad"], "it was told once, so it was never taken back");
    witness.assert_never_less_ready_than_before();
    third.stop().await;
}

/// A DataPlane of these service accounts that selects objects with a label.
fn data_plane(namespace: &str, name: &str, accounts: &str, selector: &str) -> String {
    format!(
        "apiVersion: llmrelay.io/v1alpha1
kind: DataPlane
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{serviceAccounts: [{accounts}], selector: {selector}}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_says_how_its_pods_are_and_an_object_of_no_data_plane_that_it_serves_nowhere() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let labels = ["label", "hosts,models,hostkeys,relaykeys,policies", "--all", "-n", &namespace, "tier=gold"];
    plane.kubectl(&labels);
    plane.apply(&data_plane(&namespace, "gold", "{name: gold}", "{matchLabels: {tier: gold}}"));
    plane.apply(&data_plane(&namespace, "none", "{name: none}", "{matchLabels: {tier: lead}}"));
    plane.apply(&relay_key(&namespace, "plain", 7));
    let (leader, other) = replicas(plane, &namespace).await;
    let nothing = until_reason(plane, &namespace, "dataplane/none", "Ready", "NoDataPlane");
    let message = condition(&nothing, "Ready")["message"].as_str().unwrap();
    assert!(message.starts_with("spec.selector selects no object"), "{message}");
    let lonely = until_reason(plane, &namespace, "dataplane/gold", "Ready", "NoDataPlane");
    assert_eq!(condition(&lonely, "Ready")["message"], "no pod of this fleet is connected");

    let _near = connected_as(plane, &leader, &namespace, "gold", "near").await;
    let far = connected_as(plane, &other, &namespace, "gold", "far").await;
    plane.kubectl(&["wait", "dataplane/gold", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    wait_for(plane, &namespace, "dataplane/gold", "{.status.pods.current}=2");
    let gold = get(plane, &namespace, "dataplane/gold");
    let counts = serde_json::json!({"connected": 2, "current": 2, "lagging": 0, "nacked": 0, "stale": 0});
    assert_eq!(gold["status"]["pods"], counts);
    assert_eq!(gold["status"]["observedGeneration"], gold["metadata"]["generation"]);
    plane.kubectl(&["wait", "relaykey/app", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    let plain = until_reason(plane, &namespace, "relaykey/plain", "Programmed", "NoDataPlane");
    let message = condition(&plain, "Programmed")["message"].as_str().unwrap();
    assert_eq!(message, "no DataPlane selects this object: nothing serves by it");
    let columns = plane.kubectl(&["get", "dataplane", "gold", "-n", &namespace, "--no-headers"]);
    let columns: Vec<&str> = columns.split_whitespace().take(6).collect();
    assert_eq!(columns, ["gold", "2", "2", "0", "0", "True"]);

    far.refuses.lock().unwrap().push(ObjectRef::new(&namespace, "bad"));
    plane.apply(&relay_key(&namespace, "bad", 8));
    plane.kubectl(&["label", "relaykey", "bad", "-n", &namespace, "tier=gold"]);
    let gold = until_reason(plane, &namespace, "dataplane/gold", "Programmed", "Nacked");
    let nack = serde_json::json!({
        "kind": "RelayKey", "namespace": namespace, "name": "bad", "pods": 1, "message": "not usable here",
    });
    assert_eq!(gold["status"]["nacks"], serde_json::json!([nack]));
    assert_eq!(gold["status"]["pods"]["nacked"], 1);
    other.stop().await;
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_taken_out_of_a_data_plane_is_served_no_more() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&data_plane(&namespace, "edge", "{name: stays}, {name: goes}", "{}"));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let app = ObjectRef::new(&namespace, "app");
    let mut stays = connected_as(plane, &operator, &namespace, "stays", "stays").await;
    let mut goes = connected_as(plane, &operator, &namespace, "goes", "goes").await;
    let begun = stays.until("it is served", |_, table| crate::support::has_key(table, &app)).await;
    goes.until("it is served", |_, table| crate::support::has_key(table, &app)).await;
    plane.apply(&data_plane(&namespace, "edge", "{name: stays}", "{}"));
    goes.is_turned_away("service account `goes`").await;
    wait_for(plane, &namespace, "dataplane/edge", "{.status.pods.connected}=1");
    plane.apply(&relay_key(&namespace, "late", 5));
    let late = ObjectRef::new(&namespace, "late");
    let state = stays.until("it is told more", |_, table| crate::support::has_key(table, &late)).await;
    assert_eq!(state.streams, begun.streams, "who belongs as before keeps its stream");
    assert!(goes.until("it stands", |_, _| true).await.trouble.is_some());
    operator.stop().await;
}

fn out(namespace: &str, class: &str) -> Report {
    let until_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap() + 300_000;
    let host_key = format!("{namespace}/main");
    let breaker = Breaker { host_key, state: BreakerState::Open.into(), reason: class.to_owned(), until_ms };
    Report { breakers: vec![breaker], ..Report::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_data_planes_do_not_draw_are_said_to_be_out_and_later_to_be_back() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let (leader, other) = replicas(plane, &namespace).await;
    let near = connected(plane, &leader, &namespace, "near").await;
    let far = connected(plane, &other, &namespace, "far").await;
    wait(plane, &namespace, KINDS, "Ready");
    assert_eq!(condition(&get(plane, &namespace, "hostkey/main"), "Healthy")["status"], "True");

    let begun = Instant::now();
    far.reports.send_replace(out(&namespace, "auth"));
    wait_for(plane, &namespace, "hostkey/main", "{.status.breaker.state}=Partial");
    let key = get(plane, &namespace, "hostkey/main");
    let breaker = &key["status"]["breaker"];
    assert_eq!((&breaker["class"], &breaker["openPods"], &breaker["pods"]), (&"auth".into(), &1.into(), &2.into()));
    assert!(breaker["until"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());
    assert_eq!(reason(&key, "Healthy"), "NoHealthyKey");
    assert_eq!(reason(&key, "Ready"), "Ready", "another data plane draws it");
    wait_for(plane, &namespace, "host/openai", "{.status.breaker.state}=Partial");
    assert_eq!(get(plane, &namespace, "host/openai")["status"]["keys"]["open"], 1);
    eventually("it is told", || (events(plane, &namespace, "BreakerOpened") == ["main"]).then_some(())).await;

    // The same everywhere: nobody can use it, and somebody has to do something. Said half a minute later.
    near.reports.send_replace(out(&namespace, "auth"));
    wait_for(plane, &namespace, "hostkey/main", "{.status.breaker.state}=Open");
    assert!(begun.elapsed() > Duration::from_secs(25), "at most every half a minute: {:?}", begun.elapsed());
    assert_eq!(reason(&get(plane, &namespace, "hostkey/main"), "Ready"), "NoHealthyKey");

    for pod in [&near, &far] {
        pod.reports.send_replace(Report::default());
    }
    wait_for(plane, &namespace, "hostkey/main", "{.status.breaker.state}=Closed");
    plane.kubectl(&["wait", "hostkey/main", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    eventually("it is told", || (events(plane, &namespace, "BreakerClosed") == ["main"]).then_some(())).await;
    assert_eq!(events(plane, &namespace, "BreakerOpened"), ["main"]);
    wait_for(plane, &namespace, "host/openai", "{.status.breaker.state}=Closed");
    other.stop().await;
    leader.stop().await;
}
