//! What an operator of a real cluster pushes reaches data planes that show tokens of their pods, and nobody else.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use feed::{
    client::{About, Client, State, Times},
    connect::Connector,
    replica::{Refused, Update},
    rows::Kind,
    wire::Report,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret as SecretObject};
use kube::Api;
use operator::push::{AUDIENCE, authority};
use plane::{Account, Plane, PodObject};
use table::{Credentials, ObjectRef, RoutingTable, Secret};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{Running, has_key, manifests, relay_key, start, start_with};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data plane that is connected, or tries to be, until it is dropped.
pub(crate) struct DataPlane {
    state: watch::Receiver<State>,
    pub(crate) table: Arc<Mutex<RoutingTable>>,
    pub(crate) credentials: Arc<Mutex<Credentials>>,
    /// What it reports.
    pub(crate) reports: watch::Sender<Report>,
    /// Nothing is put into effect while this is held.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    /// Relay keys that it cannot use.
    pub(crate) refuses: Arc<Mutex<Vec<ObjectRef>>>,
    _stop: DropGuard,
}

/// Who a data plane is, and what it shows.
#[derive(Clone)]
struct Wish {
    /// Where the operator is, which may change.
    at: Arc<Mutex<SocketAddr>>,
    /// The namespace of the operator.
    own: String,
    namespace: String,
    pod: PodObject,
    token: String,
    trust: Arc<Mutex<String>>,
}

impl Wish {
    async fn of(operator: &Running, namespace: &str, account: &Account<'_>, pod: &str, bundle: &str) -> Self {
        let pod = account.pod(pod).await;
        let token = account.bound_token(&pod, AUDIENCE).await;
        let trust = Arc::new(Mutex::new(bundle.to_owned()));
        let (own, at) = (namespace.to_owned(), Arc::new(Mutex::new(operator.push)));
        Self { at, own, namespace: namespace.to_owned(), pod, token, trust }
    }

    fn start(&self) -> DataPlane {
        let Self { at, own, namespace, pod, token, trust } = self.clone();
        let name = format!("relay-operator.{own}.svc");
        let read = move || -> io::Result<Vec<u8>> { Ok(trust.lock().unwrap().clone().into_bytes()) };
        let token = move || Ok(Secret::new(token.clone()));
        let dial = move || {
            let at = *at.lock().unwrap();
            TcpStream::connect(at)
        };
        let connector = Connector::new(&name, dial, read, token).unwrap();
        let about = About { pod: pod.name, pod_uid: pod.uid, namespace, ..About::default() };
        let table = Arc::new(Mutex::new(RoutingTable::default()));
        let credentials = Arc::new(Mutex::new(Credentials::default()));
        let (applied, opening) = (table.clone(), credentials.clone());
        let times = Times { backoff_most: Duration::from_millis(500), ..Times::default() };
        let (gate, refuses) = (Arc::<tokio::sync::Mutex<()>>::default(), Arc::<Mutex<Vec<ObjectRef>>>::default());
        let (held, refused) = (gate.clone(), refuses.clone());
        let client = Client::new(about, times, connector, move |update: Update| {
            let _open = held.blocking_lock();
            let is_bad = |id: &&ObjectRef| has_key(&update.table, id);
            let bad: Vec<_> = refused.lock().unwrap().iter().filter(is_bad).map(refusal).collect();
            if !bad.is_empty() {
                return Err(bad);
            }
            *applied.lock().unwrap() = update.table;
            *opening.lock().unwrap() = update.credentials;
            Ok(())
        });
        let (state, reports, stop) = (client.state(), client.reports(), CancellationToken::new());
        tokio::spawn(client.run(stop.clone()));
        DataPlane { state, table, credentials, reports, gate, refuses, _stop: stop.drop_guard() }
    }
}

fn refusal(id: &ObjectRef) -> Refused {
    Refused { kind: Kind::RelayKeys, key: id.to_string(), code: "Unusable".into(), message: "not usable here".into() }
}

impl DataPlane {
    pub(crate) async fn until(&mut self, what: &str, is_such: impl Fn(&State, &RoutingTable) -> bool) -> State {
        let table = self.table.clone();
        let such = self.state.wait_for(|state| is_such(state, &table.lock().unwrap()));
        let seen = timeout(PATIENCE, such).await.map(|seen| seen.unwrap().clone());
        seen.unwrap_or_else(|_| panic!("waited in vain until {what}: {:?}", *self.state.borrow()))
    }

