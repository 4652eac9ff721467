//! Redis loses its data: what was spent of budgets is in the counters again.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use servers::Redis as Server;
use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use super::{
    super::{Redis, Settings, keys::Keys, script::Time, store::target},
    books,
};
use crate::{
    limit::{
        Limiter,
        claims::{BudgetClaim, Claims, ScopeClaim},
        reservation::{Reservation, Used},
        rule::Scope,
    },
    pool::signals::Signals,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that takes Redis for gone only after a while, however much this machine has to do.
async fn process(server: &Server, records: Option<PathBuf>) -> Redis {
    hasty_process(server, records, Duration::from_secs(5)).await
}

async fn hasty_process(server: &Server, records: Option<PathBuf>, timeout: Duration) -> Redis {
    let address = target::Address::new(server.address().ip().to_string(), server.address().port());
    let target = target::Target { timeout, ..target::Target::standalone(address) };
    let settings = Settings { prefix: "relay".to_owned(), time: Time::Redis, records };
    Redis::start(target, &settings, &books(), Arc::new(Signals::new())).await.expect("the target is whole")
}

fn budget(period: Period) -> BudgetClaim {
    BudgetClaim {
        period,
        timezone: "Europe/Berlin".into(),
        limit: NanoUsd(1_000_000_000),
        amount: NanoUsd(50),
        blocks: true,
        alert_at_percent: [].into(),
    }
}

fn scope() -> ScopeClaim {
    let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")));
    ScopeClaim { budgets: smallvec![budget(Period::Month), budget(Period::Total)], ..ScopeClaim::new(scope) }
}

async fn reserve(process: &Redis) -> Reservation {
    let claims = Claims { domain: "team".into(), scopes: vec![scope()], ..Claims::default() };
    process.reserve(claims).await.expect("the budgets are large")
}

async fn spend(process: &Redis, nano_usd: u64) {
    reserve(process).await.settle(Used { cost: NanoUsd(nano_usd), ..Used::default() });
}

/// What the counters say of both budgets.
async fn spent(process: &Redis) -> Vec<u64> {
    let usage = process.usage(vec![scope()]).await.expect("Redis is there");
    usage.iter().map(|rule| rule.used).collect()
}

/// Waits for both budgets to hold so much.
async fn comes_to(process: &Redis, expected: u64) {
    let poll = async {
        while spent(process).await != [expected; 2] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, poll).await.is_err() {
        panic!("the counters hold {:?}, and {expected} was spent", spent(process).await);
    }
}

#[tokio::test]
async fn what_was_spent_is_in_the_counters_again_and_open_requests_are_not_forgotten() {
    let server = Server::start();
    let (one, other) = (process(&server, None).await, process(&server, None).await);
    spend(&one, 7).await;
    spend(&other, 30).await;
    let open = reserve(&one).await;
    comes_to(&one, 87).await;
    server.cli(&["FLUSHALL"]);
    spend(&one, 1).await;
    comes_to(&one, 8).await;
    spend(&other, 1).await;
    comes_to(&one, 39).await;
    open.settle(Used { cost: NanoUsd(100), ..Used::default() });
    comes_to(&other, 139).await;
}

#[tokio::test]
async fn a_request_that_a_new_master_never_heard_of_counts_for_what_it_took() {
    let server = Server::start();
    let process = process(&server, None).await;
    spend(&process, 7).await;
    comes_to(&process, 7).await;
    let (keys, counters) = (Keys::new("relay"), Keys::new("relay").scope(&scope().scope));
    for cost in [10, 100] {
        // What a replica has that takes over before it has heard of the request.
        server.cli(&["COPY", &counters, "before", "REPLACE"]);
        let open = reserve(&process).await;
        server.cli(&["COPY", "before", &counters, "REPLACE"]);
        server.cli(&["DEL", &keys.holds("team"), &keys.leases("team")]);
        open.settle(Used { cost: NanoUsd(cost), ..Used::default() });
        comes_to(&process, if cost == 10 { 17 } else { 117 }).await;
    }
}

#[tokio::test]
async fn a_process_that_was_started_again_gives_back_what_it_had_spent_before() {
    let (server, directory) = (Server::start(), tempfile::tempdir().expect("a directory"));
    let records = directory.path().join("usage.jsonl");
    let before = process(&server, Some(records.clone())).await;
    spend(&before, 7).await;
    before.close(PATIENCE).await;
    drop(before);
    server.restart_empty();
    let after = process(&server, Some(records.clone())).await;
    spend(&after, 1).await;
    comes_to(&after, 8).await;
    after.close(PATIENCE).await;
    drop(after);
    let again = process(&server, Some(records)).await;
    spend(&again, 1).await;
    comes_to(&again, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whenever_the_data_are_lost_the_counters_come_to_what_was_settled() {
    let server = Server::start();
    let (settled, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(hasty_process(&server, None, target::TIMEOUT).await);
    }
    let clients: Vec<_> = (0..24_usize)
        .map(|client| {
            let (process, settled, done) = (processes[client % 3].clone(), settled.clone(), done.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    let cost = rand::random_range(0..1_000);
                    spend(&process, cost).await;
                    settled.fetch_add(cost, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for losses in 1..=5 {
        while done.load(Ordering::Relaxed) < losses * 200 {
            tokio::task::yield_now().await;
        }
        server.cli(&["FLUSHALL"]);
    }
    for client in clients {
        client.await.expect("a client ends");
    }
    for process in &processes {
        spend(process, 1).await;
    }
    comes_to(&processes[0], settled.load(Ordering::Relaxed) + 3).await;
}
