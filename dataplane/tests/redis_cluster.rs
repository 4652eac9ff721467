//! On a cluster: whatever data planes send to Redis is about one slot, of everything that they keep there.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use dataplane::config::redis::{RedisConfig, RedisMode};
use futures::future::join_all;
use servers::{Cluster, CountingProxy, Layout, Sent, slot_of};
use support::{
    client::Ask,
    relay::{TestRelay, redis_at},
    tables::{Tables, named},
    upstream::{Received, Script, Upstream},
    wire,
};
use table::{
    Budget, BudgetAction, LimitMode, LimitScope, Limits, ModelLimits, NamespaceGrant, NanoUsd, ObjectRef, Period,
    ProviderLimits, Route, Row, Strategy, WireShape::OpenaiChat,
};
use tokio::task::block_in_place;

/// So much of everything that no limit is ever met.
const PLENTY: u64 = 1_000_000_000_000;
/// Namespaces of relay keys, which three masters share; the last one's policy is leased.
const NAMESPACES: [&str; 5] = ["team", "platform", "blue", "green", "leased"];
/// The namespace of the hosts that all of them use.
const CATALOG: &str = "catalog";
/// Everything that is kept in Redis: counters of five kinds of scopes with their requests in flight, reservations, and what
/// data planes tell each other.
const KINDS: [&str; 21] = [
    "batch",
    "born",
    "breakers",
    "exchanged",
    "holds",
    "host",
    "host:slots",
    "hostkey",
    "hostkey:slots",
    "key",
    "key:slots",
    "learned",
    "leases",
    "model",
    "model:slots",
    "pods",
    "policy",
    "policy:slots",
    "probe",
    "rates",
    "seeded",
];
const PATIENCE: Duration = Duration::from_secs(60);

fn token(namespace: &str) -> String {
    format!("token-of-{namespace}-0123456789-abcdefghij")
}

fn limits() -> Limits {
    let plenty = Some(PLENTY);
    Limits { rpm: plenty, tpm: plenty, tpd: plenty, concurrency: plenty, ..Limits::default() }
}

fn provider() -> ProviderLimits {
    let plenty = Some(PLENTY);
    ProviderLimits { rpm: plenty, tpm: plenty, concurrency: plenty, ..ProviderLimits::default() }
}

fn budget() -> Budget {
    let (amount, period) = (NanoUsd(PLENTY), Period::Month);
    Budget {
        amount,
        period,
        timezone: "UTC".to_owned(),
        on_exceeded: BudgetAction::Block,
        alert_at_percent: Vec::new(),
    }
}

/// One model at a host of the first namespace and at one of the catalog; relay keys in all namespaces.
fn tables(upstream: &Upstream) -> Tables {
    let mut tables = Tables::new();
    for host in ["own", "shared"] {
        tables = tables.host_with(host, OpenaiChat, &upstream.url(), &[], |row| {
            (row.limits, row.allowed) = (provider(), NamespaceGrant::All);
            // Short, so that keys that failed are probed while the test lasts.
            row.breaker.server_error.cooldown = Duration::from_millis(200);
        });
        for key in ["good", "bad"] {
            tables = tables.host_key(host, &format!("{host}-{key}"), |row| {
                (row.limits, row.allowed) = (provider(), NamespaceGrant::All);
            });
        }
    }
    tables = tables
        .model_with("m", &["own", "shared"], |model| {
            model.allowed = NamespaceGrant::All;
            if let Route::Bindings(bindings) = &mut model.route {
                bindings.iter_mut().for_each(|binding| binding.priority = 0);
                bindings[1].host = ObjectRef::new(CATALOG, "shared");
            }
        })
        .policy(|policy| {
            (policy.limits, policy.budgets) = (limits(), vec![budget()]);
            policy.per_model = vec![ModelLimits { matches: "m".to_owned(), limits: limits() }];
            (policy.routing.strategy, policy.routing.max_attempts) = (Strategy::Weighted, 4);
            (policy.allowed, policy.model_refs) = (NamespaceGrant::All, vec![named("m")]);
        });
    move_to_catalog(&mut tables);
    give_keys(tables)
}

