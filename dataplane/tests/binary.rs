//! The program itself: from its environment to its end.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{net::SocketAddr, process::Stdio};

use support::{
    client::Ask,
    operator::{Site, ask, until},
    tables::Tables,
    upstream::Upstream,
    wire,
};
use table::WireShape::OpenaiChat;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The program with what a pod's environment says.
fn program(site: &Site, operator: SocketAddr) -> Child {
    let follow = site.follow(operator);
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-dataplane"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--deregister-delay", "0s"]);
    command.env("RELAY_OPERATOR", operator.to_string()).env("RELAY_OPERATOR_NAME", follow.server_name());
    command.env("RELAY_OPERATOR_CA", site.path("ca.pem")).env("RELAY_OPERATOR_TOKEN_FILE", site.path("token"));
    command.env("RELAY_POD_NAME", "pod-0").env("RELAY_POD_UID", "uid-0").env("RELAY_POD_NAMESPACE", "apps");
    command.env("RELAY_KEPT_KEY", site.path("key")).env("RELAY_KEPT_DIR", site.path("kept"));
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
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