    /// Waits until it is told that it may not have anything, whatever it has.
    pub(crate) async fn is_turned_away(&mut self, words: &str) {
        let says = |state: &State| state.trouble.as_ref().is_some_and(|trouble| trouble.contains(words));
        self.until(&format!("it is turned away because {words}"), |state, _| says(state)).await;
    }

    pub(crate) async fn is_refused(&mut self, words: &str) {
        let says = |state: &State| state.trouble.as_ref().is_some_and(|trouble| trouble.contains(words));
        let state = self.until(&format!("it is refused because {words}"), |state, _| says(state)).await;
        assert_eq!((state.root, state.snapshots), (None, 0));
    }
}

/// A data plane as a pod of the operator's namespace, connected to it or about to be.
pub(crate) async fn connected(plane: &Plane, operator: &Running, own: &str, pod: &str) -> DataPlane {
    let account = plane.service_account(own, "relay-dataplane").await;
    let trust = bundle(plane, own, |_| true).await;
    Wish::of(operator, own, &account, pod, &trust).await.start()
}

/// As [`connected`], as a pod of another service account.
pub(crate) async fn connected_as(plane: &Plane, operator: &Running, own: &str, account: &str, pod: &str) -> DataPlane {
    let account = plane.service_account(own, account).await;
    let trust = bundle(plane, own, |_| true).await;
    Wish::of(operator, own, &account, pod, &trust).await.start()
}

/// As [`connected`], as a pod of some account in a namespace that is not the operator's, trusting what is said in the
/// operator's.
pub(crate) async fn beside(plane: &Plane, operator: &Running, own: &str, namespace: &str, pod: &str) -> DataPlane {
    let account = plane.service_account(namespace, "web").await;
    let trust = bundle(plane, own, |_| true).await;
    let wish = Wish::of(operator, namespace, &account, pod, &trust).await;
    Wish { own: own.to_owned(), ..wish }.start()
}

/// As [`connected`], to whichever operator is at that place when it connects.
pub(crate) async fn follower(plane: &Plane, at: &Arc<Mutex<SocketAddr>>, own: &str, pod: &str) -> DataPlane {
    let account = plane.service_account(own, "relay-dataplane").await;
    let trust = Arc::new(Mutex::new(bundle(plane, own, |_| true).await));
    let pod = account.pod(pod).await;
    let token = account.bound_token(&pod, AUDIENCE).await;
    Wish { at: at.clone(), own: own.to_owned(), namespace: own.to_owned(), pod, token, trust }.start()
}