/// A relay key in each namespace, with a policy for itself and one that its namespace shares.
fn give_keys(mut tables: Tables) -> Tables {
    let Some(Row::Usable(policy)) = tables.table.policies.get(&named("all")).cloned() else {
        panic!("it has a policy")
    };
    let shared = table::Policy { limit_scope: LimitScope::Shared, ..policy.clone() };
    let leased = table::Policy { limit_mode: LimitMode::Leased, ..policy };
    tables.table.policies.insert(named("shared"), Row::Usable(shared));
    tables.table.policies.insert(named("leased"), Row::Usable(leased));
    for namespace in NAMESPACES {
        tables = tables.relay_key(namespace, &token(namespace), |key| {
            let policy = if namespace == "leased" { "leased" } else { "all" };
            key.policies = vec![named(policy), named("shared")];
            (key.limits, key.budget) = (limits(), Some(budget()));
        });
        let key = tables.table.relay_keys.remove(&named(namespace)).expect("it was given");
        tables.table.relay_keys.insert(ObjectRef::new(namespace, "key"), key);
    }
    tables
}

fn move_to_catalog(tables: &mut Tables) {
    let host = tables.table.hosts.remove(&named("shared")).expect("it is there");
    tables.table.hosts.insert(ObjectRef::new(CATALOG, "shared"), host);
    for name in ["shared-good", "shared-bad"] {
        let Some(Row::Usable(mut key)) = tables.table.host_keys.remove(&named(name)) else { panic!("it is there") };
        key.host = ObjectRef::new(CATALOG, "shared");
        tables.table.host_keys.insert(ObjectRef::new(CATALOG, name), Row::Usable(key));
        let credential = tables.credentials.host_keys.remove(&named(name)).expect("each key has one");
        tables.credentials.host_keys.insert(ObjectRef::new(CATALOG, name), credential);
    }
}

fn answer(request: &Received) -> Script {
    match request.key().ends_with("-bad") {
        true => Script::json(500, &wire::error(OpenaiChat, "server_error", "no")),
        false => wire::good(OpenaiChat, request, "hi"),
    }
}

/// What a key is for: what stands behind its domain, without the names of objects.
fn kind(key: &str) -> String {
    let what = key.split_once("}:").map_or(key, |(_, what)| what);
    let first = if what.contains("/model/") { Some("model") } else { what.split(['/', ':']).next() };
    let end = if what.ends_with(":slots") { ":slots" } else { "" };
    format!("{}{end}", first.unwrap_or_default())
}

/// What a server executes, scripts' own commands included, which no proxy sees.
struct Monitor {
    ended: Arc<AtomicBool>,
    reader: JoinHandle<Vec<String>>,
    /// Whatever comes through here wakes the reader.
    address: SocketAddr,
}

impl Monitor {
    fn start(address: SocketAddr) -> Self {
        let mut connection = TcpStream::connect(address).expect("the server listens");
        connection.write_all(b"MONITOR\r\n").expect("the server reads");
        let mut lines = BufReader::new(connection).lines().map(|line| line.expect("the server goes on"));
        assert_eq!(lines.next().as_deref(), Some("+OK"));
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let reader = thread::spawn(move || lines.take_while(|_| !end.load(Ordering::SeqCst)).collect());
        Self { ended, reader, address }
    }

    /// The slots of all keys that each call of a script named or used.
    fn slots_by_call(self) -> Vec<BTreeSet<u16>> {
        self.ended.store(true, Ordering::SeqCst);
        let mut wake = TcpStream::connect(self.address).expect("the server listens");
        wake.write_all(b"PING\r\n").expect("the server reads");
        let lines = self.reader.join().expect("the reader ends");
        assert!(lines.iter().any(|line| line.contains(" lua] ")), "what scripts do is seen");
        let mut calls: Vec<BTreeSet<u16>> = Vec::new();
        for line in &lines {
            if line.contains(r#"] "EVALSHA" "#) {
                calls.push(BTreeSet::new());
            } else if !line.contains(" lua] ") {
                continue;
            }
            let keys = line.split('"').filter(|word| word.starts_with("relay:{"));
            calls.last_mut().expect("a script was called").extend(keys.map(slot_of));
        }
        calls
    }
}

