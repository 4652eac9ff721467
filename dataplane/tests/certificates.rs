//! The certificate that applications are shown, and the port for it beside the one without.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use support::{
    client::Ask,
    operator::until,
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables},
    tls::{Authority, Leaf, NAME},
    upstream::{Act, Gate, Script, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;
use tokio::{net::TcpStream, time::timeout};

/// A data plane with a port for TLS beside the one without, whose streams pause until the gate is opened.
async fn relay(directory: &Path, gate: &Gate) -> TestRelay {
    let held = gate.clone();
    let upstream = Upstream::start(move |request| {
        if !request.is_streamed() {
            return wire::good(OpenaiChat, request, "hi");
        }
        let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
        let rest = [wire::saying(OpenaiChat, "lo", false), wire::closing(OpenaiChat)].concat();
        Script::stream().chunks(begun).then(Act::Gate(held.clone())).chunks(rest).end()
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let mut settings = config();
    settings.tls_cert = Some(directory.join("tls.crt"));
    settings.tls_key = Some(directory.join("tls.key"));
    settings.tls_listen = Some(settings.listen);
    TestRelay::start_with(tables, settings, Arc::new(Loopback)).await
}

/// A connection with TLS, and whether it was shown this certificate.
async fn connect(relay: &TestRelay, authority: &Authority, leaf: &Leaf) -> (SendRequest<Full<Bytes>>, bool) {
    let stream = authority.connect(relay.tls.expect("there is such a port"), b"http/1.1").await;
    let shown = stream.get_ref().1.peer_certificates().is_some_and(|chain| chain[0] == leaf.der());
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    (sender, shown)
}

fn request(streamed: bool) -> http::Request<Full<Bytes>> {
    let ask = if streamed { Ask::openai("m").streamed() } else { Ask::openai("m") };
    let request = http::Request::post("/v1/chat/completions").header("host", NAME);
    let request = request.header("authorization", format!("Bearer {TOKEN}"));
    request.body(Full::new(Bytes::from(ask.body.to_string()))).expect("a request")
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let (directory, authority, gate) = (tempfile::tempdir().expect("a directory"), Authority::new(), Gate::new());
    let (old, new) = (authority.leaf(), authority.leaf());
    old.mount(directory.path(), 1);
    let relay = relay(directory.path(), &gate).await;
    let (mut open, shown) = connect(&relay, &authority, &old).await;
    assert!(shown);
    let mut stream = open.send_request(request(true)).await.expect("an answer").into_body();
    stream.frame().await.expect("it has begun").expect("it is whole");

    new.mount(directory.path(), 2);
    until("the old one is shown", async || connect(&relay, &authority, &new).await.1.then_some(())).await;
    let (mut fresh, _) = connect(&relay, &authority, &new).await;
    assert_eq!(fresh.send_request(request(false)).await.expect("an answer").status(), 200);
    gate.open();
    let rest = stream.collect().await.expect("it is whole").to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(open.send_request(request(false)).await.expect("an answer").status(), 200);
    assert_eq!(relay.metric("relay_tls_reloads_total{outcome=\"ok\"}").await, Some(1.0));
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_counted_and_the_one_before_is_still_shown() {
    let (directory, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let (old, new) = (authority.leaf(), authority.leaf());
    old.mount(directory.path(), 1);
    let relay = relay(directory.path(), &Gate::new()).await;
    let broken = Leaf { key: old.key.clone(), ..new.clone() };
    broken.mount(directory.path(), 2);
    let failed = "relay_tls_reloads_total{outcome=\"failed\"}";
    until("it is not seen", async || (relay.metric(failed).await == Some(1.0)).then_some(())).await;
    assert!(connect(&relay, &authority, &old).await.1);
    new.mount(directory.path(), 3);
    until("the old one is shown", async || connect(&relay, &authority, &new).await.1.then_some(())).await;
    assert_eq!(relay.metric(failed).await, Some(1.0));
}

#[tokio::test]
async fn a_pair_for_the_second_port_alone_may_come_later() {
    let (directory, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let mut settings = config();
    settings.tls_listen = Some(settings.listen);
    settings.tls_listen_cert = Some(directory.path().join("tls.crt"));
    settings.tls_listen_key = Some(directory.path().join("tls.key"));
    let relay = TestRelay::start_with(tables, settings, Arc::new(Loopback)).await;
    let tls = relay.tls.expect("there is such a port");
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200, "without TLS");
    assert!(authority.attempt(tls, b"http/1.1").await.is_err(), "there is nothing to show");

    let leaf = authority.leaf();
    leaf.mount(directory.path(), 1);
    until("it is not shown", async || authority.attempt(tls, b"http/1.1").await.ok().map(drop)).await;
    let (mut open, shown) = connect(&relay, &authority, &leaf).await;
    assert!(shown);
    assert_eq!(open.send_request(request(false)).await.expect("an answer").status(), 200);
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200, "still without TLS");
}

#[tokio::test]
async fn both_ports_serve_the_same_and_stop_alike() {
    let (directory, authority, gate) = (tempfile::tempdir().expect("a directory"), Authority::new(), Gate::new());
    let leaf = authority.leaf();
    leaf.mount(directory.path(), 1);
    let mut relay = relay(directory.path(), &gate).await;
    let tls = relay.tls.expect("there is such a port");
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200, "without TLS");
    let (mut open, _) = connect(&relay, &authority, &leaf).await;
    let mut stream = open.send_request(request(true)).await.expect("an answer").into_body();
    stream.frame().await.expect("it has begun").expect("it is whole");

    relay.shut_down();
    let closed = timeout(Duration::from_secs(60), async {
        for port in [relay.address, tls] {
            while TcpStream::connect(port).await.is_ok() {}
        }
    });
    closed.await.expect("both ports are closed");
    gate.open();
    assert!(stream.collect().await.expect("it is whole").to_bytes().ends_with(b"data: [DONE]\n\n"));
    assert_eq!(timeout(Duration::from_secs(60), relay.records()).await.expect("it stops").len(), 2);
}
