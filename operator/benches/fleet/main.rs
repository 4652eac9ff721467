//! Measures one operator with a thousand data planes on a real API server: `cargo bench -p relay-operator --bench fleet`.
//! They speak TLS 1.3 and show tokens that are bound to Pods of theirs. `RELAY_FLEET_STREAMS=1000 RELAY_SCALE_KEYS=10000`
//! say how many there are, `RELAY_FLEET_WHOLE=20` how many of them keep a table as real ones do,
//! `RELAY_BENCH_WRAP="taskset -c 3"` has the operator use one core, and `RELAY_FLEET_REST=0` ends after the rows of the table
//! of goals.

#[path = "../common/mod.rs"]
mod common;
mod light;
#[path = "../../../bench/row.rs"]
mod row;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use feed::client::{About, Client as WholeClient, State, Times};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, core::DynamicObject};
use operator::push::AUDIENCE;
use plane::{Plane, PodObject};
use serde_json::json;
use table::Secret;
use tokio::{net::TcpStream, sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    common::{Operator, Served, create, load, number, objects, patch, relay_keys, show},
    light::{Fleet, Light, freeze},
};

/// Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let client = plane.client().await;
    let (streams, keys) = (number("RELAY_FLEET_STREAMS", 100), number("RELAY_SCALE_KEYS", 1_000));
    let (whole, frozen) = (number("RELAY_FLEET_WHOLE", 5).min(streams), number("RELAY_FLEET_FROZEN", 10));
    let all = objects(keys, 0);
    let count = all.iter().filter(|(kind, ..)| *kind != "Secret").count();
    create(&client, &namespace, all).await;
    let tokens = tokens(&plane, &namespace, streams + frozen).await;
    println!("{keys} relay keys, {streams} data planes of which {whole} keep their table; load {}", load());

    let operator = Operator::start(&plane, &namespace, "127.0.0.1:0");
    println!("start to ready: {:.2} s", operator.ready().await.as_secs_f64());
    let (settled, written) = operator.settled().await;
    println!("start to the last of {written} statuses: {:.1} s; {}", settled.as_secs_f64(), used(&operator));
    let bundle = bundle(&client, &namespace).await;
    let fleet = Fleet::new(operator.push.clone(), namespace.clone(), bundle);
    let mut bench = Bench {
        plane: &plane,
        client,
        operator,
        fleet,
        light: streams - whole,
        whole: Vec::new(),
        keys,
        objects: count,
        asked: 0,
    };

    bench.cold(&tokens[..streams]).await;
    let changed = bench.changes("one key", number("RELAY_FLEET_CHANGES", 100), false).await;
    let revoked = bench.changes("a revocation", number("RELAY_FLEET_REVOCATIONS", 20), true).await;
    bench.burst(2_000).await;
    bench.rows(&changed, &revoked);
    if number("RELAY_FLEET_REST", 1) == 0 {
        return;
    }
    bench.idle().await;
    bench.frozen(&tokens[streams..]).await;
    bench.storm().await;
    bench.changes("one key after the storm", 20, false).await;
    bench.farewell().await;
}

struct Bench<'a> {
    plane: &'a Plane,
    client: Client,
    operator: Operator,
    fleet: Arc<Fleet>,
    light: usize,
    whole: Vec<watch::Receiver<State>>,
    keys: usize,
    objects: usize,
    /// Changes that were asked for: no two are alike.
    asked: usize,
}

