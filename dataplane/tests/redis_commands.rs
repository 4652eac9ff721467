//! What is sent to Redis, counted on the wire: one command for each request, before its upstream call, and everything
//! else in batches that nobody waits for.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use dataplane::limit::redis::{
    pods,
    script::{Scripts, Time},
};
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use servers::{CountingProxy, Redis, Sent};
use support::{
    client::{Ask, Connection},
    relay::TestRelay,
    tables::{NAMESPACE, Tables, named},
    upstream::{Received, Script, Upstream},
    wire,
};
use table::{
    Budget, BudgetAction, Host, KeySelection, LimitScope, Limits, ModelLimits, NamespaceGrant, NanoUsd, ObjectRef,
    Period, PicoUsdPerToken, Pricing, ProviderLimits, Rates, Route, Row, Strategy, WireShape::OpenaiChat,
};

/// Requests of one client, one after the other.
const ALONE: usize = 200;
/// Requests of all clients.
const REQUESTS: usize = 10_000;
const CLIENTS: usize = 64;
/// So much of everything that no limit is ever met.
const PLENTY: u64 = 1_000_000_000_000;
/// The namespace of the host keys that are not the relay key's own.
const CATALOG: &str = "catalog";
/// What begins a connection, what is done at intervals, and (`SET`) whose turn it is to probe a host key.
const BACKGROUND: [&str; 11] = [
    "settle",
    "exchange",
    "heartbeat",
    "learned",
    "recall",
    "SET",
    "PING",
    "ROLE",
    "CLIENT SETNAME",
    "CLIENT ID",
    "SCRIPT LOAD",
];
const PATIENCE: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    let plenty = Some(PLENTY);
    Limits { rpm: plenty, tpm: plenty, tpd: plenty, concurrency: plenty, ..Limits::default() }
}

fn provider_limits() -> ProviderLimits {
    let plenty = Some(PLENTY);
    ProviderLimits { rpm: plenty, rpd: plenty, tpm: plenty, concurrency: plenty, ..ProviderLimits::default() }
}

fn budget(period: Period) -> Budget {
    let amount = NanoUsd(PLENTY);
    Budget { amount, period, timezone: "UTC".to_owned(), on_exceeded: BudgetAction::Block, alert_at_percent: vec![50] }
}

fn pricing() -> Pricing {
    let million = |text| PicoUsdPerToken::from_per_million(text).ok();
    Pricing {
        rates: Rates { input: million("1"), output: million("1"), ..Rates::default() },
        audio_in: None,
        audio_out: None,
        per_image: None,
        per_request: None,
        tiers: Vec::new(),
        effective_from: None,
        source: None,
    }
}

const FREE_TOKEN: &str = "token-without-limits-0123456789-abcdefghij";

/// Limits at the relay key, at a policy for each key, at one that is shared, at a model in a policy, and at two hosts with
/// ten keys each, one in the relay key's namespace.
fn tables(upstream: &Upstream) -> Tables {
    let url = upstream.url();
    let limited = |host: &mut Host| {
        (host.limits, host.key_selection) = (provider_limits(), KeySelection::RoundRobin);
    };
    let mut tables = Tables::new()
        .host_with("own", OpenaiChat, &url, &[], limited)
        .host_with("shared", OpenaiChat, &url, &[], limited)
        .host("free", OpenaiChat, &url, &["free"])
        .model("without-limits", &["free"])
        .model_with("m", &["own", "shared"], |model| {
            model.pricing = Some(pricing());
            if let Route::Bindings(bindings) = &mut model.route {
                bindings.iter_mut().for_each(|binding| binding.priority = 0);
                bindings[1].host = ObjectRef::new(CATALOG, "shared");
            }
        });
    for (host, index) in ["own", "shared"].into_iter().flat_map(|host| (0..10).map(move |index| (host, index))) {
        tables = tables.host_key(host, &format!("{host}-{index}"), |key| key.limits = provider_limits());
    }
    move_to_catalog(&mut tables);
    limit_callers(tables)
}

/// A relay key with all limits there are, and one with none.
fn limit_callers(mut tables: Tables) -> Tables {
    let unlimited = tables.table.policies[&named("all")].clone();
    tables.table.policies.insert(named("free"), unlimited);
    tables = tables
        .relay_key("free", FREE_TOKEN, |key| key.policies = vec![named("free")])
        .relay_key("key", support::tables::TOKEN, |key| {
            key.policies = vec![named("all"), named("shared")];
            (key.limits, key.budget) = (limits(), Some(budget(Period::Month)));
        })
        .policy(|policy| {
            (policy.limits, policy.budgets) = (limits(), vec![budget(Period::Day)]);
            policy.per_model = vec![ModelLimits { matches: "m".to_owned(), limits: limits() }];
            (policy.routing.strategy, policy.routing.max_attempts) = (Strategy::Weighted, 8);
        });
    let mut shared = tables.table.policies[&named("all")].clone();
    if let Row::Usable(policy) = &mut shared {
        policy.limit_scope = LimitScope::Shared;
    }
    tables.table.policies.insert(named("shared"), shared);
    tables
}