/// The bundle of a namespace, once it is such.
pub(crate) async fn bundle(plane: &Plane, namespace: &str, is_such: impl Fn(&str) -> bool) -> String {
    let bundles: Api<ConfigMap> = Api::namespaced(plane.client().await, namespace);
    let look = async {
        loop {
            let found = bundles.get_opt("relay-push-ca").await.unwrap();
            let bundle = found.and_then(|found| found.data?.remove("ca.crt"));
            match bundle.filter(|bundle| is_such(bundle)) {
                Some(bundle) => return bundle,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, look).await.expect("the operator says whom to trust")
}

#[tokio::test(flavor = "multi_thread")]
async fn data_planes_of_pods_get_the_table_its_changes_and_revocations() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let account = plane.service_account(&namespace, "relay-dataplane").await;
    let trust = bundle(plane, &namespace, |_| true).await;
    let (app, late) = (ObjectRef::new(&namespace, "app"), ObjectRef::new(&namespace, "late"));

    let mut data_planes = Vec::new();
    for pod in ["pod-0", "pod-1"] {
        let mut data_plane = Wish::of(&operator, &namespace, &account, pod, &trust).await.start();
        let state = data_plane
            .until("the first table is there", |state, table| state.snapshots > 0 && has_key(table, &app))
            .await;
        assert_eq!((state.snapshots, state.deltas), (1, 0));
        data_planes.push(data_plane);
    }
    plane.apply(&relay_key(&namespace, "late", 1));
    for data_plane in &mut data_planes {
        let state =
            data_plane.until("a change is there", |state, table| state.deltas > 0 && has_key(table, &late)).await;
        assert_eq!(state.snapshots, 1, "a change is no reason to send everything");
    }
    let patch = ["patch", "relaykey", "late", "-n", &namespace, "--type=merge", "-p", r#"{"spec":{"revoked":true}}"#];
    plane.kubectl(&patch);
    let is_revoked =
        |table: &RoutingTable| table.relay_keys.get(&late).and_then(table::Row::usable).is_some_and(|key| key.revoked);
    for data_plane in &mut data_planes {
        let state = data_plane.until("the revocation is there", |_, table| is_revoked(table)).await;
        assert_eq!(state.snapshots, 1);
    }
    let wait = ["wait", "-n", &namespace, "--for=condition=Programmed", "--timeout=60s", "relaykey/app"];
    plane.kubectl(&wait);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_something_else_or_of_another_pod_gets_nothing() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let account = plane.service_account(&namespace, "relay-dataplane").await;
    let trust = bundle(plane, &namespace, |_| true).await;
    let good = Wish::of(&operator, &namespace, &account, "good", &trust).await;
    good.start().until("a good one is served", |state, _| state.root.is_some()).await;

    let token = account.bound_token(&good.pod, "https://kubernetes.default.svc").await;
    Wish { token, ..good.clone() }.start().is_refused("not for the audience `relay-push.llmrelay.io`").await;
    let other = account.pod("other").await;
    Wish { pod: other.clone(), ..good.clone() }.start().is_refused("the token is of pod `good`").await;
    let impostor = PodObject { uid: other.uid, ..good.pod.clone() };
    Wish { pod: impostor, ..good.clone() }.start().is_refused("the token is of pod UID").await;
    let stranger = plane.service_account(&namespace, "stranger").await;
    let stranger = Wish::of(&operator, &namespace, &stranger, "stranger", &trust).await;
    stranger.start().is_refused("service account `stranger`").await;
    let untrusting = Wish { trust: Arc::default(), ..good.clone() };
    untrusting.start().is_refused("holds no certificate").await;
    let stranger = authority::Authorities::new(jiff::Timestamp::now(), &authority::Times::default()).unwrap();
    let foreign = Arc::new(Mutex::new(stranger.bundle()));
    Wish { trust: foreign, ..good.clone() }.start().is_refused("the TLS handshake").await;
    let refusals = [
        "push_refused_total{reason=\"unauthenticated\"}",
        "push_refused_total{reason=\"forbidden\"}",
        "push_refused_total{reason=\"handshake\"}",
        "token_reviews_total{result=\"refused\"}",
    ];
    // Who refuses a handshake knows of it before the operator does.
    let metrics = scraped(&operator, |metrics| refusals.iter().all(|refusal| value(metrics, refusal) >= 1.0)).await;
    assert_eq!(value(&metrics, "push_refused_total{reason=\"malformed\"}"), 0.0, "{metrics}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_gets_what_it_selects_and_only_who_it_names() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let account = plane.service_account(&namespace, "edge").await;
    let trust = bundle(plane, &namespace, |_| true).await;
    let wish = Wish::of(&operator, &namespace, &account, "pod-0", &trust).await;
    wish.start().is_refused("service account `edge`").await;
    plane.apply(&format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: edge, namespace: {namespace}}}, \
         spec: {{serviceAccounts: [{{name: edge}}], selector: {{matchLabels: {{tier: gold}}}}}}}}"
    ));
    let mut edge = wish.start();
    edge.until("it is served", |state, _| state.root.is_some()).await;
    assert!(edge.table.lock().unwrap().relay_keys.is_empty(), "no key has the label");
    plane.kubectl(&["label", "relaykey", "app", "-n", &namespace, "tier=gold"]);
    let app = ObjectRef::new(&namespace, "app");
    edge.until("the key is there", |_, table| table.relay_keys.contains_key(&app)).await;
    assert!(edge.table.lock().unwrap().hosts.is_empty(), "no host has the label");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_changes_while_data_planes_are_connected() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let times = authority::Times {
        authority: Duration::from_secs(24),
        leaf: Duration::from_secs(12),
        serving: Duration::from_secs(12),
        overlap: Duration::from_secs(2),
        look: Duration::from_millis(100),
    };
    let operator = start_with(plane.kubeconfig(), &[&namespace], times).await;
    let account = plane.service_account(&namespace, "relay-dataplane").await;
    let first = bundle(plane, &namespace, |_| true).await;
    let wish = Wish::of(&operator, &namespace, &account, "early", &first).await;
    let mut early = wish.start();
    let begun = early.until("it is served", |state, _| state.snapshots > 0).await;

    let both = bundle(plane, &namespace, |bundle| bundle.matches("BEGIN").count() == 2 && *bundle != first).await;
    assert!(both.contains(&first), "who signs now is trusted on");
    let second = bundle(plane, &namespace, |bundle| !bundle.contains(&first)).await;
    // A data plane that has read the bundle anew gets in, one that never did does not.
    let new = Wish { trust: Arc::new(Mutex::new(second)), ..wish.clone() };
    new.start().until("it trusts the new one", |state, _| state.root.is_some()).await;
    wish.start().is_refused("the TLS handshake").await;
    plane.apply(&relay_key(&namespace, "late", 1));
    let late = ObjectRef::new(&namespace, "late");
    let state = early.until("a change arrives on the old stream", |_, table| has_key(table, &late)).await;
    assert_eq!((state.streams, state.snapshots), (begun.streams, 1), "no stream ends because somebody else signs");
    let secrets: Api<SecretObject> = Api::namespaced(plane.client().await, &namespace);
    assert!(secrets.get("relay-push-authority").await.is_ok());
    operator.stop().await;
}

