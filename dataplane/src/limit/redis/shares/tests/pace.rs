//! When exchanges take place, on a clock that is paused.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::{FutureExt, future::ready};
use parking_lot::Mutex;
use protocol::WireShape;
use table::Breaker;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{NOON, host_key, plain::Plain, world};
use crate::{
    breaker::outcome::Outcome,
    heal::{self, Ward},
    limit::{
        claims::ScopeClaim,
        redis::{
            clock::RedisClock,
            fleet::Fleet,
            link::Missed,
            shares::{Shares, World},
        },
    },
    pool::signals::Signals,
    upstream::credentials::Keyring,
    world::build::Tables,
};

/// A process whose shares run, and when it called.
struct Running {
    shares: Arc<Shares>,
    calls: Arc<Mutex<Vec<Instant>>>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Running {
    /// `answers`: whether Redis does.
    fn start(answers: bool, fleet: Option<Arc<Fleet>>) -> Self {
        let (calls, redis): (Arc<Mutex<Vec<Instant>>>, Mutex<Plain>) = Default::default();
        let log = calls.clone();
        let call = Box::new(move |_: &str, keys: Vec<String>, argument: Vec<u8>| {
            log.lock().push(Instant::now());
            ready(if answers { Ok(redis.lock().call(&keys, &argument, NOON)) } else { Err(Missed::Down) }).boxed()
        });
        let now = Arc::new(AtomicU64::new(NOON));
        let shares = Arc::new(Shares::new(World { fleet, ..world("p".into(), now, call) }));
        let stop = CancellationToken::new();
        let task = tokio::spawn(shares.clone().run(stop.clone()));
        Self { shares, calls, stop: stop.drop_guard(), task }
    }

    fn calls(&self) -> usize {
        self.calls.lock().len()
    }

    /// How long after `start` each call was made.
    fn delays(&self, start: Instant) -> Vec<Duration> {
        self.calls.lock().iter().map(|at| at.duration_since(start)).collect()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn claim() -> [ScopeClaim; 1] {
    [host_key("k").with_tokens(1_000, 1)]
}

/// Lets time pass, and every task do what it has to.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn pass_in_steps(time: Duration) {
    for _ in 0..time.as_millis() {
        pass(millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_met_for_the_first_time_is_asked_about_at_once() {
    let running = Running::start(true, None);
    running.shares.verdict(&claim());
    pass(millis(2)).await;
    assert_eq!(running.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_scope_in_use_is_exchanged_every_quarter_of_a_second_and_one_that_is_not_is_left_alone() {
    let running = Running::start(true, None);
    let start = Instant::now();
    for _ in 0..100 {
        running.shares.verdict(&claim());
        pass_in_steps(millis(10)).await;
    }
    let delays = running.delays(start);
    assert!((4..=7).contains(&delays.len()), "{delays:?}");
    assert!(delays.windows(2).all(|pair| pair[1] - pair[0] <= millis(252)), "{delays:?}");
    pass_in_steps(millis(300)).await;
    let used = running.calls();
    pass_in_steps(Duration::from_secs(5)).await;
    assert_eq!(running.calls(), used);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_begins_early_when_half_of_a_share_is_spent() {
    let running = Running::start(true, None);
    running.shares.verdict(&claim());
    pass(millis(2)).await;
    assert_eq!(running.calls(), 1);
    for _ in 0..24 {
        running.shares.take(&claim());
    }
    pass_in_steps(millis(30)).await;
    assert_eq!(running.calls(), 1, "24 are less than half of 50");
    running.shares.take(&claim());
    pass_in_steps(millis(30)).await;
    assert_eq!(running.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_redis_is_away_nobody_is_in_a_hurry() {
    let running = Running::start(false, None);
    for _ in 0..100 {
        running.shares.take(&claim());
        pass_in_steps(millis(10)).await;
    }
    assert!((4..=7).contains(&running.calls()), "{} calls", running.calls());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_told_yet_is_told_when_the_process_stops() {
    let running = Running::start(true, None);
    pass(millis(2)).await;
    running.shares.take(&claim());
    let Running { stop, task, calls, shares } = running;
    drop(stop);
    task.await.expect("it stops");
    assert_eq!(calls.lock().len(), 1);
    shares.refresh("catalog").await.expect("redis answers");
    assert_eq!(calls.lock().len(), 1, "there is nothing more to tell");
}

#[tokio::test(start_paused = true)]
async fn usage_is_told_after_an_exchange_or_not_at_all() {
    let up = Running::start(true, None);
    let usage = up.shares.fresh_usage(&claim()).await.expect("redis answers");
    assert_eq!((usage[0].used, usage[0].limit, up.calls()), (0, 1_000, 1));
    let down = Running::start(false, None);
    assert_eq!(down.shares.fresh_usage(&claim()).await, Err(Missed::Down));
}

/// A key of the catalog, and what a process that uses it knows of its breakers.
fn watch() -> (Ward, Arc<Signals>, Arc<Fleet>) {
    let tables = Tables::new().bare_host("catalog/h", WireShape::OpenaiChat).host_key("catalog/k", "catalog/h", |_| ());
    let keyring = Keyring::new(&tables.credentials);
    let mut wards = heal::wards(&crate::world::World::load(tables.table, tables.credentials), &keyring);
    let (signals, clock) = (Arc::new(Signals::new()), Arc::new(RedisClock::new()));
    let fleet = Fleet::new(signals.clone(), clock);
    fleet.know(&wards);
    (wards.remove(0), signals, Arc::new(fleet))
}

#[tokio::test(start_paused = true)]
async fn breakers_that_are_watched_are_asked_about_though_nothing_is_counted() {
    let (_, _, fleet) = watch();
    let running = Running::start(true, Some(fleet));
    pass_in_steps(millis(251)).await;
    assert_eq!(running.calls(), 1);
    pass_in_steps(millis(500)).await;
    assert!((2..=4).contains(&running.calls()), "{} calls", running.calls());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_is_told_of_at_once() {
    let (ward, signals, fleet) = watch();
    let running = Running::start(true, Some(fleet.clone()));
    pass(millis(2)).await;
    let now = Instant::now().into_std();
    signals.begin(ward.hash(), &ward.host.id, now).report(Outcome::Auth, now, &Breaker::default());
    pass(millis(2)).await;
    assert_eq!(running.calls(), 1);
    assert!(fleet.outgoing("catalog").records.is_empty(), "it was told");
    assert_eq!(fleet.outgoing("catalog").version, 1);
}
