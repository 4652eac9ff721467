//! The two ports: TLS for applications, and the admin port's pages.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::Value;
use std::{fs, sync::Arc};
use support::{
    client::Ask,
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables, named},
    upstream::Upstream,
    wire,
};
use table::{Credential, Secret, WireShape::OpenaiChat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

async fn served() -> (Upstream, Tables) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    (upstream, tables)
}

#[tokio::test]
async fn applications_may_speak_tls_with_http_1_or_2() {
    let certified = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let (chain, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    fs::write(&chain, certified.cert.pem()).expect("a file");
    fs::write(&key, certified.signing_key.serialize_pem()).expect("a file");
    let mut config = config();
    (config.tls_cert, config.tls_key) = (Some(chain), Some(key));
    let (_upstream, tables) = served().await;
    let relay = TestRelay::start_with(tables, config, Arc::new(Loopback)).await;

    for protocol in [&b"http/1.1"[..], b"h2"] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(relay.address).await.expect("the port is open");
        let name = "relay.test".try_into().expect("a name");
        let stream = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let body = http_body_util::Full::new(bytes::Bytes::from(Ask::openai("m").body.to_string()));
        let request = http::Request::post("https://relay.test/v1/chat/completions")
            .header("host", "relay.test")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(body)
            .expect("a request");
        let io = hyper_util::rt::TokioIo::new(stream);
        let answer = if protocol == b"h2" {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        assert_eq!(answer.expect("an answer").status(), 200);
    }
}

#[tokio::test]
async fn the_admin_port_tells_health_readiness_metrics_and_the_table() {
    let (_upstream, tables) = served().await;
    let relay = TestRelay::start(tables).await;
    for (path, status, part) in [
        ("/healthz", 200, "ok"),
        ("/livez", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/metrics", 200, "# EOF"),
        ("/debug/table", 200, "\"up-m\""),
        ("/else", 404, "/debug/table"),
    ] {
        let (seen, text) = relay.admin(path).await;
        assert_eq!((seen, text.contains(part)), (status, true), "{path}: {text}");
    }
    let posted = support::client::Connection::open(relay.admin).await.send(&Ask::post("/metrics", Value::Null)).await;
    assert_eq!(posted.expect("an answer").status, 405);
    let api_on_admin = relay.admin("/v1/models").await;
    assert_eq!(api_on_admin.0, 404, "the admin port serves no application");
}

#[tokio::test]
async fn the_table_dump_holds_no_secret() {
    let (upstream, mut tables) = served().await;
    let secret = Credential::Value(Secret::new("canary-host-key".to_owned()));
    tables.credentials.host_keys.insert(named("k"), secret);
    let relay = TestRelay::start(tables).await;
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200);
    assert_eq!(upstream.keys(), ["canary-host-key"]);
    for path in ["/debug/table", "/metrics"] {
        let (_, page) = relay.admin(path).await;
        assert!(!page.contains(TOKEN), "{path}");
        assert!(!page.contains("canary-host-key"), "{path}: {page}");
    }
}

#[tokio::test]
async fn before_the_first_table_nothing_is_ready_and_requests_are_told_to_come_back() {
    let app = dataplane::app::build_with(config(), dataplane::meter::sinks::Target::None, Arc::new(Loopback)).await;
    let app = app.expect("free ports");
    let (address, admin) = (app.listen, app.admin);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async move {
        let _ = stopped.await;
    }));
    let ask = async |address, ask: &Ask| {
        let answer = support::client::Connection::open(address).await.send(ask).await.expect("an answer");
        answer.whole().await
    };
    assert_eq!(ask(admin, &Ask::get("/readyz")).await.status, 503);
    let refused = ask(address, &Ask::anthropic("m")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (529, Some("1")), "{}", refused.text());
    drop(stop);
    running.await.expect("it stops");
}

#[tokio::test]
async fn applications_may_speak_http_2_without_tls_by_prior_knowledge() {
    let (_upstream, tables) = served().await;
    let relay = TestRelay::start(tables).await;
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(relay.address).await.expect("the port is open"));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = || {
        let body = http_body_util::Full::new(bytes::Bytes::from(Ask::openai("m").streamed().body.to_string()));
        let request = http::Request::post("http://relay.test/v1/chat/completions");
        request.header("authorization", format!("Bearer {TOKEN}")).body(body).expect("a request")
    };
    let (first, second) = (sender.send_request(request()), sender.send_request(request()));
    let (first, second) = tokio::join!(first, second);
    for answer in [first, second] {
        let (head, body) = answer.expect("an answer").into_parts();
        let bytes = http_body_util::BodyExt::collect(body).await.expect("a whole body").to_bytes();
        assert_eq!((head.status.as_u16(), head.version), (200, http::Version::HTTP_2));
        assert!(bytes.ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let (_upstream, tables) = served().await;
    let relay = TestRelay::start(tables).await;
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    let body = Ask::openai("m").body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: relay.test\r\nauthorization: Bearer {TOKEN}\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_base_url_with_any_prefix_and_slash_works() {
    let (_upstream, tables) = served().await;
    let relay = TestRelay::start(tables).await;
    for path in [
        "/chat/completions",
        "/v1/v1/chat/completions",
        "//v1/chat/completions",
        "/openai/v1/chat/completions/",
        "/v1/chat/completions?beta=true",
    ] {
        let answer = relay.ask(&Ask::post(path, Ask::openai("m").body)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}
