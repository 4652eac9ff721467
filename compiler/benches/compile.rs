//! How long a whole compilation takes, and that it grows in step with what is compiled.

use std::{hint::black_box, sync::Arc, time::Duration};

use compiler::{Resources, compile};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use table::{ObjectRef, Secret, token::TokenHash};

const NAMESPACES: usize = 50;
const HOSTS: usize = 40;

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

fn whole_world(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for size in [1, 5, 10] {
        let resources = resources(size);
        let refused = compile(&resources).reports.iter().filter(|report| report.is_refused()).count();
        assert_eq!(refused, 0, "the benchmark compiles good objects");
        let name = BenchmarkId::new("relay keys", 1_000 * size);
        group.bench_with_input(name, &resources, |bencher, resources| bencher.iter(|| compile(black_box(resources))));
    }
    group.finish();
}

criterion_group!(benches, whole_world);
criterion_main!(benches);
