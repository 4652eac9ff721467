//! Settings of the fleet's DataPlane: they come with a table, win over the flags, and hold in a process that runs.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use support::{
    client::{Ask, Whole},
    operator::{Follower, Site, until},
    relay::{Loopback, TestRelay, config},
    tables::Tables,
    upstream::{Act, Gate, Script, Upstream},
    wire,
};
use table::{PodSettings, WireShape::OpenaiChat};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(60);

/// A table with the model `m` and these settings.
fn serving(upstream: &Upstream, pods: PodSettings) -> Tables {
    let mut tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    tables.table.settings.pods = pods;
    tables
}

fn install(relay: &TestRelay, tables: Tables) {
    relay.installer.install(tables.table, tables.credentials);
}

#[tokio::test]
async fn the_largest_body_and_the_most_requests_in_flight_change_with_the_table() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request| {
        let Script(good) = wire::good(OpenaiChat, request, "hi");
        Script([vec![Act::Gate(held.clone())], good].concat())
    })
    .await;
    let relay = TestRelay::start(serving(&upstream, PodSettings::default())).await;
    let small = PodSettings { body_limit: Some(1_024), max_in_flight: Some(1), ..PodSettings::default() };
    install(&relay, serving(&upstream, small));
    let large = Ask::openai("m").with("padding", json!("x".repeat(2_000)));
    let refused = relay.ask(&large).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(wire::message_of(OpenaiChat, &refused).contains("1024 bytes"), "{}", refused.text());

    let mut connection = relay.connect().await;
    let first = tokio::spawn(async move { connection.ask(&Ask::openai("m")).await });
    while upstream.count() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = relay.ask(&Ask::openai("m")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(wire::message_of(OpenaiChat, &refused).contains("intake.maxInFlight"), "{}", refused.text());
    // Without settings the flags hold again.
    install(&relay, serving(&upstream, PodSettings::default()));
    gate.open();
    assert_eq!(relay.ask(&large).await.status, 200);
    assert_eq!(first.await.expect("no panic").expect("an answer").status, 200);
}

/// How long a stream that never ends lives after the process is told to stop, with flags that would let it live on; and
/// what `later` does after that moment.
async fn cut_after(pods: PodSettings, later: impl FnOnce(&TestRelay, &Upstream)) -> (Duration, Whole) {
    let upstream = Upstream::start(|_| {
        let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
        Script::stream().chunks(begun).then(Act::Stall)
    })
    .await;
    let mut flags = config();
    flags.drain_grace = Duration::from_secs(600);
    let tables = serving(&upstream, PodSettings::default());
    let mut relay = TestRelay::start_with(tables, flags, Arc::new(Loopback)).await;
    let mut answer = relay.send(&Ask::openai("m").streamed()).await;
    answer.until("hel").await;
    install(&relay, serving(&upstream, pods));
    relay.shut_down();
    let told = Instant::now();
    while relay.admin("/readyz").await.0 == 200 {}
    later(&relay, &upstream);
    let rest = timeout(SOON, answer.whole()).await.expect("it ends");
    (told.elapsed(), rest)
}

#[tokio::test]
async fn a_stream_is_ended_after_the_grace_that_the_fleet_sets() {
    let grace = Duration::from_millis(400);
    let (took, rest) = cut_after(PodSettings { drain_grace: Some(grace), ..PodSettings::default() }, |_, _| {}).await;
    assert_eq!(wire::errors_of(OpenaiChat, &rest).len(), 1, "{}", rest.text());
    assert!(took >= grace, "{took:?}");
}

#[tokio::test]
async fn a_grace_that_is_shortened_while_the_process_stops_holds_at_once() {
    let shorten = |relay: &TestRelay, upstream: &Upstream| {
        let grace = Some(Duration::from_millis(1));
        install(relay, serving(upstream, PodSettings { drain_grace: grace, ..PodSettings::default() }));
    };
    let (_, rest) = cut_after(PodSettings::default(), shorten).await;
    assert_eq!(wire::errors_of(OpenaiChat, &rest).len(), 1, "{}", rest.text());
}

fn stale_after(seconds: u64) -> PodSettings {
    PodSettings { max_staleness: Some(Duration::from_secs(seconds)), ..PodSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_given_up_when_the_fleet_says_and_not_when_the_flag_does() {
    let (site, upstream) = (Site::new(), Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await);
    let operator = site.operator().await;
    operator.publish(1, &serving(&upstream, PodSettings::default()));
    let mut follow = site.follow(operator.address);
    follow.max_staleness = Some(Duration::from_secs(3_600));
    let follower = Follower::start(&follow).await;
    follower.ready().await;
    assert_eq!(follower.feed().await["maxStalenessSeconds"], 3_600);
    operator.publish(2, &serving(&upstream, stale_after(2)));
    operator.pod(|pod| pod.revision == 2).await;
    assert_eq!(follower.feed().await["maxStalenessSeconds"], 2);
    operator.kill().await;
    let refused =
        until("it is still served", async || Some(follower.ask("m").await).filter(|answer| answer.status != 200));
    let refused = refused.await;
    assert_eq!((refused.status, follower.readiness().await), (503, 503));
    assert!(refused.text().contains("push.maxStaleness"), "{}", refused.text());
}

/// Whether a data plane with this flag that starts without its operator uses the copy of a table with these settings.
async fn is_ready_from_a_copy(pods: PodSettings, flag: Option<Duration>) -> (bool, String) {
    let (site, upstream) = (Site::new(), Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await);
    let operator = site.operator().await;
    operator.publish(1, &serving(&upstream, pods));
    let mut follow = site.follow(operator.address);
    let follower = Follower::start(&follow).await;
    // It may be too old to be served at once.
    until("it has a table", async || follower.feed().await["root"].is_string().then_some(())).await;
    follower.stop().await;
    operator.kill().await;
    follow.max_staleness = flag;
    let follower = Follower::start(&follow).await;
    (follower.readiness().await == 200, follower.feed().await["refusedCopies"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_copy_is_too_old_is_for_the_settings_in_it_to_say() {
    let (is_ready, refused) = is_ready_from_a_copy(stale_after(0), Some(Duration::from_secs(3_600))).await;
    assert!(!is_ready && refused.contains("push.maxStaleness of the DataPlane allows 0 s"), "{refused}");
    let (is_ready, refused) = is_ready_from_a_copy(stale_after(3_600), Some(Duration::ZERO)).await;
    assert!(is_ready, "{refused}");
}
