//! Measures, on a real API server: how soon a change is compiled, how long a compilation takes, and what memory the
//! operator needs: `cargo bench -p relay-operator --bench scale`.

#[path = "../tests/cluster/support.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use plane::Plane;
use serde_json::{Value, json};
use table::{ObjectRef, Row};

use self::support::start;

/// How many there are, from the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// An operator in a process of its own, killed when dropped.
struct Process {
    child: Child,
    admin: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(plane: &Plane, namespace: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-operator"));
        command.args(["--admin", "127.0.0.1:0", "--watch-namespaces", "*", "--namespace", namespace]);
        command.env("KUBECONFIG", plane.kubeconfig()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let after = line.split_once("admin on http://").unwrap().1;
        let admin = after.split([',', ' ', '\n']).next().unwrap().to_owned();
        Self { child, admin }
    }

    fn megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

fn kind(name: &str) -> ApiResource {
    match name {
        "Secret" => ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
        "Host" => ApiResource::erase::<crds::Host>(&()),
        "HostKey" => ApiResource::erase::<crds::HostKey>(&()),
        "Model" => ApiResource::erase::<crds::Model>(&()),
        "Policy" => ApiResource::erase::<crds::Policy>(&()),
        "RelayKey" => ApiResource::erase::<crds::RelayKey>(&()),
        other => panic!("{other}"),
    }
}

async fn create(client: &Client, namespace: &str, objects: impl IntoIterator<Item = (&'static str, String, Value)>) {
    let made = stream::iter(objects).map(|(of, name, data)| async move {
        let resource = kind(of);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let object = DynamicObject::new(&name, &resource).data(data);
        api.create(&PostParams::default(), &object).await.unwrap();
    });
    made.buffer_unordered(32).collect::<()>().await;
}

/// `keys` relay keys, and hosts, models, host keys with their Secrets, and policies in proportion.
fn objects(keys: usize) -> Vec<(&'static str, String, Value)> {
    let mut all = Vec::new();
    let (hosts, models, host_keys, policies) = (10, 30, keys / 20, keys / 40);
    for n in 0..hosts {
        let spec = json!({"protocol": "OpenAI", "baseURL": format!("https://host-{n}.example/v1")});
        all.push(("Host", format!("host-{n}"), json!({"spec": spec})));
    }
    for n in 0..host_keys {
        let name = format!("key-{n}");
        all.push(("Secret", name.clone(), json!({"stringData": {"token": format!("sk-{n}")}})));
        let source = json!({"secretKeyRef": {"name": name, "key": "token"}});
        let spec = json!({"hostRef": {"name": format!("host-{}", n % hosts)}, "source": source});
        all.push(("HostKey", name, json!({"spec": spec})));
    }
    for n in 0..models {
        let binding = |at: usize| {
            let host = format!("host-{}", (n + at * 3) % hosts);
            json!({"name": format!("b{at}"), "hostRef": {"name": host}, "upstreamModel": "gpt-5"})
        };
        all.push(("Model", format!("model-{n}"), json!({"spec": {"hosts": [binding(0), binding(1)]}})));
    }
    for n in 0..policies {
        let spec = json!({"models": {"allow": ["model-*"]}, "hosts": {"allow": ["*"]}, "limits": {"rpm": 100 + n}});
        all.push(("Policy", format!("policy-{n}"), json!({"spec": spec})));
    }
    for n in 0..keys {
        let policy = format!("policy-{}", n % policies);
        let spec = json!({"policyRefs": [{"name": policy}], "tokenHash": format!("sha256:{n:064x}")});
        all.push(("RelayKey", format!("app-{n}"), json!({"spec": spec})));
    }
    all
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[tokio::main]
async fn main() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let client = plane.client().await;
    let keys = number("RELAY_SCALE_KEYS", 1_650);
    let all = objects(keys);
    let count = all.iter().filter(|(kind, ..)| *kind != "Secret").count();
    create(&client, &namespace, all).await;
    let strangers = plane.namespace();
    let unrelated = number("RELAY_SCALE_SECRETS", 0);
    let filling = "x".repeat(8 * 1024);
    let secret = |n| ("Secret", format!("stranger-{n}"), json!({"stringData": {"filling": filling}}));
    create(&client, &strangers, (0..unrelated).map(secret)).await;

    let begun = Instant::now();
    let mut operator = start(plane.kubeconfig(), &["*"]).await;
    let first = operator.until("everything is there", |now| now.reports.len() == count).await;
    println!("{count} objects, {unrelated} unrelated Secrets");
    println!("start to first table: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    assert!(first.reports.iter().all(|report| !report.is_refused()));

    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind("RelayKey"));
    let mut waits = Vec::new();
    for n in 0..200 {
        let name = format!("app-{}", n * 7 % keys);
        let rpm = 1_000 + n as u64;
        let patch = json!({"spec": {"limits": {"rpm": rpm}}});
        let begun = Instant::now();
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        let id = ObjectRef::new(&namespace, &name);
        let has = |now: &operator::Published| {
            now.table.relay_keys.get(&id).and_then(Row::usable).is_some_and(|key| key.limits.rpm == Some(rpm))
        };
        operator.until("the change is compiled", has).await;
        waits.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    waits.sort_by(f64::total_cmp);
    let [half, most, all] = [50, 99, 100].map(|percent| percentile(&waits, percent));
    println!("change to table, one at a time: p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms");
    let mut waits = Vec::new();
    for n in 0..50 {
        let name = format!("app-{}", n * 11 % keys);
        let begun = Instant::now();
        api.delete(&name, &Default::default()).await.unwrap();
        let id = ObjectRef::new(&namespace, &name);
        operator.until("the key is gone", |now| !now.table.relay_keys.contains_key(&id)).await;
        waits.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    waits.sort_by(f64::total_cmp);
    println!("deletion to table: p50 {:.0} ms, p99 {:.0} ms", percentile(&waits, 50), percentile(&waits, 99));
    let (_, metrics) = operator.ask("/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    for part in ["snapshot", "compile"] {
        let [sum, runs] = ["sum", "count"].map(|of| value(&format!("relay_operator_{part}_seconds_{of}")));
        println!("{part}: {:.1} ms a time over {runs} compilations", sum / runs * 1e3);
    }
    operator.stop().await;

    let process = Process::start(&plane, &namespace);
    while crate::support::ask(&process.admin, "/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("memory of the process once it is ready: {:.0} MB", process.megabytes());
    for n in 0..100 {
        let patch = json!({"spec": {"limits": {"rpm": 5_000 + n}}});
        let name = format!("app-{}", 600 + n);
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("memory of the process after 100 changes: {:.0} MB", process.megabytes());
}
