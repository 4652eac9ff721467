//! What goes on while something that others need is away, and afterwards.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use plane::Plane;
use serde_json::json;
use site::{Ask, DataPlane, Load, Operator, Site, Upstream, relay_key, routes, until};

use crate::census::{self, is_full, token};

/// How long something is away.
fn outage() -> Duration {
    if is_full() { Duration::from_secs(60) } else { Duration::from_secs(5) }
}

/// A site on an API server of its own, which the test may stop.
struct Scene<'a> {
    site: Site<'a>,
    client: Client,
    upstream: Upstream,
}

impl<'a> Scene<'a> {
    async fn on(plane: &'a Plane) -> Self {
        Self { site: Site::on(plane, &[]).await, client: plane.client().await, upstream: Upstream::start().await }
    }

    /// Routes, a minted key, and keys with tokens of their own.
    async fn furnish(&self, keys: &[&str]) {
        self.site.apply(&(routes(&self.upstream.url()) + &relay_key("steady")));
        self.add(keys).await;
    }

    async fn add(&self, keys: &[&str]) {
        let keys = keys.iter().map(|name| census::relay_key(name, "all", &token(name))).collect();
        census::create(&self.client, &self.site.namespace, keys).await;
    }

    async fn revoke(&self, key: &str) {
        let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
        let keys = census::api(&self.client, &self.site.namespace, "RelayKey");
        keys.patch(key, &PatchParams::default(), &patch).await.expect("a key is revoked");
    }

    /// Waits until all objects say that they are in effect, or revoked, as they are.
    async fn settled(&self) {
        census::converged(&self.client, &self.site.namespace, |said| {
            said.is_current() && said.condition("Revoked").is_some()
        })
        .await;
    }

    fn steady(&self) -> Ask {
        Ask::openai("openai", &self.site.secret("steady", "token"))
    }
}

fn ask(key: &str) -> Ask {
    Ask::openai("openai", &token(key))
}

/// Waits until a data plane answers the holder of a key like this.
async fn answers(pod: &DataPlane, key: &str, status: u16) {
    let ask = ask(key);
    let looks = async || (pod.ask(&ask).await.status == status).then_some(());
    until(&format!("{} answers the holder of `{key}` with {status}", pod.pod.name), looks).await;
}

/// Waits until a data plane hangs on an operator.
async fn hangs_on(pod: &DataPlane, operator: &str) {
    let looks = async || {
        // The admin port is there a moment before the feed.
        let answer = pod.daemon.admin("/debug/feed").await.ok().filter(|answer| answer.status == 200)?;
        (answer.json()["operator"] == operator).then_some(())
    };
    until(&format!("{} hangs on {operator}", pod.pod.name), looks).await;
}

