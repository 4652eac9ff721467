//! Measures an operator of many objects on a real API server: its start, one change, its memory after many, and what it
//! asks of the API server. `cargo bench -p relay-operator --bench scale`; how many there are comes from the environment:
//! `RELAY_SCALE_KEYS=10000 RELAY_SCALE_MINTED=0 RELAY_SCALE_SECRETS=30000 RELAY_SCALE_CHANGES=1000`.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with another measurement, which needs more of it")]
mod common;

use std::time::{Duration, Instant};

use kube::Client;
use plane::Plane;
use serde_json::json;
use tokio::time::sleep;

use self::common::{Operator, Served, create, load, number, objects, patch, relay_keys, show, sum};

#[tokio::main]
async fn main() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let client = plane.client().await;
    let keys = number("RELAY_SCALE_KEYS", 1_650);
    let minted = number("RELAY_SCALE_MINTED", 0);
    let all = objects(keys, minted);
    let count = all.iter().filter(|(kind, ..)| *kind != "Secret").count();
    let begun = Instant::now();
    create(&client, &namespace, all).await;
    let strangers = plane.namespace();
    let unrelated = number("RELAY_SCALE_SECRETS", 0);
    let filling = "x".repeat(10 * 1024);
    let secret = |n| ("Secret", format!("stranger-{n}"), json!({"stringData": {"filling": filling}}));
    create(&client, &strangers, (0..unrelated).map(secret)).await;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{count} objects, of which {minted} minted keys, and {unrelated} unrelated Secrets, made in {took:.0} s; load {}",
        load()
    );

    let before = Served::now(&client).await;
    let operator = Operator::start(&plane, &namespace, "127.0.0.1:0");
    let ready = operator.ready().await.as_secs_f64();
    let ((memory, most), cpu) = (operator.megabytes(), operator.cpu());
    println!(
        "start to ready: {ready:.2} s, {cpu:.2} s of processor, {memory:.0} MB, at most {most:.0} MB; load {}",
        load()
    );
    Served::now(&client).await.print_since(&before, ready);
    let (settled, written) = operator.settled().await;
    let (memory, most) = operator.megabytes();
    let settled = settled.as_secs_f64();
    let cpu = operator.cpu();
    println!(
        "start to the last of {written} statuses: {settled:.1} s, {cpu:.1} s of processor, {memory:.0} MB, at most {most:.0} MB; load {}",
        load()
    );
    Served::now(&client).await.print_since(&before, settled);

    idle(&operator).await;
    change(&client, &namespace, &operator, keys - minted).await;
    drop(operator);

    let before = Served::now(&client).await;
    let operator = Operator::start(&plane, &namespace, "127.0.0.1:0");
    let ready = operator.ready().await.as_secs_f64();
    let (memory, most) = operator.megabytes();
    println!("start again, to ready: {ready:.2} s, {memory:.0} MB, at most {most:.0} MB; load {}", load());
    Served::now(&client).await.print_since(&before, ready);
}

async fn idle(operator: &Operator) {
    let (begun, cpu) = (Instant::now(), operator.cpu());
    sleep(Duration::from_secs(10)).await;
    let share = (operator.cpu() - cpu) / begun.elapsed().as_secs_f64();
    println!("idle for 10 s: {:.1} % of a core", share * 100.0);
}

/// Changes keys one after the other, and looks how soon each is compiled and what memory is held meanwhile.
async fn change(client: &Client, namespace: &str, operator: &Operator, keys: usize) {
    let api = relay_keys(client, namespace);
    let changes = number("RELAY_SCALE_CHANGES", 200);
    let (mut waits, begun) = (Vec::new(), Instant::now());
    let served = Served::now(client).await;
    let (cpu, first) = (operator.cpu(), operator.metrics().await);
    for n in 0..changes {
        if n % (changes / 10).max(1) == 0 {
            let (memory, most) = operator.megabytes();
            println!("  after {n} changes: {memory:.0} MB, at most {most:.0} MB");
        }
        let before = revision(operator).await;
        let asked = Instant::now();
        patch(&api, &format!("app-{}", n * 7 % keys), json!({"limits": {"rpm": 1_000 + n}})).await;
        while revision(operator).await == before {
            assert!(asked.elapsed() < Duration::from_secs(60), "a change is not compiled");
            sleep(Duration::from_millis(2)).await;
        }
        waits.push(asked.elapsed());
    }
    show("change to table, one at a time", &waits);
    let (took, used) = (begun.elapsed().as_secs_f64(), operator.cpu() - cpu);
    let each = used * 1e3 / changes as f64;
    println!("{changes} changes in {took:.1} s: {each:.0} ms of processor each; load {}", load());
    let last = operator.metrics().await;
    for part in ["snapshot", "compile"] {
        let [total, runs] = ["sum", "count"].map(|of| {
            let name = format!("relay_operator_{part}_seconds_{of}");
            sum(&last, &name) - sum(&first, &name)
        });
        println!("  {part}: {:.1} ms a time over {runs} compilations", total / runs * 1e3);
    }
    Served::now(client).await.print_since(&served, took);
    operator.settled().await;
    let (memory, most) = operator.megabytes();
    println!("memory when all is quiet: {memory:.0} MB, at most {most:.0} MB; pid {}", operator.id());
}

async fn revision(operator: &Operator) -> f64 {
    sum(&operator.metrics().await, "relay_operator_table_revision")
}