impl Bench<'_> {
    /// All come at once and have nothing.
    async fn cold(&mut self, tokens: &[(PodObject, String)]) {
        let before = Served::now(&self.client).await;
        let (begun, cpu) = (Instant::now(), self.operator.cpu());
        for (pod, token) in &tokens[..self.light] {
            tokio::spawn(Light::new(&self.fleet, pod.clone(), token.clone()).run());
        }
        for (pod, token) in &tokens[self.light..] {
            self.whole.push(self.whole(pod, token));
        }
        self.all_current(begun).await;
        let took = begun.elapsed();
        println!(
            "cold snapshot to all: {:.2} s, {:.2} s of processor; {}",
            took.as_secs_f64(),
            self.operator.cpu() - cpu,
            used(&self.operator)
        );
        self.fleet.counts.print();
        Served::now(&self.client).await.print_since(&before, took.as_secs_f64());
        let cpu = self.operator.cpu();
        let (_, written) = self.operator.settled().await;
        let (took, cpu) = (begun.elapsed().as_secs_f64() - 4.0, self.operator.cpu() - cpu);
        println!(
            "  until all {written} statuses say so: {took:.1} s, {cpu:.1} s of processor; {}",
            used(&self.operator)
        );
    }

    fn whole(&self, pod: &PodObject, token: &str) -> watch::Receiver<State> {
        let (at, bundle, token) = (self.fleet.at.clone(), self.fleet.bundle.clone(), token.to_owned());
        let name = format!("relay-operator.{}.svc", self.fleet.namespace);
        let trust = move || Ok(bundle.clone().into_bytes());
        let shown = move || Ok(Secret::new(token.clone()));
        let connector = feed::connect::Connector::new(&name, move || TcpStream::connect(at.clone()), trust, shown);
        let (pod, pod_uid) = (pod.name.clone(), pod.uid.clone());
        let about = About { pod, pod_uid, namespace: self.fleet.namespace.clone(), ..About::default() };
        let client = WholeClient::new(about, Times::default(), connector.unwrap(), |_| Ok(()));
        let state = client.state();
        tokio::spawn(client.run(CancellationToken::new()));
        state
    }

    /// One change after the other: from the request that makes it until all have it in effect and have said so.
    async fn changes(&mut self, what: &str, many: usize, revoke: bool) -> Vec<Duration> {
        let api: Api<DynamicObject> = relay_keys(&self.client, &self.fleet.namespace);
        let (mut last, mut each, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        let cpu = self.operator.cpu();
        self.fleet.counts.forget();
        for n in 0..many {
            let name = format!("app-{}", (n * 7 + usize::from(revoke)) % self.keys);
            let spec = if revoke { json!({"revoked": true}) } else { json!({"limits": {"rpm": 1_000 + self.asked}}) };
            self.asked += 1;
            let before = self.fleet.root();
            let asked = Instant::now();
            patch(&api, &name, spec).await;
            answered.push(asked.elapsed());
            loop {
                let moved = self.fleet.moved(&before);
                if moved.len() == self.light {
                    last.push(moved.iter().max().copied().unwrap_or(asked) - asked);
                    each.extend(moved.into_iter().map(|at| at - asked));
                    break;
                }
                assert!(asked.elapsed() < PATIENCE, "{} of {} have the change", moved.len(), self.light);
                sleep(Duration::from_millis(2)).await;
            }
            // The next comes when this one's statuses are on their way too.
            sleep(Duration::from_millis(200)).await;
        }
        show(&format!("{what}, request to the last data plane"), &last);
        show("  to any of them", &each);
        show("  of that, the request itself", &answered);
        let each = (self.operator.cpu() - cpu) * 1e3 / many as f64;
        println!("  {each:.0} ms of processor each, statuses included; {}", used(&self.operator));
        self.fleet.counts.print();
        last
    }

    /// What of this has a goal.
    fn rows(&self, changed: &[Duration], revoked: &[Duration]) {
        let objects = self.objects;
        let streams = self.light + self.whole.len();
        let goal = if objects > 2_500 || streams > 100 { 1_000.0 } else { 300.0 };
        let those = format!("{streams} data planes, {objects} objects");
        time_row(&format!("{those}: one key, from its request to the last acknowledgement"), changed, goal);
        time_row(&format!("{those}: a revocation, likewise"), revoked, 1_000.0);
        let (now, most) = self.operator.megabytes();
        let goal =
            format!("{those}: memory of the operator less than 300 MB at any time, thousands of changes included");
        row::print(&goal, &format!("{most:.0} MB at most, {now:.0} MB then"), most < 300.0);
    }

    async fn idle(&self) {
        self.operator.settled().await;
        let cpu = self.operator.cpu();
        sleep(Duration::from_secs(15)).await;
        println!("idle: {:.1} % of a core; {}", (self.operator.cpu() - cpu) / 0.15, used(&self.operator));
    }

    /// Some are stopped: they take nothing, and do not even close.
    async fn frozen(&mut self, tokens: &[(PodObject, String)]) {
        let apart = Fleet::new(self.fleet.at.clone(), self.fleet.namespace.clone(), self.fleet.bundle.clone());
        let threads: Vec<_> =
            tokens.iter().map(|(pod, token)| freeze(Light::new(&apart, pod.clone(), token.clone()))).collect();
        sleep(Duration::from_secs(9)).await;
        let (streams, begun) = (self.streams().await, Instant::now());
        println!("{} data planes are stopped, {streams} streams are open; {}", threads.len(), used(&self.operator));
        self.changes("one key while some are stopped", 40, false).await;
        self.burst(2_000).await;
        while self.streams().await + threads.len() as f64 > streams {
            assert!(begun.elapsed() < PATIENCE, "the streams of those that are stopped stay open");
            sleep(Duration::from_millis(200)).await;
        }
        println!("  their streams were closed {:.0} s later; {}", begun.elapsed().as_secs_f64(), used(&self.operator));
        threads.into_iter().for_each(|thread| {
            thread.thread().unpark();
        });
    }

    async fn streams(&self) -> f64 {
        // Of the operator's sockets, those that were accepted by its push port.
        let port: u16 = self.fleet.at.rsplit_once(':').unwrap().1.parse().unwrap();
        let wanted = format!(":{port:04X}");
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.operator.id())).unwrap();
        let is_open = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&wanted) && fields[3] == "01"
        };
        table.lines().skip(1).filter(is_open).count() as f64
    }

    /// Many keys change at once.
    async fn burst(&mut self, many: usize) {
        let api: Api<DynamicObject> = relay_keys(&self.client, &self.fleet.namespace);
        self.fleet.counts.forget();
        let (begun, cpu) = (Instant::now(), self.operator.cpu());
        let many = many.min(self.keys);
        let changes = stream::iter(0..many).map(|n| {
            let api = &api;
            async move { patch(api, &format!("app-{n}"), json!({"limits": {"rpm": 50_000 + n}})).await }
        });
        changes.buffer_unordered(32).collect::<()>().await;
        let asked = begun.elapsed();
        self.all_current(begun).await;
        println!(
            "{many} keys changed in {:.1} s, all have them after {:.1} s, {:.1} s of processor; {}",
            asked.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            self.operator.cpu() - cpu,
            used(&self.operator)
        );
        self.fleet.counts.print();
    }

    /// The operator is killed and comes back.
    async fn storm(&mut self) {
        self.operator.settled().await;
        let before = Served::now(&self.client).await;
        self.fleet.counts.forget();
        let snapshots = |state: &watch::Receiver<State>| state.borrow().snapshot_rows;
        let rows: u64 = self.whole.iter().map(snapshots).sum();
        let killed = Instant::now();
        self.operator.replace(self.plane, &self.fleet.namespace);
        let ready = self.operator.ready().await;
        self.all_current(killed).await;
        let took = killed.elapsed().as_secs_f64();
        println!(
            "killed and started again: ready after {:.2} s, all current after {took:.2} s, {:.2} s of processor; {}",
            ready.as_secs_f64(),
            self.operator.cpu(),
            used(&self.operator)
        );
        self.fleet.counts.print();
        println!("    rows to those that keep a table: {}", self.whole.iter().map(snapshots).sum::<u64>() - rows);
        Served::now(&self.client).await.print_since(&before, took);
    }

    /// The operator ends in order: all are asked to go elsewhere.
    async fn farewell(&mut self) {
        self.fleet.counts.forget();
        let begun = Instant::now();
        let took = self.operator.terminate().await;
        println!(
            "told to end: {:.1} s until it has; {} were summoned",
            took.as_secs_f64(),
            self.fleet.counts.summoned.load(Ordering::Relaxed)
        );
        println!("  {:.1} s in all; load {}", begun.elapsed().as_secs_f64(), load());
    }

    async fn all_current(&self, begun: Instant) {
        // What changed last reaches all after what is compiled is what there is.
        loop {
            let behind = self.whole.iter().filter(|state| state.borrow().server.is_none()).count();
            let current = self.fleet.current();
            if current == self.light && behind == 0 && self.agree() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{current} of {} are current, {behind} are not connected", self.light);
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn agree(&self) -> bool {
        let root = self.fleet.root();
        self.whole.iter().all(|state| state.borrow().root.is_some_and(|held| held.as_bytes()[..] == root[..]))
    }
}

/// Of such times almost all are to be less than so many milliseconds.
fn time_row(what: &str, times: &[Duration], most: f64) {
    let [half, almost_all] = [50, 99].map(|percent| row::at(times, percent));
    let measured = format!("p50 {half:.0} ms, p99 {almost_all:.0} ms of {}", times.len());
    row::print(&format!("{what}: p99 less than {most:.0} ms"), &measured, almost_all < most);
}

fn used(operator: &Operator) -> String {
    let (memory, most) = operator.megabytes();
    format!("{memory:.0} MB, at most {most:.0} MB; load {}", load())
}

/// A pod and its token for each.
async fn tokens(plane: &Plane, namespace: &str, many: usize) -> Vec<(PodObject, String)> {
    let account = plane.service_account(namespace, "relay-dataplane").await;
    let account = &account;
    let made = stream::iter(0..many).map(|n| async move {
        let pod = account.pod(&format!("edge-{n}")).await;
        let token = account.bound_token(&pod, AUDIENCE).await;
        (pod, token)
    });
    made.buffer_unordered(16).collect().await
}

/// The authorities that the operator made.
async fn bundle(client: &Client, namespace: &str) -> String {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    loop {
        for map in api.list(&Default::default()).await.unwrap() {
            let entry = map.data.and_then(|data| data.get("ca.crt").cloned());
            if let Some(bundle) = entry {
                return bundle;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "the operator publishes no bundle");
        sleep(Duration::from_millis(50)).await;
    }
}
