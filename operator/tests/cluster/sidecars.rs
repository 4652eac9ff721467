//! What pods of a namespace that opted in get with their own tokens: what is their namespace's own, and nothing else.

use std::time::Duration;

use feed::wire::{Breaker, BreakerState, Report};
use plane::Plane;
use table::{Credential, ObjectRef};
use tokio::time::timeout;

use crate::{
    pushing::{DataPlane, beside, bundle, connected, value},
    support::{Running, config, has_key, manifests, relay_key, secret, start_as},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// An operator with sidecars, its own namespace and others with the same manifests, each with a provider key of its own.
async fn serving(plane: &Plane, namespaces: &[&str]) -> Running {
    plane.install_crds();
    for (number, namespace) in (100_u64..).zip(namespaces) {
        plane.apply(&manifests(namespace));
        // No two have one token.
        plane.apply(&relay_key(namespace, "app", number));
        plane.apply(&secret(namespace, "provider", &format!("sk-of-{namespace}")));
    }
    let mut config = config(namespaces);
    config.sidecars = true;
    start_as(plane.kubeconfig(), config).await
}

fn opts_in(plane: &Plane, namespace: &str) {
    plane.kubectl(&["label", "namespace", namespace, "llmrelay.io/inject=enabled"]);
}

/// Everything that a data plane was sent, in words; provider keys with their values. But for the catalog's namespace, by
/// which names are looked up.
fn dump(data_plane: &DataPlane) -> String {
    let mut table = data_plane.table.lock().unwrap().clone();
    table.settings.catalog_namespace.clear();
    let credentials = data_plane.credentials.lock().unwrap();
    let opened = credentials.host_keys.iter().map(|(id, credential)| match credential {
        Credential::Value(value) => format!("{id} {}", value.expose()),
        other => format!("{id} {other:?}"),
    });
    let opened: Vec<String> = opened.collect();
    let certificates: Vec<String> = credentials.client_certificates.keys().map(ToString::to_string).collect();
    format!("{} {opened:?} {certificates:?}", serde_json::to_string(&table).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_dumps_its_feed_finds_what_is_its_namespaces_own_and_nothing_of_another() {
    let Some(plane) = Plane::shared() else { return };
    let [own, team, other] = [(); 3].map(|()| plane.namespace());
    opts_in(plane, &team);
    let operator = serving(plane, &[&own, &team, &other]).await;
    plane.apply(&format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: RelayKey, metadata: {{name: counted, namespace: {team}}}, \
         spec: {{policyRefs: [{{name: all}}], tokenHash: 'sha256:{:064x}', limits: {{rpm: 5}}}}}}",
        7
    ));
    let mut fleet = connected(plane, &operator, &own, "pod-0").await;
    let [app, counted, late] = ["app", "counted", "late"].map(|name| ObjectRef::new(&team, name));
    let foreign = ObjectRef::new(&other, "app");
    fleet.until("the fleet has all keys", |_, table| has_key(table, &counted) && has_key(table, &foreign)).await;
    assert!(dump(&fleet).contains(&format!("sk-of-{other}")), "a dump shows what there is");

    let mut sidecar = beside(plane, &operator, &own, &team, "web-0").await;
    sidecar.until("its key is there", |_, table| has_key(table, &app)).await;
    let table = sidecar.table.lock().unwrap().clone();
    assert_eq!(table.relay_keys.keys().collect::<Vec<_>>(), [&app], "what is counted with others is not");
    assert_eq!(table.host_keys.keys().collect::<Vec<_>>(), [&ObjectRef::new(&team, "main")]);
    let dumped = dump(&sidecar);
    assert!(dumped.contains(&format!("sk-of-{team}")), "{dumped}");
    for of in [&own, &other] {
        assert!(!dumped.contains(of.as_str()), "of {of}: {dumped}");
    }

    plane.apply(&relay_key(&team, "late", 1));
    let state = sidecar.until("a change is there", |_, table| has_key(table, &late)).await;
    assert_eq!((state.snapshots, state.deltas), (1, 1), "a change is no reason to send everything");
    let before = state.root;
    plane.apply(&relay_key(&other, "elsewhere", 2));
    fleet.until("the fleet has it", |_, table| has_key(table, &ObjectRef::new(&other, "elsewhere"))).await;
    plane.apply(&secret(&team, "provider", &format!("sk-next-of-{team}")));
    let opens = format!("sk-next-of-{team}");
    let state = sidecar.until("the next change is there", |state, _| state.root != before).await;
    assert_eq!(state.deltas, 2, "what others have changed was not sent");
    assert!(dump(&sidecar).contains(&opens));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_opt_in_is_told_how_and_who_does_no_more_is_cut_off() {
    let Some(plane) = Plane::shared() else { return };
    let [own, team, unwatched] = [(); 3].map(|()| plane.namespace());
    opts_in(plane, &unwatched);
    let operator = serving(plane, &[&own, &team]).await;
    let mut sidecar = beside(plane, &operator, &own, &team, "web-0").await;
    sidecar.is_refused("does not have the label `llmrelay.io/inject: enabled`").await;
    let mut stranger = beside(plane, &operator, &own, &unwatched, "web-0").await;
    stranger.is_refused("is not watched by this operator").await;

    opts_in(plane, &team);
    bundle(plane, &team, |_| true).await;
    let app = ObjectRef::new(&team, "app");
    sidecar.until("it is served", |state, table| state.server.is_some() && has_key(table, &app)).await;
    plane.kubectl(&["label", "namespace", &team, "llmrelay.io/inject-"]);
    sidecar.is_turned_away("does not have the label `llmrelay.io/inject: enabled`").await;
    plane.apply(&relay_key(&team, "late", 1));
    plane.kubectl(&["wait", "-n", &team, "--for=condition=Accepted", "--timeout=60s", "relaykey/late"]);
    let streams = async {
        while value(&operator.ask("/metrics").await.1, "push_sidecars{}") > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, streams).await.expect("no stream is left");
    assert!(!has_key(&sidecar.table.lock().unwrap(), &ObjectRef::new(&team, "late")));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nobody_is_a_sidecar() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let [own, team] = [(); 2].map(|()| plane.namespace());
    opts_in(plane, &team);
    plane.apply(&manifests(&team));
    let operator = start_as(plane.kubeconfig(), config(&[&own, &team])).await;
    let mut sidecar = beside(plane, &operator, &own, &team, "web-0").await;
    sidecar.is_refused("sidecars are off, setting `--sidecars`").await;
    operator.stop().await;
}

/// A report that the provider refuses the key of a namespace.
fn out(namespace: &str) -> Report {
    let breaker = Breaker {
        host_key: format!("{namespace}/main"),
        state: BreakerState::Open.into(),
        reason: "auth".to_owned(),
        until_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap() + 600_000,
    };
    Report { breakers: vec![breaker], in_flight: 3, ..Report::default() }
}

/// One sidecar never answers, another says that the key at the provider is out.
#[tokio::test(flavor = "multi_thread")]
async fn what_sidecars_hold_refuse_and_report_changes_no_status() {
    let Some(plane) = Plane::shared() else { return };
    let [own, team] = [(); 2].map(|()| plane.namespace());
    opts_in(plane, &team);
    let operator = serving(plane, &[&own, &team]).await;
    plane.apply(&format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: edge, namespace: {own}}}, spec: {{}}}}"
    ));
    let mut fleet = connected(plane, &operator, &own, "pod-0").await;
    let app = ObjectRef::new(&team, "app");
    fleet.until("it is served", |_, table| has_key(table, &app)).await;
    let mut silent = beside(plane, &operator, &own, &team, "silent").await;
    silent.until("it is served", |_, table| has_key(table, &app)).await;
    let mut reporting = beside(plane, &operator, &own, &team, "reporting").await;
    reporting.until("it is served", |_, table| has_key(table, &app)).await;
    let held = silent.gate.clone();
    let _held = held.lock().await;
    reporting.refuses.lock().unwrap().push(ObjectRef::new(&team, "late"));
    reporting.reports.send_replace(out(&team));

    plane.apply(&relay_key(&team, "late", 1));
    reporting.until("it refuses the late key", |state, _| !state.rejections.is_empty()).await;
    plane.kubectl(&["wait", "-n", &team, "--for=condition=Programmed", "--timeout=60s", "relaykey/late"]);
    let wait = ["wait", "-n", &own, "--for=jsonpath={.status.pods.current}=1", "--timeout=60s", "dataplane/edge"];
    plane.kubectl(&wait);
    let status = plane.kubectl(&["get", "dataplane", "edge", "-n", &own, "-o", "jsonpath={.status}"]);
    assert!(status.contains("\"connected\":1") && !status.contains("\"nacks\""), "{status}");
    // A data plane of the fleet says the same, later, of another key, and of that one it is told.
    fleet.reports.send_replace(out(&own));
    let open = "--for=jsonpath={.status.breaker.state}=Open";
    plane.kubectl(&["wait", "-n", &own, open, "--timeout=60s", "hostkey/main"]);
    let of_key = plane.kubectl(&["get", "hostkey", "main", "-n", &team, "-o", "jsonpath={.status}"]);
    assert!(of_key.contains("conditions") && !of_key.contains("breaker"), "{of_key}");
    let (_, metrics) = operator.ask("/metrics").await;
    for (sample, expected) in [
        ("push_sidecars{}", 2.0),
        ("push_streams{fleet=\"edge\"}", 1.0),
        ("push_data_planes{fleet=\"edge\",state=\"lagging\"}", 0.0),
        ("push_data_planes{fleet=\"edge\",state=\"nacked\"}", 0.0),
    ] {
        assert_eq!(value(&metrics, sample), expected, "{sample}: {metrics}");
    }
    operator.stop().await;
}