/// Moves the host `shared` and its keys out of the relay key's namespace.
fn move_to_catalog(tables: &mut Tables) {
    let catalog = |name: &ObjectRef| ObjectRef::new(CATALOG, &name.name);
    let (name, keys) = (named("shared"), (0..10).map(|index| named(&format!("shared-{index}"))));
    if let Some(Row::Usable(mut host)) = tables.table.hosts.remove(&name) {
        host.allowed = NamespaceGrant::All;
        tables.table.hosts.insert(catalog(&name), Row::Usable(host));
    }
    for key in keys {
        if let Some(Row::Usable(mut row)) = tables.table.host_keys.remove(&key) {
            (row.host, row.allowed) = (catalog(&name), NamespaceGrant::All);
            tables.table.host_keys.insert(catalog(&key), Row::Usable(row));
        }
        let credential = tables.credentials.host_keys.remove(&key).expect("each key has a credential");
        tables.credentials.host_keys.insert(catalog(&key), credential);
    }
}

/// Three keys of each host fail, each in another way; probes find two of them well again and again.
fn answer(request: &Received) -> Script {
    let refused = request.key().ends_with("-0");
    if !request.is_conversation() && !refused {
        return wire::good(OpenaiChat, request, "");
    }
    let failure = |status, kind| Script::json(status, &wire::error(OpenaiChat, kind, "no"));
    match request.key().split_once('-').map(|(_, index)| index) {
        Some("0") => failure(401, "invalid_request_error"),
        Some("1") => {
            let body = wire::error(OpenaiChat, "requests", "slow down").to_string();
            Script::answer_with(429, &[("content-type", "application/json"), ("retry-after", "1")], body)
        }
        Some("2") => failure(500, "server_error"),
        _ => wire::good(OpenaiChat, request, "hi"),
    }
}

/// When each request reached an upstream for the first time, and how often each key was tried.
#[derive(Default)]
struct Seen {
    first: HashMap<u64, Instant>,
    keys: BTreeMap<String, usize>,
}

async fn watched() -> (Upstream, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let notes = seen.clone();
    let upstream = Upstream::start_forgetful(move |request| {
        let at = Instant::now();
        if let Some(number) = request.json()["seed"].as_u64() {
            let mut seen = notes.lock();
            seen.first.entry(number).or_insert(at);
            *seen.keys.entry(request.key().to_owned()).or_default() += 1;
        }
        answer(request)
    });
    (upstream.await, seen)
}

fn ask(number: usize) -> Ask {
    let ask = Ask::openai("m").with("seed", json!(number));
    if number.is_multiple_of(2) { ask.streamed() } else { ask }
}

/// What each command is, by the script that it calls or by its name.
fn kind(sent: &Sent, scripts: &BTreeMap<String, &'static str>) -> String {
    let script = sent.sha.as_ref().map(|sha| scripts.get(sha).map_or("another script", |name| *name));
    script.map_or_else(|| sent.name.clone(), str::to_owned)
}

fn scripts() -> BTreeMap<String, &'static str> {
    let all = Scripts::new(&Time::Redis).all().into_iter().chain([pods::script(&Time::Redis)]);
    all.map(|script| (script.sha, script.name)).collect()
}

fn counted(commands: &[Sent]) -> BTreeMap<String, usize> {
    let scripts = scripts();
    let mut counts = BTreeMap::new();
    for sent in commands {
        *counts.entry(kind(sent, &scripts)).or_default() += 1;
    }
    counts
}

/// When each reservation was asked for.
fn reserved(commands: &[Sent]) -> Vec<Instant> {
    let scripts = scripts();
    let mut at: Vec<_> = commands.iter().filter(|sent| kind(sent, &scripts) == "reserve").map(|sent| sent.at).collect();
    at.sort_unstable();
    at
}

fn arrivals(seen: &Mutex<Seen>, numbers: impl Iterator<Item = usize>) -> Vec<Instant> {
    let seen = seen.lock();
    let mut at: Vec<_> = numbers.map(|number| seen.first[&(number as u64)]).collect();
    at.sort_unstable();
    at
}