/// The value of a sample; its name lacks the prefix of all.
pub(crate) fn value(metrics: &str, sample: &str) -> f64 {
    let name = format!("relay_operator_{sample} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().unwrap()
}

/// The metrics of an operator, once they are such.
async fn scraped(operator: &Running, is_such: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let (_, metrics) = operator.ask("/metrics").await;
        if is_such(&metrics) {
            return metrics;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for other metrics: {metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_on_the_push_port_and_what_was_sent_can_be_scraped() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let mut data_plane = connected(plane, &operator, &namespace, "pod-0").await;
    data_plane.until("it is served", |state, _| state.snapshots > 0).await;
    plane.apply(&relay_key(&namespace, "late", 1));
    data_plane.until("a change is there", |state, _| state.deltas > 0).await;
    // The acknowledgement is on its way.
    let is_current = |metrics: &str| value(metrics, "push_data_planes{fleet=\"\",state=\"current\"}") == 1.0;
    let metrics = scraped(&operator, is_current).await;
    for (sample, expected) in [
        ("push_streams{fleet=\"\"}", 1.0),
        ("push_data_planes{fleet=\"\",state=\"lagging\"}", 0.0),
        ("push_data_planes{fleet=\"\",state=\"nacked\"}", 0.0),
        ("push_updates_total{kind=\"snapshot\"}", 1.0),
        ("push_updates_total{kind=\"delta\"}", 1.0),
        ("push_refused_total{reason=\"forbidden\"}", 0.0),
        ("push_rebalances_total{reason=\"token\"}", 0.0),
        ("token_reviews_total{result=\"good\"}", 1.0),
        ("token_review_seconds_count", 1.0),
        ("push_bundles{state=\"said\"}", 1.0),
        ("push_bundles{state=\"failing\"}", 0.0),
    ] {
        assert_eq!(value(&metrics, sample), expected, "{sample}");
    }
    assert!(value(&metrics, "push_update_bytes_total{kind=\"snapshot\"}") > 100.0);
    assert!(value(&metrics, "push_update_bytes_total{kind=\"delta\"}") > 50.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let [leaf, authority] =
        ["certificate", "authority"].map(|of| value(&metrics, &format!("push_{of}_expiry_timestamp_seconds")) - now);
    assert!((23.0..24.1).contains(&(leaf / 3600.0)), "{leaf}");
    assert!((364.0..365.1).contains(&(authority / 86400.0)), "{authority}");

    // It is asked to come anew, and does, where fleets change.
    plane.apply(&format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: edge, namespace: {namespace}}}, spec: {{}}}}"
    ));
    scraped(&operator, |metrics| {
        metrics.lines().any(|line| line == "relay_operator_push_streams{fleet=\"edge\"} 1")
            && value(metrics, "push_rebalances_total{reason=\"spread\"}") == 1.0
    })
    .await;
    operator.stop().await;
}