/// Kills a data plane and starts it again; gives how long it took until it was ready.
async fn restart(pod: &mut DataPlane) -> Duration {
    // A copy is sealed at most every 10 s: this one has to hold what was in effect last.
    tokio::time::sleep(Duration::from_secs(11)).await;
    pod.daemon.kill();
    let begun = Instant::now();
    pod.daemon.restart().await;
    pod.daemon.ready().await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_not_noticed_by_applications() {
    let Some(plane) = Plane::start() else { return };
    let scene = Scene::on(&plane).await;
    let mut operators = scene.site.operators(2, &[]).await;
    scene.furnish(&["early", "doomed"]).await;
    let (steadfast, mut restarted) = (scene.site.data_plane("pod-0").await, scene.site.data_plane("pod-1").await);
    scene.settled().await;
    let load = Load::start(&scene.steady(), &[steadfast.address], Duration::from_millis(20), 200);

    let gone = Instant::now();
    plane.kill_api();
    let took = restart(&mut restarted).await;
    assert_eq!(restarted.ask(&ask("early")).await.status, 200, "the sealed copy is in effect");
    // An operator that starts meanwhile knows nothing, and so says nothing.
    operators[0].daemon.kill();
    operators[0].daemon.restart().await;
    tokio::time::sleep(outage().saturating_sub(gone.elapsed())).await;
    assert_eq!(steadfast.ask(&ask("early")).await.status, 200);
    assert_eq!(restarted.ask(&ask("early")).await.status, 200);
    plane.start_api();
    let back = Instant::now();
    scene.revoke("doomed").await;
    scene.add(&["late"]).await;
    for pod in [&steadfast, &restarted] {
        answers(pod, "late", 200).await;
        answers(pod, "doomed", 401).await;
    }
    let in_effect = back.elapsed();
    scene.settled().await;
    println!(
        "away for {:?}; a data plane restarted in {took:?}; changes in effect {in_effect:?} after the API server was ready, \
         said to be {:?} after; requests: {:?}",
        back.duration_since(gone),
        back.elapsed(),
        load.tally().answers
    );
    load.tally().assert_all(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_remembers_are_found_by_a_list() {
    let Some(plane) = Plane::start() else { return };
    let scene = Scene::on(&plane).await;
    let operators = scene.site.operators(1, &[]).await;
    let operator = &operators[0];
    scene.furnish(&["early", "doomed", "deleted"]).await;
    let pod = scene.site.data_plane("pod-0").await;
    scene.settled().await;
    let load = Load::start(&scene.steady(), &[pod.address], Duration::from_millis(20), 200);

    operator.daemon.process().freeze();
    // Nobody may deliver what happens now.
    plane.kill_api();
    plane.start_api();
    scene.revoke("doomed").await;
    scene.add(&["late"]).await;
    scene.site.kubectl(&["delete", "relaykey", "deleted"]);
    // A server that was started after the compaction remembers nothing of it.
    plane.stop_api();
    plane.compact();
    plane.start_api();
    operator.daemon.process().thaw();
    answers(&pod, "late", 200).await;
    answers(&pod, "doomed", 401).await;
    answers(&pod, "deleted", 401).await;
    scene.settled().await;
    let log = operator.daemon.process().log();
    let lists = log.matches("the server no longer knows what came since").count();
    println!("{lists} collections were listed again");
    assert!(lists > 0, "the server says 410 Gone");
    load.tally().assert_all(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_planes_serve_and_start_without_any_operator() {
    let Some(plane) = Plane::start() else { return };
    let scene = Scene::on(&plane).await;
    let mut operators = scene.site.operators(2, &[]).await;
    scene.furnish(&["early", "doomed", "revoked-before"]).await;
    let (steadfast, mut restarted) = (scene.site.data_plane("pod-0").await, scene.site.data_plane("pod-1").await);
    scene.settled().await;
    let load = Load::start(&scene.steady(), &[steadfast.address], Duration::from_millis(20), 200);

    let before = SystemTime::now();
    scene.revoke("revoked-before").await;
    answers(&restarted, "revoked-before", 401).await;
    let in_effect = SystemTime::now();
    // What takes something away is sealed at once, and not only with what comes in the next ten seconds.
    let sealed = restarted.pod.folder.join("kept/table.sealed");
    let written = async || fs::metadata(&sealed).ok()?.modified().ok().filter(|written| *written > before);
    let took_to_seal = until("the revocation is sealed", written).await.duration_since(in_effect).unwrap_or_default();
    assert!(took_to_seal < Duration::from_secs(5), "it did not wait for its turn: {took_to_seal:?}");
    let before = restarted.feed().await["root"].clone();
    operators.iter_mut().for_each(|operator: &mut Operator| operator.daemon.kill());
    let gone = Instant::now();
    let took = restart(&mut restarted).await;
    let feed = restarted.feed().await;
    assert_eq!((&feed["root"], &feed["restored"], &feed["stale"]), (&before, &true.into(), &true.into()), "{feed:#}");
    assert_eq!(restarted.ask(&ask("early")).await.status, 200);
    assert_eq!(restarted.ask(&ask("revoked-before")).await.status, 401);
    scene.revoke("doomed").await;
    scene.add(&["late"]).await;
    tokio::time::sleep(outage().saturating_sub(gone.elapsed())).await;
    assert_eq!(restarted.ask(&ask("early")).await.status, 200);
    for operator in &mut operators {
        operator.daemon.restart().await;
    }
    let back = Instant::now();
    for pod in [&steadfast, &restarted] {
        answers(pod, "late", 200).await;
        answers(pod, "doomed", 401).await;
    }
    let in_effect = back.elapsed();
    scene.settled().await;
    println!(
        "no operator for {:?}; a data plane restarted in {took:?}; changes in effect {in_effect:?} after operators lived, \
         said to be {:?} after; requests: {:?}",
        back.duration_since(gone),
        back.elapsed(),
        load.tally().answers
    );
    load.tally().assert_all(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_when_it_is_told_to_whatever_hangs() {
    let Some(plane) = Plane::start() else { return };
    let scene = Scene::on(&plane).await;
    let mut operators = scene.site.operators(1, &[]).await;
    let minted = (0..400).map(|n| census::minted_key(&format!("minted-{n}"))).collect();
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.site.namespace);
    let some = async || {
        let made = ListParams::default().labels("llmrelay.io/managed=true").limit(1);
        (!secrets.list(&made).await.ok()?.items.is_empty()).then_some(())
    };
    let namespace = &scene.site.namespace;
    tokio::join!(census::create(&scene.client, namespace, minted), until("the first token is made", some));
    plane.freeze_api();
    let told = Instant::now();
    operators[0].daemon.stop();
    println!("it ended within {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(50), "it waits for no more than what it has begun");
}

/// The replica that comes back is as far behind as one can be: it was stopped before the key was revoked, lost its watches
/// while it was stopped, and finds no API server when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_behind_cannot_bring_back_a_revoked_key() {
    let Some(plane) = Plane::start() else { return };
    let scene = Scene::on(&plane).await;
    let mut operators = scene.site.operators(2, &[]).await;
    scene.furnish(&["early", "doomed"]).await;
    let (old, new) = (operators[0].push, operators[1].push);
    // It knows the tokens of the data planes, which it could not ask about later.
    scene.site.service.lead_to(&[old]);
    let mut pods = [scene.site.data_plane("pod-0").await, scene.site.data_plane("pod-1").await];
    scene.settled().await;
    scene.site.service.lead_to(&[new]);
    for pod in &mut pods {
        restart(pod).await;
        hangs_on(pod, "operator-1").await;
    }
    operators[0].daemon.process().freeze();
    plane.kill_api();
    plane.start_api();
    scene.revoke("doomed").await;
    for pod in &pods {
        answers(pod, "doomed", 401).await;
    }
    plane.kill_api();

    // From here on it must never work again.
    let revoked = Load::start(&ask("doomed"), &[pods[0].address], Duration::from_millis(1), 401);
    let early = Load::start(&ask("early"), &[pods[0].address], Duration::from_millis(10), 200);
    scene.site.service.lead_to(&[old]);
    operators[1].daemon.kill();
    operators[0].daemon.process().thaw();
    hangs_on(&pods[0], "operator-0").await;
    // The other one has nothing but its sealed copy to know better by.
    pods[1].daemon.kill();
    pods[1].daemon.restart().await;
    let again = Load::start(&ask("doomed"), &[pods[1].address], Duration::from_millis(1), 401);
    hangs_on(&pods[1], "operator-0").await;
    let table = operators[0].daemon.admin("/debug/table").await.expect("it answers").text();
    assert!(!table.contains("\"revoked\": true"), "it has not heard of the revocation: {table}");
    tokio::time::sleep(outage() / 2).await;
    assert_eq!(pods[0].feed().await["operator"], "operator-0");

    plane.start_api();
    scene.add(&["late"]).await;
    for pod in &pods {
        answers(pod, "late", 200).await;
    }
    scene.settled().await;
    let (revoked, again) = (revoked.tally(), again.tally());
    println!("requests with the revoked key: {:?} and, after a restart, {:?}", revoked.answers, again.answers);
    revoked.assert_all(401);
    again.assert_all(401);
    early.tally().assert_all(200);
}
