//! What measurements on a real API server share: objects in numbers, an operator as a process of its own, and what both
//! it and the API server used meanwhile.

use std::{
    collections::BTreeMap,
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
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many there are, from the environment.
pub(crate) fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the machine does besides, as `/proc/loadavg` says it.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// An operator in a process of its own, killed when dropped.
pub(crate) struct Operator {
    child: Child,
    pub(crate) admin: String,
    pub(crate) push: String,
    begun: Instant,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    /// Starts one that watches everything and lives in `namespace`; `push` is the address of its push port. What is in
    /// `RELAY_BENCH_WRAP` stands before the program: `taskset -c 3`.
    pub(crate) fn start(plane: &Plane, namespace: &str, push: &str) -> Self {
        let wrap = std::env::var("RELAY_BENCH_WRAP").unwrap_or_default();
        let mut words: Vec<&str> = wrap.split_whitespace().collect();
        words.push(env!("CARGO_BIN_EXE_relay-operator"));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--admin", "127.0.0.1:0", "--push", push]);
        command.args(["--watch-namespaces", "*", "--namespace", namespace]);
        command.env("KUBECONFIG", plane.kubeconfig()).stdout(Stdio::piped());
        if std::env::var_os("RELAY_LOG").is_none() {
            command.env("RELAY_LOG", "warn");
        }
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let after = |word: &str| {
            let text = line.split_once(word).unwrap_or_else(|| panic!("`{word}` is not in `{line}`")).1;
            text.split([',', ' ', '\n']).next().unwrap().to_owned()
        };
        let (admin, push) = (after("admin on http://"), after("push on "));
        Self { child, admin, push, begun }
    }

    /// Waits until it is ready. Says how long that took from its start.
    pub(crate) async fn ready(&self) -> Duration {
        while ask(&self.admin, "/readyz").await.0 != 200 {
            assert!(self.begun.elapsed() < PATIENCE, "it does not get ready");
            sleep(Duration::from_millis(20)).await;
        }
        self.begun.elapsed()
    }

    /// Waits until nothing was written for a while and nothing waits to be. Says how long after its start the last was
    /// written, and how many were.
    pub(crate) async fn settled(&self) -> (Duration, f64) {
        let (mut last, mut since) = (-1.0, Instant::now());
        loop {
            let metrics = self.metrics().await;
            let done = sum(&metrics, "relay_operator_status_writes_total");
            let is_idle = sum(&metrics, "relay_operator_status_waiting") == 0.0;
            if done != last || !is_idle {
                (last, since) = (done, Instant::now());
            }
            if since.elapsed() > Duration::from_secs(4) {
                let written =
                    metrics.iter().find(|(name, _)| name.contains("succeeded")).map_or(0.0, |(_, many)| *many);
                return (since - self.begun, written);
            }
            assert!(self.begun.elapsed() < PATIENCE, "it does not end to write");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// All metrics, by name and labels.
    pub(crate) async fn metrics(&self) -> Vec<(String, f64)> {
        samples(&ask(&self.admin, "/metrics").await.1)
    }

    /// Memory that it has, in megabytes, and the most that it ever had.
    pub(crate) fn megabytes(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Processor time that it used, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and starts another on the same port.
    pub(crate) fn replace(&mut self, plane: &Plane, namespace: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Self::start(plane, namespace, &self.push.clone());
    }

    /// Asks it to end. Says how long it took.
    pub(crate) async fn terminate(&mut self) -> Duration {
        let begun = Instant::now();
        let ended = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(ended.success());
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}

/// What an admin port answers: the status and the body.
pub(crate) async fn ask(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn samples(text: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// The sum of a metric over all its labels.
pub(crate) fn sum(samples: &[(String, f64)], name: &str) -> f64 {
    let of = |sample: &&(String, f64)| sample.0.split('{').next() == Some(name);
    samples.iter().filter(of).map(|(_, value)| value).sum()
}

/// What the API server answered and used so far.
#[derive(Default)]
pub(crate) struct Served {
    requests: BTreeMap<String, f64>,
    cpu: f64,
    memory: f64,
}

impl Served {
    pub(crate) async fn now(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let samples = samples(&client.request_text(request).await.unwrap());
        let mut served = Self {
            requests: BTreeMap::new(),
            cpu: sum(&samples, "process_cpu_seconds_total"),
            memory: sum(&samples, "process_resident_memory_bytes") / 1e6,
        };
        for (name, count) in samples.iter().filter(|(name, _)| name.starts_with("apiserver_request_total{")) {
            let label = |label: &str| {
                let value = name.split_once(&format!("{label}=\"")).map(|(_, after)| after.split('"').next());
                value.flatten().unwrap_or_default()
            };
            let (verb, resource, part, code) = (label("verb"), label("resource"), label("subresource"), label("code"));
            let part = if part.is_empty() { String::new() } else { format!("/{part}") };
            *served.requests.entry(format!("{verb} {resource}{part} {code}")).or_default() += count;
        }
        served
    }

    /// Prints what came since `before`, in words.
    pub(crate) fn print_since(&self, before: &Self, seconds: f64) {
        for (what, count) in &self.requests {
            let new = count - before.requests.get(what).copied().unwrap_or(0.0);
            if new > 2.0 {
                println!("    {new:>7} {what}");
            }
        }
        let cpu = self.cpu - before.cpu;
        println!("    the API server: {cpu:.1} s of processor in {seconds:.1} s, {:.0} MB", self.memory);
    }
}

pub(crate) fn kind(name: &str) -> ApiResource {
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

/// Relay keys, to be changed.
pub(crate) fn relay_keys(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind("RelayKey"))
}

/// Changes an object's spec.
pub(crate) async fn patch(api: &Api<DynamicObject>, name: &str, spec: Value) {
    api.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec}))).await.unwrap();
}

pub(crate) async fn create(
    client: &Client,
    namespace: &str,
    objects: impl IntoIterator<Item = (&'static str, String, Value)>,
) {
    let made = stream::iter(objects).map(|(of, name, data)| async move {
        let resource = kind(of);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let object = DynamicObject::new(&name, &resource).data(data);
        api.create(&PostParams::default(), &object).await.unwrap();
    });
    made.buffer_unordered(32).collect::<()>().await;
}

/// `keys` relay keys, and hosts, models, host keys with their Secrets, and policies in proportion. Tokens of the last
/// `minted` keys are made by the operator.
pub(crate) fn objects(keys: usize, minted: usize) -> Vec<(&'static str, String, Value)> {
    let mut all = Vec::new();
    let (hosts, models, host_keys, policies) = (10, 30, keys / 20, (keys / 40).max(1));
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
        let mut spec = json!({"policyRefs": [{"name": format!("policy-{}", n % policies)}]});
        if n + minted >= keys {
            spec["secret"] = json!({"name": format!("app-{n}")});
        } else {
            spec["tokenHash"] = json!(format!("sha256:{n:064x}"));
        }
        all.push(("RelayKey", format!("app-{n}"), json!({"spec": spec})));
    }
    all
}

/// Half of them, almost all and the longest, in milliseconds.
pub(crate) fn show(what: &str, waits: &[Duration]) {
    let mut sorted: Vec<f64> = waits.iter().map(|wait| wait.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
    println!("{what}: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms of {}", at(50), at(99), at(100), sorted.len());
}
