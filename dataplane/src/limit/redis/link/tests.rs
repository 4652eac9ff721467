use std::net::SocketAddr;

use servers::{Cluster, Redis, Sentinels};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::*;
use crate::limit::redis::store::target::{Address, TIMEOUT, Target};

/// Within which a return is seen at most.
const RETURN: Duration = Duration::from_secs(1);

/// How long a call may take here: a busy machine is no outage.
const PATIENT: Duration = Duration::from_secs(10);

/// As [`PATIENT`], where a test waits for it to be over.
const HASTY: Duration = Duration::from_secs(1);

/// For whatever a test waits: that it comes, not when, is what a busy machine can be asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// A link that is watched until this is dropped.
struct Watched {
    link: Arc<Link>,
    metrics: Arc<Metrics>,
    _stop: DropGuard,
}

/// Counts calls, and writes.
fn count() -> Script {
    Script::new("count", "return tostring(redis.call('INCR', KEYS[1]))".to_owned())
}

impl Watched {
    async fn to(server: &Redis) -> Self {
        Self::start(Target { timeout: PATIENT, ..Target::standalone(address(server.address())) }).await
    }

    async fn hasty(server: &Redis) -> Self {
        Self::start(Target { timeout: HASTY, ..Target::standalone(address(server.address())) }).await
    }

    async fn to_cluster(cluster: &Cluster, timeout: Duration) -> Self {
        let nodes = cluster.addresses().into_iter().map(address).collect();
        Self::start(Target { nodes, mode: Mode::Cluster, timeout, ..Target::standalone(Address::new("", 0)) }).await
    }

    async fn to_sentinels(sentinels: &Sentinels) -> Self {
        let nodes = sentinels.addresses().into_iter().map(address).collect();
        let mode = Mode::Sentinel { master: sentinels.name().to_owned() };
        Self::start(Target { nodes, mode, timeout: HASTY, ..Target::standalone(Address::new("", 0)) }).await
    }

    async fn start(target: Target) -> Self {
        let (units, metrics) = (Units::of(&target.mode), Arc::new(Metrics::new()));
        let store = Store::new(target, vec![count(), trial()]).expect("the target is whole");
        let link = Arc::new(Link::new(store, units, Keys::new("relay"), metrics.clone()));
        link.connect().await;
        let stop = CancellationToken::new();
        tokio::spawn({
            let (link, stop) = (link.clone(), stop.clone());
            async move { link.watch(stop).await }
        });
        Self { link, metrics, _stop: stop.drop_guard() }
    }

    async fn count(&self, domain: &str) -> Result<String, Missed> {
        let answer = self.link.call(domain, &count(), &[format!("relay:{{{domain}}}:count")], b"").await?;
        Ok(String::from_utf8(answer).expect("a number is text"))
    }

    /// Waits for the link to be up again; says how long that took.
    async fn back(&self, domain: &str) -> Duration {
        let started = Instant::now();
        timeout(PATIENCE, self.link.up(domain)).await.expect("it returns");
        started.elapsed()
    }

    /// A sample of the metrics.
    fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.encode();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_default().parse().unwrap_or_default()
    }

    /// Waits for so much time without Redis to have been counted.
    async fn degraded_for(&self, time: Duration) {
        let counted = async {
            while self.metric("relay_redis_degraded_seconds_total") < time.as_secs_f64() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("the time is counted while it lasts");
    }
}

fn address(address: SocketAddr) -> Address {
    Address::new(address.ip().to_string(), address.port())
}

fn failed(result: &Result<String, Missed>) -> Option<&StoreError> {
    match result {
        Err(Missed::Failed(error)) => Some(error),
        Err(Missed::Down | Missed::Unreadable) | Ok(_) => None,
    }
}

