//! A data plane that follows an operator: what arrives is served, and what was served last goes on without one.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{fs, time::Duration};

use dataplane::{app, follow, meter::sinks::Target};
use servers::Redis;
use support::{
    operator::{Follower, Operator, Site, until},
    relay::config,
    tables::{Tables, named},
    upstream::Upstream,
    wire,
};
use table::{Credential, Row, Secret, WireShape::OpenaiChat};

/// One upstream that answers `hi`.
async fn upstream() -> Upstream {
    Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await
}

/// A table with one model of this name.
fn serving(model: &str, upstream: &Upstream) -> Tables {
    Tables::new().host("h", OpenaiChat, &upstream.url(), &["key-1"]).model(model, &["h"])
}

async fn text(follower: &Follower, model: &str) -> String {
    let answer = follower.ask(model).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    wire::text_of(OpenaiChat, false, &answer)
}

/// An operator, and a data plane that has a table with the model `m` from it.
async fn following(site: &Site, upstream: &Upstream) -> (Operator, Follower) {
    let operator = site.operator().await;
    operator.publish(10, &serving("m", upstream));
    let follower = Follower::start(&site.follow(operator.address)).await;
    follower.ready().await;
    (operator, follower)
}

/// A site whose data plane has served the model `m`, kept a copy, and stopped; and where its operator was.
async fn served_before(site: &Site, upstream: &Upstream) -> std::net::SocketAddr {
    let (operator, follower) = following(site, upstream).await;
    follower.stop().await;
    let address = operator.address;
    operator.kill().await;
    assert!(site.copy().exists());
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_table_makes_it_ready_and_a_delta_takes_effect() {
    let (site, upstream) = (Site::new(), upstream().await);
    let operator = site.operator().await;
    let follower = Follower::start(&site.follow(operator.address)).await;
    until("the stream", async || (follower.feed().await["operator"] == "operator-0").then_some(())).await;
    assert_eq!((follower.readiness().await, follower.metric("relay_config_age_seconds").await), (503, None));

    operator.publish(1, &serving("m", &upstream));
    follower.ready().await;
    assert_eq!(text(&follower, "m").await, "hi");
    operator.publish(2, &serving("n", &upstream));
    let pod = operator.pod(|pod| pod.revision == 2).await;
    assert_eq!((pod.name.as_str(), pod.restored, pod.rejections.len()), ("pod-0", false, 0));
    assert_eq!((text(&follower, "n").await.as_str(), follower.ask("m").await.status), ("hi", 404));
    let feed = follower.feed().await;
    assert_eq!((&feed["snapshots"], &feed["deltas"], &feed["stale"]), (&1.into(), &1.into(), &false.into()));
    assert!(follower.metric("relay_config_age_seconds").await.is_some_and(|age| age < 60.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_operator_it_goes_on_and_says_that_it_is_stale() {
    let (site, upstream) = (Site::new(), upstream().await);
    let (operator, follower) = following(&site, &upstream).await;
    let address = operator.address;
    operator.kill().await;
    until("it notices", async || (follower.feed().await["stale"] == true).then_some(())).await;
    assert_eq!((text(&follower, "m").await.as_str(), follower.readiness().await), ("hi", 200));

    let operator = site.operator_at(address).await;
    operator.publish(11, &serving("n", &upstream));
    operator.pod(|pod| pod.revision == 11).await;
    assert_eq!((text(&follower, "n").await.as_str(), &follower.feed().await["stale"]), ("hi", &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_an_operator_serves_what_was_kept_and_an_older_table_is_refused() {
    let (site, upstream) = (Site::new(), upstream().await);
    let address = served_before(&site, &upstream).await;
    let sealed = fs::read(site.copy()).unwrap();
    assert!(!sealed.windows(5).any(|window| window == b"key-1"), "the credential is not readable");

    let follower = Follower::start(&site.follow(address)).await;
    assert_eq!((follower.readiness().await, text(&follower, "m").await.as_str()), (200, "hi"));
    let feed = follower.feed().await;
    assert_eq!((&feed["restored"], &feed["stale"], &feed["revision"]), (&true.into(), &true.into(), &10.into()));
    assert!(follower.metric("relay_config_age_seconds").await.is_some_and(|age| age < 60.0));

    // An operator that lags behind what was sealed.
    let operator = site.operator_at(address).await;
    operator.publish(9, &serving("older", &upstream));
    operator.pod(|pod| pod.ahead.is_some()).await;
    assert_eq!((text(&follower, "m").await.as_str(), follower.ask("older").await.status), ("hi", 404));
    operator.publish(12, &serving("newer", &upstream));
    operator.pod(|pod| pod.revision == 12 && pod.refused.is_none()).await;
    assert_eq!((text(&follower, "newer").await.as_str(), &follower.feed().await["restored"]), ("hi", &false.into()));
}

/// A data plane without an operator that must not use its copy, and what it says of it.
async fn refusing(site: &Site, follow: &dataplane::config::follow::FollowConfig) -> String {
    let follower = Follower::start(follow).await;
    assert_eq!((follower.readiness().await, &follower.feed().await["root"]), (503, &serde_json::Value::Null));
    let feed = follower.feed().await;
    let [refused] = &feed["refusedCopies"].as_array().unwrap()[..] else { panic!("{feed}") };
    let refused = refused.as_str().unwrap().to_owned();
    assert!(refused.starts_with(&site.copy().display().to_string()), "{refused}");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_damaged_of_another_key_or_too_old_is_refused_by_name() {
    let (site, upstream) = (Site::new(), upstream().await);
    let address = served_before(&site, &upstream).await;
    let good = fs::read(site.copy()).unwrap();
    let mut follow = site.follow(address);

    fs::write(site.path("key"), [8; 32]).unwrap();
    assert!(refusing(&site, &follow).await.ends_with("it was sealed with another key, or altered"));
    fs::write(site.path("key"), [7; 32]).unwrap();

    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(site.copy(), damaged).unwrap();
    assert!(refusing(&site, &follow).await.ends_with("it was sealed with another key, or altered"));
    fs::write(site.copy(), &good[..20]).unwrap();
    assert!(refusing(&site, &follow).await.ends_with("this is no sealed table of form 1"));

    fs::write(site.copy(), good).unwrap();
    follow.max_staleness = Some(Duration::ZERO);
    assert!(refusing(&site, &follow).await.ends_with("--max-staleness (RELAY_MAX_STALENESS) allows 0 s"));
    follow.max_staleness = Some(Duration::from_secs(3_600));
    assert_eq!(Follower::start(&follow).await.readiness().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_nobody_confirms_for_too_long_answers_nobody_until_an_operator_is_back() {
    let (site, upstream) = (Site::new(), upstream().await);
    let operator = site.operator().await;
    operator.publish(1, &serving("m", &upstream));
    let mut follow = site.follow(operator.address);
    follow.max_staleness = Some(Duration::from_secs(2));
    let (address, follower) = (operator.address, Follower::start(&follow).await);
    follower.ready().await;
    operator.kill().await;
    let refused =
        until("it is still served", async || Some(follower.ask("m").await).filter(|answer| answer.status != 200));
    let refused = refused.await;
    assert_eq!((refused.status, follower.readiness().await), (503, 503));
    assert!(refused.text().contains("--max-staleness"), "{}", refused.text());

    let operator = site.operator_at(address).await;
    operator.publish(1, &serving("m", &upstream));
    follower.ready().await;
    assert_eq!(text(&follower, "m").await, "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_the_newer_counts_and_redis_alone_is_enough() {
    let (site, upstream, redis) = (Site::new(), upstream().await, Redis::start());
    let sharing = || {
        let mut config = config();
        config.redis.url = Some(Secret::new(format!("redis://{}", redis.address())));
        config.redis.timeout = Duration::from_secs(5);
        config
    };
    let address = served_before(&site, &upstream).await;
    let older = fs::read(site.copy()).unwrap();
    let operator = site.operator_at(address).await;
    operator.publish(20, &serving("newer", &upstream));
    let follower = Follower::start_with(&site.follow(address), sharing()).await;
    operator.pod(|pod| pod.revision == 20).await;
    follower.stop().await;
    operator.kill().await;
    assert_eq!(redis.cli(&["EXISTS", "relay:{fleet.relay}:table:default"]).trim(), "1");

    fs::write(site.copy(), older).unwrap();
    let follower = Follower::start_with(&site.follow(address), sharing()).await;
    assert_eq!(text(&follower, "newer").await, "hi");
    follower.stop().await;
    fs::remove_file(site.copy()).unwrap();
    let follower = Follower::start_with(&site.follow(address), sharing()).await;
    assert_eq!(text(&follower, "newer").await, "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_used_are_named_and_their_last_good_copies_stay() {
    let (site, upstream) = (Site::new(), upstream().await);
    let (operator, follower) = following(&site, &upstream).await;
    let mut broken = serving("m", &upstream).host("bad", OpenaiChat, "not a url", &["key-2"]).model("o", &["h"]);
    broken.credentials.host_keys.insert(named("key-1"), Credential::Value(Secret::new("two\nlines".to_owned())));
    operator.publish(11, &broken);
    let pod = operator.pod(|pod| pod.revision == 11).await;
    let named: Vec<_> = pod.rejections.iter().map(|one| (one.key.as_str(), one.code.as_str())).collect();
    assert_eq!(named, [("team/bad", "host-unusable"), ("team/key-1", "credential-unusable")]);
    assert!(!format!("{:?}", pod.rejections).contains("lines"), "{:?}", pod.rejections);
    assert_eq!(text(&follower, "o").await, "hi");
    assert_eq!(upstream.keys().last().map(String::as_str), Some("key-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_breakers_and_the_drain_are_reported() {
    let refusing = Upstream::start(|_| support::upstream::Script::json(401, &serde_json::json!({"error": "no"}))).await;
    let site = Site::new();
    let operator = site.operator().await;
    let mut tables = serving("m", &refusing);
    if let Some(Row::Usable(host)) = tables.table.hosts.get_mut(&named("h")) {
        host.breaker.auth.threshold = 1;
    }
    operator.publish(1, &tables);
    let mut config = config();
    config.deregister_delay = Duration::from_secs(30);
    let mut follower = Follower::start_with(&site.follow(operator.address), config).await;
    follower.ready().await;
    assert_ne!(follower.ask("m").await.status, 200);
    let pod = operator.pod(|pod| !pod.report.breakers.is_empty()).await;
    let breaker = &pod.report.breakers[0];
    assert_eq!((breaker.host_key.as_str(), breaker.reason.as_str()), ("team/key-1", "auth"));
    assert!(!pod.report.draining);
    follower.shut_down();
    operator.pod(|pod| pod.report.draining).await;
}

#[tokio::test]
async fn a_key_that_is_none_is_a_wrong_setting() {
    let site = Site::new();
    fs::write(site.path("key"), "short").unwrap();
    let app = app::build(config(), Target::None).await.unwrap();
    let error = follow::start(&app, &site.follow(([127, 0, 0, 1], 1).into())).await.unwrap_err();
    assert!(format!("{error:#}").ends_with("the key has 5 bytes; 32 would be right"), "{error:#}");
}