async fn until(mut is_so: impl AsyncFnMut() -> bool, what: &str) {
    let poll = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// One client, one request after the other.
async fn ask_alone(relay: &TestRelay) {
    let mut connection = relay.connect().await;
    for number in 0..ALONE {
        assert_eq!(connection.ask(&ask(number)).await.expect("an answer").status, 200);
    }
}

/// The rest of the requests, by many clients.
async fn ask_together(relay: &TestRelay) -> BTreeMap<u16, usize> {
    let clients = (0..CLIENTS).map(|client| {
        let address = relay.address;
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut statuses = Vec::new();
            for number in (ALONE + client..REQUESTS).step_by(CLIENTS) {
                statuses.push(connection.ask(&ask(number)).await.expect("an answer").status);
            }
            statuses
        })
    });
    let mut counts = BTreeMap::new();
    for status in join_all(clients).await.into_iter().flat_map(|client| client.expect("a client ends")) {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// Reservation and arrival take turns, with no second command of a request in between.
fn assert_each_is_reserved_once_before_it_arrives(reserved: &[Instant], arrived: &[Instant]) {
    assert_eq!(reserved.len(), arrived.len());
    for (number, (reserved, arrived)) in reserved.iter().zip(arrived).enumerate() {
        assert!(reserved < arrived, "request {number} reached an upstream before it was reserved");
    }
    for (number, (arrived, next)) in arrived.iter().zip(&reserved[1..]).enumerate() {
        assert!(arrived < next, "something was reserved twice around request {number}");
    }
}

/// A cluster would refuse it.
fn assert_nothing_is_about_two_slots(commands: &[Sent]) {
    let split: Vec<_> = commands.iter().filter(|sent| sent.slots().len() > 1).collect();
    assert!(split.is_empty(), "{split:?}");
    let namespaces = commands.iter().flat_map(|sent| &sent.keys).filter_map(|key| key.split(['{', '}']).nth(1));
    let namespaces: BTreeSet<_> = namespaces.collect();
    assert!(namespaces.is_superset(&BTreeSet::from([NAMESPACE, CATALOG])), "{namespaces:?}");
}

/// Keys that fail were tried, and then left out.
fn assert_breakers_were_in_play(tried: &BTreeMap<String, usize>) {
    assert_eq!(tried.len(), 20, "{tried:?}");
    let fails = |key: &str| ["-0", "-1", "-2"].iter().any(|end| key.ends_with(end));
    let failed: usize = tried.iter().filter(|(key, _)| fails(key)).map(|(_, count)| count).sum();
    assert!((10..REQUESTS / 10).contains(&failed), "{tried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_ten_thousand_requests_is_one_command_before_its_upstream_call_and_settlements_come_in_batches() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let (upstream, seen) = watched().await;
    let relay = TestRelay::start_sharing(tables(&upstream), proxy.address()).await;

    ask_alone(&relay).await;
    assert_each_is_reserved_once_before_it_arrives(&reserved(&proxy.commands()), &arrivals(&seen, 0..ALONE));
    let start = Instant::now();
    let statuses = ask_together(&relay).await;
    let took = start.elapsed();
    let settled = async || relay.metric("relay_redis_settlements_total").await >= Some(REQUESTS as f64);
    until(settled, "all settlements").await;

    let commands = proxy.commands();
    let (counts, tried) = (counted(&commands), seen.lock().keys.clone());
    let count = |kind: &str| counts.get(kind).copied().unwrap_or_default();
    let entries = relay.metric("relay_redis_settlements_total").await.expect("it is counted");
    println!("{REQUESTS} requests, {} of them by {CLIENTS} clients in {took:.1?}: {statuses:?}", REQUESTS - ALONE);
    println!("commands: {counts:?}; {:.1} entries a batch", entries / count("settle") as f64);
    println!("attempts by key: {tried:?}");

    assert_eq!(statuses, BTreeMap::from([(200, REQUESTS - ALONE)]));
    assert_eq!(count("reserve"), REQUESTS);
    for (before, (reserved, arrived)) in reserved(&commands).iter().zip(arrivals(&seen, 0..REQUESTS)).enumerate() {
        assert!(*reserved < arrived, "{} requests had reached upstreams when {before} were reserved", before + 1);
    }
    assert!(count("settle") < REQUESTS / 4, "{} batches", count("settle"));
    assert!(count("exchange") < REQUESTS / 10, "{} exchanges", count("exchange"));
    let others: Vec<_> = counts.keys().filter(|kind| *kind != "reserve" && !BACKGROUND.contains(&&***kind)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_breakers_were_in_play(&tried);
    assert_nothing_is_about_two_slots(&commands);
    let records = relay.records().await;
    let degraded = records.iter().filter(|record| record["limits_degraded"] != Value::Bool(false)).count();
    assert_eq!((records.len(), degraded), (REQUESTS, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_sees_a_request_only_once_its_reservation_was_answered() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let (upstream, seen) = watched().await;
    let relay = TestRelay::start_sharing(tables(&upstream), proxy.address()).await;
    assert_eq!(relay.ask(&ask(0)).await.status, 200);

    proxy.stall();
    let held = ask(1);
    let (answer, ()) = tokio::join!(relay.ask(&held), async {
        // Others, which no limit concerns, come and go meanwhile.
        for _ in 0..100 {
            let free = Ask::openai("without-limits").token(FREE_TOKEN);
            assert_eq!(relay.ask(&free).await.status, 200);
        }
        assert!(!seen.lock().first.contains_key(&1), "it did not wait for its reservation");
        proxy.resume();
    });

    assert_eq!((answer.status, answer.header("x-relay-limits")), (200, None));
    assert!(seen.lock().first.contains_key(&1));
}