#[tokio::test]
async fn calls_are_answered_and_counted() {
    let server = Redis::start();
    let watched = Watched::to(&server).await;
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
    assert_eq!(watched.count("team").await, Ok("2".to_owned()));
    assert_eq!(watched.metric(r#"relay_redis_calls_total{script="count",outcome="ok"}"#), 2.0);
    assert_eq!(watched.metric(r#"relay_redis_script_duration_seconds_count{script="count"}"#), 2.0);
    assert_eq!(watched.metric("relay_redis_up"), 1.0);
}

#[test]
fn what_is_down_is_tried_so_often_that_its_return_is_seen_within_a_second() {
    assert!(TRY_EVERY + TIMEOUT < RETURN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_costs_one_timeout_once_and_its_end_is_seen() {
    const CALLS: u32 = 50;
    let server = Redis::start();
    let watched = Watched::hasty(&server).await;
    watched.count("team").await.expect("Redis is there");
    server.stop();
    let started = Instant::now();
    let at_once = join_all((0..CALLS).map(|_| watched.count("team"))).await;
    let waited = started.elapsed();
    assert!(at_once.iter().all(|result| failed(result) == Some(&StoreError::Timeout)), "{at_once:?}");
    assert!(HASTY <= waited && waited < CALLS / 2 * HASTY, "they wait at the same time: {waited:?}");

    for _ in 0..1_000 {
        assert_eq!(watched.count("team").await, Err(Missed::Down));
    }
    let called = watched.metric(r#"relay_redis_calls_total{script="count",outcome="timeout"}"#);
    assert_eq!(called, f64::from(CALLS), "whoever comes later asks nobody");
    assert_eq!(watched.metric("relay_redis_up"), 0.0);
    watched.degraded_for(Duration::from_secs(2)).await;

    server.cont();
    let back = watched.back("team").await;
    println!("waited {waited:?}, back after {back:?}");
    watched.count("team").await.expect("Redis is there again");
    assert_eq!(watched.metric("relay_redis_up"), 1.0);
}

#[tokio::test]
async fn a_server_that_is_gone_costs_nothing_and_its_return_is_seen() {
    let server = Redis::start();
    let watched = Watched::to(&server).await;
    watched.count("team").await.expect("Redis is there");
    server.kill();
    let missed = watched.count("team").await;
    assert!(matches!(failed(&missed), Some(StoreError::Lost(_))), "nobody waits for what is gone: {missed:?}");
    assert_eq!(watched.count("team").await, Err(Missed::Down));

    server.restart_empty();
    let back = watched.back("team").await;
    println!("back after {back:?}");
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_found_later() {
    let server = Redis::start();
    server.kill();
    let watched = Watched::to(&server).await;
    assert_eq!(watched.count("team").await, Err(Missed::Down));
    assert_eq!(watched.metric("relay_redis_up"), 0.0);
    server.restart_empty();
    watched.back("team").await;
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
}

#[tokio::test]
async fn a_server_that_answers_but_takes_no_writes_is_down_until_it_does() {
    let server = Redis::start();
    let watched = Watched::to(&server).await;
    for (bad, good) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""]),
    ] {
        let words = |words: [&'static str; 4]| words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
        server.cli(&words(bad));
        let error = watched.count("team").await.expect_err("it takes no writes");
        assert!(!error.is_doubtful(), "{error}");
        let before = watched.metric("relay_redis_degraded_seconds_total");
        watched.degraded_for(Duration::from_secs_f64(before) + 3 * TRY_EVERY).await;
        assert_eq!(watched.count("team").await, Err(Missed::Down), "{error}");
        server.cli(&words(good));
        watched.back("team").await;
        watched.count("team").await.expect("it takes writes again");
    }
}

#[tokio::test]
async fn a_script_that_fails_takes_nothing_down() {
    let server = Redis::start();
    let watched = Watched::to(&server).await;
    let wrong = Script::new("wrong", "return redis.call('INCR', KEYS[1], 'x')".to_owned());
    let answer = watched.link.call("team", &wrong, &["relay:{team}:x".to_owned()], b"").await;
    assert!(matches!(answer, Err(Missed::Failed(StoreError::Refused(_)))), "{answer:?}");
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
    assert_eq!(watched.metric(r#"relay_redis_calls_total{script="wrong",outcome="refused"}"#), 1.0);
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_not_down() {
    let server = Redis::start();
    let watched = Watched::to(&server).await;
    server.flush_scripts();
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
    assert_eq!(watched.metric("relay_redis_degraded_seconds_total"), 0.0);
}

/// Two domains of a cluster that different masters serve.
fn apart(cluster: &Cluster) -> (String, String) {
    let domain = |number: usize| format!("team-{number}");
    let owner = |domain: &str| cluster.owner_of(&format!("{{{domain}}}")).address();
    let other = (1..).map(domain).find(|other| owner(other) != owner("team-0")).expect("three masters share the slots");
    ("team-0".to_owned(), other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_a_stalled_master_degrades_its_own_domains_alone() {
    let cluster = Cluster::start();
    // A cluster that misses a master refuses all calls; none is to be missed while this lasts.
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "cluster-node-timeout", &(10 * PATIENCE).as_millis().to_string()]);
    }
    let watched = Watched::to_cluster(&cluster, PATIENT).await;
    let (lost, well) = apart(&cluster);
    for domain in [&lost, &well] {
        assert_eq!(watched.count(domain).await, Ok("1".to_owned()));
    }
    cluster.owner_of(&format!("{{{lost}}}")).stop();
    assert_eq!(failed(&watched.count(&lost).await), Some(&StoreError::Timeout));
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        assert_eq!(watched.count(&lost).await, Err(Missed::Down));
        let started = Instant::now();
        watched.count(&well).await.expect("another master serves it");
        slowest = slowest.max(started.elapsed());
    }
    assert_eq!(watched.metric("relay_redis_up"), 0.0);
    cluster.owner_of(&format!("{{{lost}}}")).cont();
    let back = watched.back(&lost).await;
    println!("slowest elsewhere {slowest:?}, back after {back:?}");
    assert_eq!(watched.metric("relay_redis_up"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_nothing_down() {
    let cluster = Cluster::start();
    let watched = Watched::to_cluster(&cluster, PATIENT).await;
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
    cluster.move_slot_of("{team}");
    assert_eq!(watched.count("team").await, Ok("2".to_owned()));
    assert_eq!(watched.metric("relay_redis_degraded_seconds_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sentinel_failover_the_promoted_server_is_used() {
    let sentinels = Sentinels::start();
    let watched = Watched::to_sentinels(&sentinels).await;
    assert_eq!(watched.count("team").await, Ok("1".to_owned()));
    let replica = sentinels.replica();
    sentinels.kill_master();
    assert!(watched.count("team").await.is_err());
    sentinels.wait_until_promoted(replica);
    let back = watched.back("team").await;
    println!("back {back:?} after the promotion");
    watched.count("team").await.expect("the promoted server takes writes");
}
