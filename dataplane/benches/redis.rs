//! What a limited request costs Redis and this process: the two scripts, and the limiter around them.
//!
//! Starts a `redis-server` of its own, bound to core 1. Run it on another, as in
//! `taskset -c 2 cargo bench -p relay-dataplane --bench redis`.

use std::{fs, sync::Arc, time::Duration};

use dataplane::{
    limit::{
        Limiter,
        claims::{BreakerClaim, BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
        estimate::Estimator,
        redis::{
            Redis, Settings,
            script::Time,
            store::target::{Address, Target},
        },
        reservation::{Reservation, Used},
        rule::{Counted, Scope, Sharer, Span},
        window::Ceiling,
    },
    meter::{
        Books,
        logs::Logs,
        sinks::{self, Sinks},
    },
    metrics::Metrics,
    pool::signals::Signals,
    spans::Spans,
    upstream::credentials::KeyHash,
};
use servers::Options;
use table::{NanoUsd, ObjectRef, Period};
use tokio::{task::JoinSet, time::Instant};

/// What is settled together.
const BATCH: usize = 64;
const BATCHES: usize = 200;
/// Requests that are open all the time beside those that are measured.
const OPEN: usize = 200;
const CLIENTS: usize = 64;
const CALLS: usize = 60_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = servers::Redis::start_with(Options::new().directive("server_cpulist 1"));
    let redis = limiter(&server).await;
    let mut open = Vec::new();
    for _ in 0..OPEN {
        open.push(reserved(&redis).await);
    }
    scripts(&server, &redis).await;
    throughput(&server, &redis).await;
    drop(open);
    redis.close(Duration::from_secs(5)).await;
}

/// Each script by itself, as the server measures it.
async fn scripts(server: &servers::Redis, redis: &Redis) {
    let (mut reserve, mut settle) = (Cost::default(), Cost::default());
    for _ in 0..BATCHES {
        let (mut batch, before) = (Vec::new(), Cost::of(server));
        for _ in 0..BATCH {
            batch.push(reserved(redis).await);
        }
        let between = Cost::of(server);
        batch.into_iter().for_each(settled);
        while server.cli(&["HLEN", "relay:{team}:holds"]) != OPEN.to_string() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let after = Cost::of(server);
        reserve = reserve.and(between.since(before));
        settle = settle.and(after.since(between));
    }
    let entries = (BATCHES * BATCH) as f64;
    println!("reserve.lua  {:6.1} us a call ({} calls)", reserve.micros / reserve.calls, reserve.calls);
    println!("settle.lua   {:6.1} us an entry ({} calls for {entries} entries)", settle.micros / entries, settle.calls);
}

/// Both, for many clients at once.
async fn throughput(server: &servers::Redis, redis: &Redis) {
    let (cost, used, began) = (Cost::of(server), processor_time(), Instant::now());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let redis = redis.clone();
        clients.spawn(async move {
            for _ in 0..CALLS / CLIENTS {
                settled(reserved(&redis).await);
            }
        });
    }
    clients.join_all().await;
    let (cost, used, took) = (Cost::of(server).since(cost), processor_time() - used, began.elapsed());
    let calls = (CALLS / CLIENTS * CLIENTS) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / calls;
    println!("{CLIENTS} clients   {:6.0} requests a second: {:.1} us each", calls / took.as_secs_f64(), each(took));
    println!("             {:6.1} us of scripts in redis for a request", cost.micros / calls);
    println!("             {:6.1} us of this process for a request", each(used));
}

/// Calls of scripts, and the microseconds that they took.
#[derive(Clone, Copy, Default)]
struct Cost {
    calls: f64,
    micros: f64,
}

impl Cost {
    fn of(server: &servers::Redis) -> Self {
        let stats = server.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap_or_default();
        let field = |name: &str| {
            let value = line.split(',').find_map(|field| field.strip_prefix(name));
            value.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        Self { calls: field("calls="), micros: field("usec=") }
    }

    fn since(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, micros: self.micros - before.micros }
    }

    fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, micros: self.micros + other.micros }
    }
}

/// How long this thread has run; all tasks run on it.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts the time of threads");
    let nanos = stat.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is the time on a processor"))
}

async fn limiter(server: &servers::Redis) -> Redis {
    let address = Address::new(server.address().ip().to_string(), server.address().port());
    let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
    let settings = Settings { prefix: "relay".into(), time: Time::Redis, records: None };
    let metrics = Arc::new(Metrics::new());
    let (sinks, spans) = (Sinks::new(sinks::Target::None, metrics.clone()), Spans::none());
    let books = Books { metrics, sinks, logs: Logs::none(), spans, estimator: Arc::new(Estimator::new()) };
    Redis::start(target, &settings, &books, Arc::new(Signals::new())).await.expect("the target is whole")
}

async fn reserved(redis: &Redis) -> Reservation {
    let reservation = redis.reserve(claims()).await.expect("nothing is near its limit");
    assert!(!reservation.is_degraded(), "redis answers");
    reservation
}

fn settled(reservation: Reservation) {
    reservation.charge(reservation.candidates()[0]);
    reservation.settle(Used { input_tokens: 900, output_tokens: 250, cost: NanoUsd(4_000_000) });
}

/// Five scopes of the caller with two or three rules each, and four host keys of one host in the caller's namespace.
fn claims() -> Claims {
    let (name, policy) = (|name: &str| ObjectRef::new("team", name), ObjectRef::new("team", "gold"));
    let (key, team) = (Sharer::Key(name("app")), Sharer::Namespace("team".into()));
    let of = |policy: &ObjectRef, sharer: &Sharer| Scope::Policy { policy: policy.clone(), sharer: sharer.clone() };
    let model = "gpt-5".to_owned();
    let (minute, day) = ((Counted::Requests, Span::Minute), (Counted::Tokens, Span::Day));
    let tokens = (Counted::Tokens, Span::Minute);
    let mut scopes = vec![
        scope(Scope::RelayKey(name("app")), &[minute, tokens]),
        scope(of(&policy, &key), &[minute, tokens]),
        scope(of(&policy, &team), &[tokens, day]),
        scope(of(&ObjectRef::new("platform", "all"), &team), &[(Counted::InputTokens, Span::Minute), day]),
        scope(Scope::Model { policy, sharer: key, model }, &[minute, (Counted::OutputTokens, Span::Minute)]),
    ];
    scopes[0].concurrency = Some(100_000);
    scopes[1].budgets.push(budget(Period::Month));
    let host = scope(Scope::Host(name("host")), &[minute]);
    let candidate = |n: usize| {
        let mut own = scope(Scope::HostKey(name(&format!("key-{n}"))), &[minute, tokens]);
        own.concurrency = Some(100_000);
        let hash = KeyHash::keyless(&name(&format!("key-{n}")));
        CandidateClaim {
            breaker: Some(BreakerClaim { domain: "team".into(), key: hash }),
            scopes: vec![own, host.clone()],
        }
    };
    Claims { domain: "team".into(), scopes, candidates: (0..4).map(candidate).collect(), max_candidates: 3 }
}

fn scope(scope: Scope, rates: &[(Counted, Span)]) -> ScopeClaim {
    let rate = |&(counted, span): &(Counted, Span)| {
        let amount = if counted == Counted::Requests { 1 } else { 1_000 };
        RateClaim { counted, span, ceiling: Ceiling::flat(1 << 50), amount }
    };
    ScopeClaim { rates: rates.iter().map(rate).collect(), ..ScopeClaim::new(Arc::new(scope)) }
}

fn budget(period: Period) -> BudgetClaim {
    let timezone = "Europe/Paris".into();
    let (limit, amount) = (NanoUsd(1 << 52), NanoUsd(5_000_000));
    BudgetClaim { period, timezone, limit, amount, blocks: true, alert_at_percent: [80].into() }
}