fn sent(cluster: &Cluster) -> Vec<Sent> {
    cluster.proxies().into_iter().flat_map(CountingProxy::commands).collect()
}

/// Asks with every relay key until all that is kept in Redis was touched, streamed and not, a tenth left early.
async fn ask_until_all_was_touched(relays: &[TestRelay], cluster: &Cluster) {
    let touching = async {
        for number in 0_usize.. {
            let asks =
                NAMESPACES.iter().flat_map(|namespace| relays.iter().map(move |relay| (relay, token(namespace))));
            let statuses = join_all(asks.map(async |(relay, token)| {
                let ask = Ask::openai("m").token(&token);
                let answer = relay.send(&if number.is_multiple_of(2) { ask } else { ask.streamed() }).await;
                let (status, is_degraded) = (answer.status, answer.headers.contains_key("x-relay-limits"));
                if !number.is_multiple_of(10) {
                    answer.whole().await;
                }
                (status, is_degraded)
            }));
            for (status, is_degraded) in statuses.await {
                assert_eq!((status, is_degraded), (200, false));
            }
            let touched: BTreeSet<_> = sent(cluster).iter().flat_map(|sent| &sent.keys).map(|key| kind(key)).collect();
            if KINDS.iter().all(|kind| touched.contains(*kind)) {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, touching).await.is_err() {
        let touched: BTreeSet<_> = sent(cluster).iter().flat_map(|sent| &sent.keys).map(|key| kind(key)).collect();
        panic!("of {KINDS:?} only these were touched: {touched:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_about_two_slots() {
    let cluster = block_in_place(|| Cluster::start_with(Layout { proxies: true, ..Layout::default() }));
    let monitors: Vec<_> = cluster.nodes().iter().map(|node| Monitor::start(node.address())).collect();
    let upstream = Upstream::start_forgetful(answer).await;
    let patient = Duration::from_secs(5);
    let redis = RedisConfig { mode: RedisMode::Cluster, timeout: patient, ..redis_at(&cluster.addresses()) };
    let mut relays = Vec::new();
    for _ in 0..2 {
        relays.push(TestRelay::start_at(tables(&upstream), redis.clone()).await);
    }

    ask_until_all_was_touched(&relays, &cluster).await;
    for relay in relays {
        let records = relay.records().await;
        assert!(records.iter().all(|record| record["limits_degraded"] == false));
    }

    // Then, the ends of both data planes included:
    let all = sent(&cluster);
    let mut counts = BTreeMap::<_, usize>::new();
    for sent in &all {
        assert!(sent.slots().len() <= 1, "{sent:?}");
        *counts.entry(sent.name.as_str()).or_default() += 1;
    }
    let calls: Vec<_> = monitors.into_iter().flat_map(Monitor::slots_by_call).collect();
    assert!(calls.iter().all(|slots| slots.len() == 1), "{calls:?}");
    assert_eq!(calls.len(), counts["EVALSHA"], "each call was watched");
    println!("{counts:?}");
    let tags: BTreeSet<_> =
        all.iter().flat_map(|sent| &sent.keys).filter_map(|key| key.split(['{', '}']).nth(1)).collect();
    assert!(NAMESPACES.iter().chain([&CATALOG]).all(|namespace| tags.contains(namespace)), "{tags:?}");
    let busy = cluster.proxies().into_iter().filter(|proxy| proxy.counts().contains_key("EVALSHA")).count();
    assert_eq!(busy, 3, "each master decides for some namespace");
    let moved: u64 = cluster.nodes().iter().map(|node| errors(&node.cli(&["INFO", "errorstats"]))).sum();
    assert_eq!(moved, 0, "each call went to the node that serves its slot");
}

/// Answers that told a client to ask elsewhere, or that its keys are in two slots.
fn errors(stats: &str) -> u64 {
    let of = |line: &str| line.split_once("count=").and_then(|(_, count)| count.trim().parse::<u64>().ok());
    let named =
        |line: &&str| ["CROSSSLOT", "MOVED", "ASK"].iter().any(|name| line.contains(&format!("errorstat_{name}:")));
    stats.lines().filter(named).filter_map(of).sum()
}
