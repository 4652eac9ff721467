//! How much processor time a whole compilation takes, and that it grows in step with what is compiled.
//! `cargo bench -p relay-compiler`; without `--bench` everything is small, to see that it runs.

#[path = "../../bench/row.rs"]
mod row;

use std::{hint::black_box, sync::Arc, time::Duration};

use compiler::{Resources, compile};
use mimalloc::MiMalloc;
use serde_json::{Value, json};
use table::{ObjectRef, Secret, token::TokenHash};

/// As in the programs that compile.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const NAMESPACES: usize = 50;
const HOSTS: usize = 40;
/// Four times as many objects may take this much more for each of them: they fit less well into caches.
const LINEAR: f64 = 1.4;

/// `size` tenths of 10,000 relay keys, 400 models, 1,000 host keys and 500 policies over 50 namespaces and a catalog.
fn resources(size: usize) -> Resources {
    let mut all = Resources { catalog_namespace: "catalog".to_owned(), ..Resources::default() };
    for n in 0..HOSTS {
        let spec = json!({
            "protocol": if n % 2 == 0 { "OpenAI" } else { "Anthropic" },
            "baseURL": format!("https://host-{n}.example/v1"),
            "allowedNamespaces": {"from": "All"},
        });
        all.hosts.insert(ObjectRef::new("catalog", format!("host-{n}")), read("Host", &format!("host-{n}"), spec));
    }
    (0..40 * size).for_each(|n| add_model(&mut all, n));
    (0..100 * size).for_each(|n| add_host_key(&mut all, n));
    (0..50 * size).for_each(|n| add_policy(&mut all, n));
    (0..1_000 * size).for_each(|n| add_relay_key(&mut all, n, 50 * size));
    all
}

fn add_model(all: &mut Resources, n: usize) {
    let name = format!("model-{n}");
    let binding = |at: usize| {
        let host = format!("host-{}", (n + at * 7) % HOSTS);
        json!({"name": format!("b{at}"), "hostRef": {"name": host}, "upstreamModel": "gpt-5", "weight": 100 + at})
    };
    let spec = json!({
        "modelName": format!("vendor-{}/{name}", n % 12),
        "aliases": [format!("alias-{n}")],
        "hosts": [binding(0), binding(1), binding(2)],
        "pricing": {"inputPerMTok": "1.25", "outputPerMTok": "10", "cachedInputPerMTok": "0.125"},
        "allowedNamespaces": {"from": "All"},
    });
    all.models.insert(ObjectRef::new("catalog", &name), read("Model", &name, spec));
}

fn add_host_key(all: &mut Resources, n: usize) {
    let name = format!("key-{n}");
    let secret = [("api-key".to_owned(), Secret::new(format!("credential-{n}").into_bytes()))];
    all.secrets.insert(ObjectRef::new("catalog", &name), Arc::new(secret.into()));
    let spec = json!({
        "hostRef": {"name": format!("host-{}", n % HOSTS)},
        "source": {"secretKeyRef": {"name": name, "key": "api-key"}},
        "limits": {"rpm": 500},
        "allowedNamespaces": {"from": "All"},
    });
    all.host_keys.insert(ObjectRef::new("catalog", &name), read("HostKey", &name, spec));
}

fn add_policy(all: &mut Resources, n: usize) {
    let name = format!("policy-{n}");
    let spec = json!({
        "models": {"allow": [format!("vendor-{}/*", n % 12), "alias-1*"], "deny": ["vendor-3/*"]},
        "limits": {"rpm": 600, "tpm": 100_000},
        "budgets": [{"amount": "250", "period": "Month", "timezone": "Europe/Berlin"}],
    });
    all.policies.insert(ObjectRef::new(namespace(n), &name), read("Policy", &name, spec));
}

fn add_relay_key(all: &mut Resources, n: usize, policies: usize) {
    let name = format!("app-{n}");
    let policy = n % policies;
    let spec = json!({
        "policyRefs": [{"name": format!("policy-{policy}")}],
        "tokenHash": format!("sha256:{}", TokenHash::of(&name)),
        "limits": {"rpm": 60},
        "attributes": {"team": namespace(policy)},
    });
    all.relay_keys.insert(ObjectRef::new(namespace(policy), &name), read("RelayKey", &name, spec));
}

fn namespace(n: usize) -> String {
    format!("team-{}", n % NAMESPACES)
}

fn read<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> T {
    let object = json!({
        "apiVersion": "llmrelay.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    });
    serde_json::from_value(object).expect("the object is one of its kind")
}

fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (sizes, runs) = if is_measured { ([5, 10, 20], 25) } else { ([1, 2, 3], 1) };
    let times = sizes.map(|size| milliseconds(size, runs));
    let [least, median, most] = times[1];
    let each = [0, 1, 2].map(|n| times[n][1] / sizes[n] as f64);
    let [fewer, keys, more] = sizes.map(|size| size * 1_000);
    let [models, host_keys, policies] = [40, 100, 50].map(|tenth| tenth * sizes[1]);
    row::print(
        &format!(
            "compile {keys} relay keys, {models} models, {host_keys} host keys, {policies} policies: less than 50 ms of one \
             core, and linear"
        ),
        &format!(
            "{median:.1} ms ({least:.1}–{most:.1} of {runs}); for each 1,000 of {fewer}, {keys} and {more} relay keys \
             {:.2}, {:.2} and {:.2} ms",
            each[0], each[1], each[2]
        ),
        median < 50.0 && each[2] < each[0] * LINEAR,
    );
}

/// The least, the median and the most of several runs, in milliseconds of processor time.
fn milliseconds(size: usize, runs: usize) -> [f64; 3] {
    let resources = resources(size);
    let refused = compile(&resources).reports.iter().filter(|report| report.is_refused()).count();
    assert_eq!(refused, 0, "good objects are compiled");
    let run = |_| {
        let begun = thread_time();
        let compiled = black_box(compile(black_box(&resources)));
        let took: Duration = thread_time() - begun;
        drop(compiled);
        took
    };
    let times: Vec<Duration> = (0..runs).map(run).collect();
    [0, 50, 100].map(|percent| row::at(&times, percent))
}

/// Processor time that this thread has used, from `/proc/thread-self/schedstat`, which counts nanoseconds.
fn thread_time() -> Duration {
    // What a thread has used is written down when it lets others run.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells how long a thread ran");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is nanoseconds"))
}
