//! The program itself: from its environment to its end.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{net::SocketAddr, process::Stdio};

use support::{
    client::Ask,
    operator::{Site, ask, until},
    relay::TestRelay,
    tables::Tables,
    upstream::{Nobody, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The program with what a pod's environment says.
fn program(site: &Site, operator: SocketAddr) -> Child {
    let mut command = command(site, operator);
    command.env("RELAY_KEPT_KEY", site.path("key")).env("RELAY_KEPT_DIR", site.path("kept"));
    command.spawn().unwrap()
}

fn command(site: &Site, operator: SocketAddr) -> Command {
    let follow = site.follow(operator);
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-dataplane"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).env("RELAY_DEREGISTER_DELAY", "0s");
    command.env("RELAY_OPERATOR", operator.to_string()).env("RELAY_OPERATOR_NAME", follow.server_name());
    command.env("RELAY_OPERATOR_CA", site.path("ca.pem")).env("RELAY_OPERATOR_TOKEN_FILE", site.path("token"));
    command.env("RELAY_POD_NAME", "pod-0").env("RELAY_POD_UID", "uid-0").env("RELAY_POD_NAMESPACE", "apps");
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Where it listens and where its admin port is, from its first line.
async fn addresses(child: &mut Child) -> (SocketAddr, SocketAddr) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let mut found = line.split("http://").skip(1).map(|rest| rest.trim().trim_end_matches(", admin on"));
    let mut next = || found.next().unwrap().parse().unwrap();
    (next(), next())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_what_its_operator_publishes_and_stops_in_order() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let site = Site::new();
    let operator = site.operator().await;
    let mut child = program(&site, operator.address);
    let (address, admin) = addresses(&mut child).await;
    operator.publish(1, &Tables::new().host("h", OpenaiChat, &upstream.url(), &["key-1"]).model("m", &["h"]));
    until("it is not ready", async || (ask(admin, &Ask::get("/readyz")).await.status == 200).then_some(())).await;
    let answer = ask(address, &Ask::openai("m")).await;
    assert_eq!((answer.status, wire::text_of(OpenaiChat, false, &answer)), (200, "hi".to_owned()));

    let process = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert!(site.copy().exists());
}

/// What `probe` prints and its exit code, asked as a kubelet asks it: in the environment of the container.
async fn probe(admin: SocketAddr) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-dataplane"));
    let done = command.arg("probe").env("RELAY_ADMIN", admin.to_string()).output().await.unwrap();
    (String::from_utf8(done.stdout).unwrap(), done.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_whether_it_is_ready_and_why_not() {
    let site = Site::new();
    let operator = site.operator().await;
    let mut child = program(&site, operator.address);
    let (_, admin) = addresses(&mut child).await;
    assert_eq!(probe(admin).await, ("not ready: no routing table yet\n".to_owned(), Some(1)));
    operator.publish(1, &Tables::new());
    until("it is not ready", async || (probe(admin).await == ("ready\n".to_owned(), Some(0))).then_some(())).await;
    child.kill().await.unwrap();
    let (said, code) = probe(admin).await;
    assert!(said.starts_with(&format!("cannot connect to {admin}: ")) && code == Some(1), "{said}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap();
    assert_eq!(probe(place).await, (format!("no answer from {place} within 3 s\n"), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_ready_without_an_operator_serves_by_passing_on_and_ends_at_once() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["key-1"]).model("m", &["h"]);
    let shared = TestRelay::start(tables).await;
    let site = Site::new();
    let nobody = Nobody::new();
    let mut command = command(&site, nobody.address());
    command.args(["--sidecar", "--forward"]).arg(format!("http://{}", shared.address));
    let mut child = command.env("RELAY_DEREGISTER_DELAY", "1h").spawn().unwrap();
    let (address, admin) = addresses(&mut child).await;
    assert_eq!(probe(admin).await, ("ready\n".to_owned(), Some(0)));
    let answer = ask(address, &Ask::openai("m")).await;
    assert_eq!((answer.status, wire::text_of(OpenaiChat, false, &answer)), (200, "hi".to_owned()));

    let process = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait()).await;
    assert_eq!(ended.expect("nobody waits for the delay").unwrap().code(), Some(0));
}

#[tokio::test]
async fn wrong_settings_of_a_sidecar_are_told_and_nothing_is_started() {
    let site = Site::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    for (words, expected) in [
        (vec!["--sidecar"], "--sidecar (RELAY_SIDECAR) needs --forward (RELAY_FORWARD)"),
        (vec!["--sidecar", "--forward", "http://127.0.0.1:1", "--redis", "redis://r"], "is not for sidecars"),
    ] {
        let done = command(&site, nobody).args(words).stderr(Stdio::piped()).output().await.unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(expected) && done.status.code() == Some(2), "{said}");
        assert!(done.stdout.is_empty());
    }
}
