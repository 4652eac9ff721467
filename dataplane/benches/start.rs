//! How long a data plane takes until it is ready: from when its operator has a table for it, and from nothing but the table
//! that it kept. `cargo bench -p relay-dataplane --bench start`; without `--bench` everything is small, to see that it runs.

#[path = "../../bench/row.rs"]
mod row;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod support;

use std::{
    fs,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use support::{
    client::{Ask, Connection},
    operator::{Site, until},
    tables::Tables,
};
use table::WireShape::OpenaiChat;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const HOSTS: usize = 40;

#[tokio::main]
async fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (keys, runs) = if is_measured { (10_000, 15) } else { (100, 1) };
    let tables = tables(keys);
    let (mut arrived, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (from_operator, from_copy) = one(&tables).await;
        arrived.push(from_operator);
        kept.push(from_copy);
    }
    let what = format!("{keys} relay keys, {} models, {} host keys", keys / 25, keys / 10);
    told(&format!("ready less than 200 ms after its table ({what}) is there for it"), &arrived, 200.0);
    told("ready less than 500 ms after the start of its process, from its last good table", &kept, 500.0);
}

fn told(goal: &str, times: &[Duration], most: f64) {
    let [least, median, longest] = [0, 50, 100].map(|percent| row::at(times, percent));
    let measured = format!("{median:.0} ms ({least:.0}–{longest:.0} of {})", times.len());
    row::print(goal, &measured, median < most);
}

/// The table of a large fleet.
fn tables(keys: usize) -> Tables {
    let mut tables = Tables::new();
    for n in 0..HOSTS {
        tables = tables.host(&format!("host-{n}"), OpenaiChat, "https://host.example/v1", &[]);
    }
    for n in 0..keys / 10 {
        tables = tables.host_key(&format!("host-{}", n % HOSTS), &format!("credential-{n}"), |_| {});
    }
    for n in 0..keys / 25 {
        let hosts = [0, 7, 14].map(|more| format!("host-{}", (n + more) % HOSTS));
        tables = tables.model(&format!("model-{n}"), &hosts.each_ref().map(String::as_str));
    }
    for n in 0..keys {
        let limits = table::Limits { rpm: Some(60), ..table::Limits::default() };
        tables = tables.relay_key(&format!("app-{n}"), &format!("token-of-app-{n}"), |key| key.limits = limits.clone());
    }
    tables
}

/// From when a table is there for a data plane that waits for one, and from the start of one that has only its copy.
async fn one(tables: &Tables) -> (Duration, Duration) {
    let site = Site::new();
    let operator = site.operator().await;
    let (mut child, admin) = start(&site, operator.address).await;
    let mut connection = Connection::open(admin).await;
    until("it does not connect", async || (!operator.publisher.fleet().pods().is_empty()).then_some(())).await;
    assert_eq!(readiness(&mut connection).await, 503);
    operator.publish(1, tables);
    let begun = Instant::now();
    until_ready(&mut connection).await;
    let from_operator = begun.elapsed();

    until("it keeps no copy", async || fs::exists(site.copy()).unwrap().then_some(())).await;
    child.kill().await.unwrap();
    let address = operator.address;
    operator.kill().await;
    let begun = Instant::now();
    let (_child, admin) = start(&site, address).await;
    until_ready(&mut Connection::open(admin).await).await;
    (from_operator, begun.elapsed())
}

/// The program as it is shipped, and where its admin port is.
async fn start(site: &Site, operator: SocketAddr) -> (Child, SocketAddr) {
    let follow = site.follow(operator);
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-dataplane"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).env("RELAY_LOG", "error");
    command.env("RELAY_OPERATOR", operator.to_string()).env("RELAY_OPERATOR_NAME", follow.server_name());
    command.env("RELAY_OPERATOR_CA", site.path("ca.pem")).env("RELAY_OPERATOR_TOKEN_FILE", site.path("token"));
    command.env("RELAY_POD_NAME", "pod-0").env("RELAY_POD_UID", "uid-0").env("RELAY_POD_NAMESPACE", "apps");
    command.env("RELAY_KEPT_KEY", site.path("key")).env("RELAY_KEPT_DIR", site.path("kept"));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let admin = line.split("admin on http://").nth(1).unwrap_or_else(|| panic!("`{line}` names no admin port"));
    (child, admin.trim().parse().unwrap())
}

async fn readiness(connection: &mut Connection) -> u16 {
    connection.ask(&Ask::get("/readyz")).await.expect("it answers").status
}

async fn until_ready(connection: &mut Connection) {
    let begun = Instant::now();
    while readiness(connection).await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not get ready");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
