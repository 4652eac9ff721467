//! A sidecar: what it serves itself, and how it passes on the rest.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dataplane::{
    config::{Config, sidecar::SharedPlace},
    upstream::resolver::{Resolve, Resolved},
};
use futures::future::BoxFuture;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use support::{
    client::{Ask, Whole},
    operator::{Follower, Site, ask, until},
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables},
    tls::{Authority, NAME},
    upstream::{Act, Gate, Nobody, Script, Upstream, gzip},
    wire::{self, SHAPES},
};
use table::WireShape::{AnthropicMessages, OpenaiChat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(30);

/// How long a shared data plane says that it stops before it does.
const DEREGISTER: Duration = Duration::from_secs(1);

/// The token of a relay key that only the shared data plane has.
const ELSEWHERE: &str = "token-of-a-key-elsewhere-0123456789-abcdef";

/// Without TLS, as only tests on one machine do it.
fn plain(address: SocketAddr) -> SharedPlace {
    SharedPlace { url: format!("http://{address}"), ca: None }
}

/// What an upstream says for whom: its host keys tell the data planes apart.
async fn provider() -> Upstream {
    Upstream::start(|request| {
        let said = format!("for {}", request.key());
        wire::good(OpenaiChat, request, &said)
    })
    .await
}

/// A table whose only model is drawn with this host key.
fn serving(upstream: &Upstream, host_key: &str) -> Tables {
    Tables::new().host("h", OpenaiChat, &upstream.url(), &[host_key]).model("m", &["h"])
}

/// The table of the shared data plane.
fn shared_tables(upstream: &Upstream) -> Tables {
    serving(upstream, "shared").relay_key("elsewhere", ELSEWHERE, |_| {})
}

/// A sidecar with a table of its own, and the shared data plane.
async fn both() -> (TestRelay, TestRelay, Upstream) {
    let upstream = provider().await;
    let shared = TestRelay::start(shared_tables(&upstream)).await;
    let sidecar = TestRelay::start_sidecar(Some(serving(&upstream, "own")), plain(shared.address), config()).await;
    (sidecar, shared, upstream)
}

/// A sidecar without a table, before a shared data plane that follows a script.
async fn before(
    script: impl Fn(&support::upstream::Received) -> Script + Send + Sync + 'static,
) -> (TestRelay, Upstream) {
    let shared = Upstream::start(script).await;
    (TestRelay::start_sidecar(None, plain(shared.address), config()).await, shared)
}

async fn passed_on(sidecar: &TestRelay, outcome: &str) -> f64 {
    let series = format!("relay_sidecar_forwarded_requests_total{{outcome=\"{outcome}\"}}");
    sidecar.metric(&series).await.expect("the series is there from the start")
}

/// Waits until so many requests have come to this end.
async fn ended(sidecar: &TestRelay, outcome: &str, count: f64) {
    let waiting = until(outcome, async || (passed_on(sidecar, outcome).await >= count).then_some(()));
    timeout(SOON, waiting).await.expect(outcome);
    assert_eq!(passed_on(sidecar, outcome).await, count);
}

#[tokio::test]
async fn a_relay_key_of_its_table_is_served_here_and_any_other_by_the_shared_data_plane() {
    let (sidecar, shared, _upstream) = both().await;
    for shape in SHAPES {
        for (token, said) in [(TOKEN, "for own"), (ELSEWHERE, "for shared")] {
            for streamed in [false, true] {
                let ask = Ask::of(shape, "m").token(token);
                let answer = sidecar.ask(&if streamed { ask.streamed() } else { ask }).await;
                assert_eq!((answer.status, wire::text_of(shape, streamed, &answer)), (200, said.to_owned()));
            }
        }
    }
    ended(&sidecar, "answered", 4.0).await;
    let keys = |records: Vec<serde_json::Value>| -> Vec<String> {
        records.iter().map(|record| record["relay_key"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(keys(sidecar.records().await), ["team/key"; 4], "what is passed on is not metered here");
    assert_eq!(keys(shared.records().await), ["team/elsewhere"; 4]);
}

#[tokio::test]
async fn every_path_of_applications_is_answered_as_the_shared_data_plane_answers_it() {
    let (sidecar, shared, _upstream) = both().await;
    let conversation = || Ask::openai("m").body;
    let asks = [
        Ask::post("/openai/v1/chat/completions", conversation()),
        Ask::post("/chat/completions/", conversation()),
        Ask::post("/anthropic/v1/messages", Ask::anthropic("m").body),
        Ask::post("/anthropic/v1/messages/count_tokens", Ask::anthropic("m").body),
        Ask::post("/v1/embeddings", serde_json::json!({"model": "m", "input": "hello"})),
        Ask::get("/v1/models"),
        Ask::get("/openai/v1/models/m"),
        Ask::get("/anthropic/v1/models?limit=5"),
        Ask::get("/v1/usage"),
        Ask::get("/v1/nonsense"),
        Ask::get("/v1/chat/completions"),
        Ask::get("/").method(Method::HEAD),
    ];
    for (number, ask) in asks.into_iter().enumerate() {
        for ask in
            [ask.clone().token(ELSEWHERE), ask.clone().token("unknown-to-everybody"), ask.without("authorization")]
        {
            let (here, there) = (sidecar.ask(&ask).await, shared.ask(&ask).await);
            assert_eq!((here.status, lasting(&here)), (there.status, lasting(&there)), "{number}");
        }
    }
}

/// An answer without what differs each time: ids and times of one request.
fn lasting(answer: &Whole) -> (Vec<String>, serde_json::Value) {
    let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
    names.sort();
    let mut body = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    if let serde_json::Value::Object(fields) = &mut body {
        fields.retain(|name, _| !matches!(name.as_str(), "id" | "request_id" | "as_of"));
    }
    (names, body)
}

#[tokio::test]
async fn what_is_passed_on_arrives_as_it_was_sent_and_what_comes_back_is_not_touched() {
    let body = b"{\"object\" : \"nobody reads this\"}\n";
    let (sidecar, shared) = before(move |_| {
        let headers = [
            ("content-type", "application/json"),
            ("x-ratelimit-remaining-requests", "7"),
            ("x-relay-request-id", "req_theirs"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("retry-after", "3"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
        ];
        Script::answer_with(418, &headers, body)
    })
    .await;
    let sent = gzip("{\"model\":  \"m\"}");
    let ask = Ask::post("/openai/v1/chat/completions?a=1&b=%20c", serde_json::Value::Null)
        .raw(sent.clone())
        .header("content-encoding", "gzip")
        .header("x-api-key", "a second key")
        .header("cookie", "c=3")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-relay-debug", "1")
        .header("connection", "x-mine")
        .header("x-mine", "of this connection");
    let answer = sidecar.ask(&ask).await;

    let received = shared.received();
    let [request] = &received[..] else { panic!("one request: {received:?}") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/openai/v1/chat/completions?a=1&b=%20c"));
    assert_eq!(request.body, sent);
    let mut headers = request.headers.clone();
    headers.sort();
    let expected = [
        ("authorization", format!("Bearer {TOKEN}")),
        ("content-encoding", "gzip".to_owned()),
        ("content-length", sent.len().to_string()),
        ("content-type", "application/json".to_owned()),
        ("cookie", "c=3".to_owned()),
        ("host", shared.address.to_string()),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ("x-api-key", "a second key".to_owned()),
        ("x-forwarded-for", "203.0.113.9".to_owned()),
        ("x-relay-debug", "1".to_owned()),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));

    assert_eq!((answer.status, answer.bytes.as_slice()), (418, &body[..]));
    let mut lines: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    lines.sort_unstable();
    let expected = [
        ("content-length", "33"),
        ("content-type", "application/json"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("retry-after", "3"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-relay-request-id", "req_theirs"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_body_is_passed_on_while_it_is_being_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = plain(listener.local_addr().expect("it is bound"));
    let sidecar = TestRelay::start_sidecar(None, place, config()).await;
    let mut client = TcpStream::connect(sidecar.address).await.expect("the port is open");
    let head = "POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 12\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("it is sent");
    let (mut shared, _) = timeout(SOON, listener.accept()).await.expect("the head is passed on").expect("a connection");
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.expect("it is told to go on");
    client.write_all(b"first ").await.expect("it is sent");
    assert!(read_until(&mut shared, "first ").await.contains("content-length: 12\r\n"));
    client.write_all(b"second").await.expect("it is sent");
    read_until(&mut shared, "second").await;
    shared.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.expect("it is sent");
    assert!(read_until(&mut client, "done").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_body_that_ends_too_soon_is_not_made_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = plain(listener.local_addr().expect("it is bound"));
    let sidecar = TestRelay::start_sidecar(None, place, config()).await;
    for framing in ["content-length: 12", "transfer-encoding: chunked"] {
        let mut client = TcpStream::connect(sidecar.address).await.expect("the port is open");
        let begun = format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n6\r\nfirst ");
        client.write_all(begun.as_bytes()).await.expect("it is sent");
        let (mut shared, _) = listener.accept().await.expect("a connection");
        assert!(read_until(&mut shared, "first").await.contains(framing));
        drop(client);
        let mut rest = String::new();
        let ended = timeout(SOON, shared.read_to_string(&mut rest)).await.expect("the connection is closed");
        assert!(ended.is_err() || !rest.contains("0\r\n\r\n"), "{rest:?}");
    }
    ended(&sidecar, "cancelled", 2.0).await;
}

#[tokio::test]
async fn a_body_that_the_shared_data_plane_does_not_take_is_refused_in_its_words() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory");
    authority.leaf().mount(directory.path(), 1);
    fs::write(directory.path().join("ca.pem"), authority.pem()).expect("a file");
    let mut settings = with_files(directory.path());
    settings.body_limit = 1_000;
    let shared = TestRelay::start_with(Tables::new(), settings, Arc::new(Loopback)).await;
    let url = format!("https://{NAME}:{}", shared.tls.expect("it listens with TLS").port());
    let with_tls = SharedPlace { url, ca: Some(directory.path().join("ca.pem")) };
    for place in [plain(shared.address), with_tls] {
        let sidecar = TestRelay::start_sidecar(None, place.clone(), config()).await;
        for size in [1_001, 100_000] {
            let answer = sidecar.ask(&Ask::openai("m").raw(vec![b' '; size])).await;
            assert_eq!(answer.status, 413, "{place:?} {size}: {}", answer.text());
            assert!(wire::message_of(OpenaiChat, &answer).contains("larger than 1000 bytes"));
        }
    }
}

#[tokio::test]
async fn applications_may_speak_http_2_with_a_sidecar() {
    let (sidecar, shared) =
        before(|request| Script::answer(200, "text/plain", format!("{} bytes", request.body.len()))).await;
    let io = TokioIo::new(TcpStream::connect(sidecar.address).await.expect("the port is open"));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post("http://relay.test/v1/messages?a=b").header("content-length", "5");
    let request = request.body(Full::new(Bytes::from_static(b"12345"))).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let bytes = answer.into_body().collect().await.expect("it is whole").to_bytes();
    assert_eq!(bytes, Bytes::from_static(b"5 bytes"));
    let received = shared.received();
    assert_eq!(
        (received[0].path.as_str(), received[0].header("host")),
        ("/v1/messages?a=b", Some(&*shared.address.to_string()))
    );
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut piece = [0; 1024];
        let read = timeout(SOON, stream.read(&mut piece)).await.expect("it comes at once").expect("it is whole");
        assert!(read > 0, "it ends before {text:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn each_event_of_a_stream_comes_when_it_was_sent() {
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let (sidecar, _shared) = before(move |_| {
        let mut script = Script::stream().chunk("data: 0\n\n");
        for (number, gate) in held.iter().enumerate() {
            script = script.then(Act::Gate(gate.clone())).chunk(format!("data: {}\n\n", number + 1));
        }
        script.end()
    })
    .await;
    let mut answer = sidecar.send(&Ask::openai("m").streamed()).await;
    for (number, gate) in gates.iter().enumerate() {
        let next = timeout(SOON, answer.chunk()).await.expect("it is not held back");
        assert_eq!(next.as_deref(), Some(format!("data: {number}\n\n").as_bytes()));
        gate.open();
    }
    let rest = answer.whole().await;
    assert_eq!((rest.text().as_str(), rest.is_broken), ("data: 2\n\n", false));
    ended(&sidecar, "answered", 1.0).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_what_was_passed_on() {
    let (sidecar, shared) = before(|request| match request.is_streamed() {
        true => Script::stream().chunk("data: 0\n\n").then(Act::Stall),
        false => Script::new().then(Act::Stall),
    })
    .await;
    let mut streamed = sidecar.send(&Ask::openai("m").streamed()).await;
    streamed.until("data: 0").await;
    drop(streamed);
    timeout(SOON, shared.abandoned(1)).await.expect("the stream is cancelled");

    let waiting = sidecar.connect().await;
    let asking = tokio::spawn(async move { waiting.send(&Ask::openai("m")).await });
    until("it is not passed on", async || (shared.count() == 2).then_some(())).await;
    asking.abort();
    assert_eq!(timeout(SOON, shared.abandoned(2)).await.expect("the request is cancelled"), [0, 1]);
    ended(&sidecar, "cancelled", 2.0).await;
    until("none is in flight", async || (sidecar.metric("relay_requests_in_flight ").await == Some(0.0)).then_some(()))
        .await;
}

#[tokio::test]
async fn without_a_table_it_is_ready_and_passes_everything_on() {
    let upstream = provider().await;
    let shared = TestRelay::start(shared_tables(&upstream)).await;
    let sidecar = TestRelay::start_sidecar(None, plain(shared.address), config()).await;
    assert_eq!(sidecar.admin("/readyz").await, (200, "ready\n".to_owned()));
    let answer = sidecar.ask(&Ask::openai("m")).await;
    assert_eq!((answer.status, wire::text_of(OpenaiChat, false, &answer)), (200, "for shared".to_owned()));
    let tables = serving(&upstream, "own");
    sidecar.installer.install(tables.table, tables.credentials);
    let answer = sidecar.ask(&Ask::openai("m")).await;
    assert_eq!(wire::text_of(OpenaiChat, false, &answer), "for own");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_table_that_nobody_confirms_for_too_long_it_is_ready_and_passes_everything_on() {
    let (site, upstream) = (Site::new(), provider().await);
    let shared = TestRelay::start(shared_tables(&upstream)).await;
    let operator = site.operator().await;
    operator.publish(1, &serving(&upstream, "own"));
    let mut follow = site.follow(operator.address);
    (follow.kept_key, follow.kept_dir) = (None, None);
    follow.max_staleness = Some(Duration::from_secs(2));
    let sidecar = Follower::start_sidecar(&follow, plain(shared.address)).await;
    let said = async |text: &str| {
        let answer = sidecar.ask("m").await;
        (wire::text_of(OpenaiChat, false, &answer) == text).then_some(())
    };
    until("it has a table", async || said("for own").await).await;
    operator.kill().await;
    until("its table is still used", async || said("for shared").await).await;
    assert_eq!(sidecar.readiness().await, 200);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_revoked_key_leaves_its_table_and_is_refused_by_the_shared_data_plane() {
    let (sidecar, shared, upstream) = both().await;
    assert_eq!(sidecar.ask(&Ask::openai("m")).await.status, 200);
    let revoked = Tables::new().relay_key("key", TOKEN, |key| key.revoked = true);
    shared.installer.install(revoked.table, revoked.credentials);
    let mut without = serving(&upstream, "own");
    without.table.relay_keys.clear();
    sidecar.installer.install(without.table, without.credentials);
    for shape in SHAPES {
        let refused = sidecar.ask(&Ask::of(shape, "m")).await;
        assert_eq!(refused.status, 401);
        assert_eq!(wire::message_of(shape, &refused), "relay key `key` is revoked");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_key_for_some_networks_is_passed_on_because_the_pods_address_is_not_known_here() {
    let upstream = provider().await;
    let here = ["127.0.0.0/8".parse().expect("a network")];
    let tables = |host_key: &str| {
        serving(&upstream, host_key).relay_key("inside", ELSEWHERE, |key| key.allowed_cidrs = here.to_vec())
    };
    let shared = TestRelay::start(tables("shared")).await;
    let sidecar = TestRelay::start_sidecar(Some(tables("own")), plain(shared.address), config()).await;
    let answer = sidecar.ask(&Ask::openai("m").token(ELSEWHERE)).await;
    assert_eq!(wire::text_of(OpenaiChat, false, &answer), "for shared");
}

#[tokio::test]
async fn where_the_shared_data_plane_is_away_callers_are_told_so_in_their_shape() {
    let (nobody, upstream) = (Nobody::new(), provider().await);
    let sidecar = TestRelay::start_sidecar(Some(serving(&upstream, "own")), plain(nobody.address()), config()).await;
    for (shape, status) in [(OpenaiChat, 503), (AnthropicMessages, 529)] {
        let refused = sidecar.ask(&Ask::of(shape, "m").token(ELSEWHERE)).await;
        assert_eq!((refused.status, refused.header("retry-after")), (status, Some("1")), "{}", refused.text());
        let message = wire::message_of(shape, &refused);
        assert!(message.starts_with("the shared data plane, which has to answer this request, cannot be reached: "));
        assert!(!refused.text().contains(ELSEWHERE));
    }
    ended(&sidecar, "unreachable", 2.0).await;
    assert_eq!(sidecar.ask(&Ask::openai("m")).await.status, 200, "what is known here is served");
    assert_eq!(sidecar.admin("/readyz").await.0, 200);
}

#[tokio::test]
async fn where_the_shared_data_plane_breaks_off_no_answer_looks_whole() {
    let (sidecar, _shared) = before(|request| match request.json()["model"].as_str() {
        Some("silent") => Script::new().then(Act::Reset),
        Some("stream") => Script::stream().chunk("data: 0\n\n").then(Act::Close),
        Some("cut") => Script::stream().chunk("data: 0\n\ndata: {\"hal").then(Act::Close),
        _ => Script::head(200, &[("content-length", "10")]).raw("half").then(Act::Close),
    })
    .await;
    let refused = sidecar.ask(&Ask::openai("silent")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (502, None));
    assert!(wire::message_of(OpenaiChat, &refused).starts_with("the shared data plane, which had to answer"));
    for shape in SHAPES {
        let cut = sidecar.ask(&Ask::of(shape, "stream").streamed()).await;
        assert_eq!((cut.status, wire::errors_of(shape, &cut).len(), cut.is_broken), (200, 1, false), "{}", cut.text());
    }
    let within = sidecar.ask(&Ask::openai("cut").streamed()).await;
    assert_eq!((within.text().as_str(), within.is_broken), ("data: 0\n\ndata: {\"hal", true));
    assert!(sidecar.ask(&Ask::openai("half")).await.is_broken);
    ended(&sidecar, "broken", 5.0).await;
}

#[tokio::test]
async fn connections_are_kept() {
    let (sidecar, shared) = before(|_| Script::json(200, &serde_json::json!({}))).await;
    for _ in 0..3 {
        assert_eq!(sidecar.ask(&Ask::openai("m")).await.status, 200);
    }
    assert_eq!((shared.count(), shared.connections()), (3, 1));
}

#[tokio::test]
async fn at_the_end_of_the_grace_streams_that_were_passed_on_get_one_error_event() {
    let shared = Upstream::start(|_| Script::stream().chunk("data: 0\n\n").then(Act::Stall)).await;
    let mut settings = config();
    settings.drain_grace = Duration::from_millis(300);
    let mut sidecar = TestRelay::start_sidecar(None, plain(shared.address), settings).await;
    let mut answer = sidecar.send(&Ask::anthropic("m").streamed()).await;
    answer.until("data: 0").await;
    sidecar.shut_down();
    let rest = timeout(SOON, answer.whole()).await.expect("it ends");
    assert_eq!((wire::errors_of(AnthropicMessages, &rest).len(), rest.is_broken), (1, false), "{}", rest.text());
    assert!(timeout(SOON, sidecar.records()).await.expect("it stops").is_empty());
}

/// The shared data plane with TLS, and the place where a sidecar finds it; trusts whatever is in `ca`.
async fn with_tls(authority: &Authority, directory: &Path) -> (TestRelay, SharedPlace, PathBuf) {
    authority.leaf().mount(directory, 1);
    let shared = tls_at(SocketAddr::from(([127, 0, 0, 1], 0)), directory).await;
    let ca = directory.join("ca.pem");
    let url = format!("https://{NAME}:{}", shared.tls.expect("it listens with TLS").port());
    (shared, SharedPlace { url, ca: Some(ca.clone()) }, ca)
}

/// Settings of a data plane with a port for TLS beside the one without.
fn with_files(directory: &Path) -> Config {
    let mut settings = config();
    settings.tls_cert = Some(directory.join("tls.crt"));
    settings.tls_key = Some(directory.join("tls.key"));
    settings.tls_listen = Some(settings.listen);
    settings
}

async fn tls_at(address: SocketAddr, directory: &Path) -> TestRelay {
    let settings = Config { tls_listen: Some(address), deregister_delay: DEREGISTER, ..with_files(directory) };
    TestRelay::start_with(shared_tables(&provider().await), settings, Arc::new(Loopback)).await
}

#[tokio::test]
async fn only_whom_the_authorities_vouch_for_is_shown_a_relay_key_and_the_file_is_read_again() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a directory");
    let (shared, place, ca) = with_tls(&authority, directory.path()).await;
    let sidecar = TestRelay::start_sidecar(None, place, config()).await;
    let ask = Ask::openai("nobody").token(ELSEWHERE);
    let message = async || {
        let refused = sidecar.ask(&ask).await;
        (refused.status, wire::message_of(OpenaiChat, &refused))
    };
    let (status, said) = message().await;
    assert!(status == 503 && said.contains("--forward-ca (RELAY_FORWARD_CA)") && said.contains("ca.pem"), "{said}");

    fs::write(&ca, stranger.pem()).expect("a file");
    let told = until("the file is read", async || Some(message().await).filter(|(_, said)| said.contains("TLS")));
    let (status, said) = told.await;
    assert!(status == 503 && said.contains(&format!("cannot establish TLS with {NAME}")), "{said}");
    // Who refuses a certificate has gone before the other side knows.
    until("it has a connection", async || (shared.metric("relay_connections_open ").await == Some(0.0)).then_some(()))
        .await;

    fs::write(&ca, authority.pem()).expect("a file");
    until("the file is read", async || (message().await.0 == 404).then_some(())).await;
    fs::write(&ca, "no certificate").expect("a file");
    let answer = sidecar.ask(&Ask::openai("nobody").token(ELSEWHERE)).await;
    assert_eq!(answer.status, 404, "whom it named before is still trusted");
}

#[tokio::test]
async fn connections_with_tls_are_kept_too() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (shared, place, ca) = with_tls(&authority, directory.path()).await;
    fs::write(&ca, authority.pem()).expect("a file");
    let sidecar = TestRelay::start_sidecar(None, place, config()).await;
    for _ in 0..5 {
        assert_eq!(sidecar.ask(&Ask::get("/v1/models").token(ELSEWHERE)).await.status, 200);
    }
    assert_eq!(shared.metric("relay_connections_open ").await, Some(1.0));
}

#[tokio::test]
async fn the_next_shared_data_plane_is_found_when_one_has_stopped() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (first, place, ca) = with_tls(&authority, directory.path()).await;
    fs::write(&ca, authority.pem()).expect("a file");
    let address = first.tls.expect("it listens with TLS");
    let sidecar = TestRelay::start_sidecar(None, place, config()).await;
    let models = Ask::get("/v1/models").token(ELSEWHERE);
    assert_eq!(sidecar.ask(&models).await.status, 200);
    timeout(SOON, first.records()).await.expect("a connection that nobody uses does not hold it up");
    assert_eq!(sidecar.ask(&models).await.status, 503);
    let _second = tls_at(address, directory.path()).await;
    assert_eq!(sidecar.ask(&models).await.status, 200);
}

/// Resolves every name to the address that it holds at the moment, as a Service does whose pods change.
struct Service(parking_lot::Mutex<IpAddr>);

impl Resolve for Service {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        let resolved = Resolved { addresses: vec![*self.0.lock()], valid_for: Duration::from_secs(60) };
        Box::pin(async move { Ok(resolved) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_shared_data_planes_take_turns_no_request_fails() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (mut old, place, ca) = with_tls(&authority, directory.path()).await;
    fs::write(&ca, authority.pem()).expect("a file");
    let port = old.tls.expect("it listens with TLS").port();
    let service = Arc::new(Service(parking_lot::Mutex::new([127, 0, 0, 1].into())));
    let sidecar = TestRelay::start_sidecar_asking(None, place, config(), service.clone()).await;
    let (address, stop) = (sidecar.address, Arc::new(AtomicBool::new(false)));
    let callers = (0..8).map(|_| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let models = Ask::openai("m").token(ELSEWHERE);
                let answer = timeout(SOON, ask(address, &models)).await.expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                count += 1;
            }
            count
        })
    });
    let callers: Vec<_> = callers.collect();
    for turn in 2..6 {
        let enough = passed_on(&sidecar, "answered").await + 100.0;
        until("requests", async || (passed_on(&sidecar, "answered").await >= enough).then_some(())).await;
        let new = tls_at(SocketAddr::from(([127, 0, 0, turn], port)), directory.path()).await;
        *service.0.lock() = [127, 0, 0, turn].into();
        timeout(SOON, std::mem::replace(&mut old, new).records()).await.expect("the one before stops");
    }
    stop.store(true, Ordering::Relaxed);
    let counts = futures::future::join_all(callers).await.into_iter().map(|count| count.expect("no request fails"));
    ended(&sidecar, "answered", f64::from(counts.sum::<u32>())).await;
}

#[tokio::test]
async fn the_trace_goes_on_under_the_span_that_the_sidecar_reports() {
    let (spans, collected) = (Arc::new(parking_lot::Mutex::new(Vec::new())), Gate::new());
    let (seen, told) = (spans.clone(), collected.clone());
    let collector = Upstream::start(move |request| {
        let export = ExportTraceServiceRequest::decode(request.body.as_slice()).expect("a batch");
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        seen.lock().extend(scopes.flat_map(|scope| scope.spans));
        told.open();
        Script::answer(200, "application/x-protobuf", [])
    })
    .await;
    let shared = Upstream::start(|_| Script::answer_with(404, &[("x-relay-request-id", "req_theirs")], [])).await;
    let mut settings = config();
    settings.otlp.endpoint = Some(format!("http://{}", collector.address));
    let sidecar = TestRelay::start_sidecar(None, plain(shared.address), settings).await;
    let began = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(sidecar.ask(&Ask::openai("m").header("traceparent", began)).await.status, 404);
    timeout(SOON, collected.passed()).await.expect("the span is sent");
    let spans = spans.lock();
    let [span] = &spans[..] else { panic!("one span: {spans:?}") };
    assert_eq!((span.name.as_str(), hex::encode(&span.parent_span_id)), ("forward", "00f067aa0ba902b7".to_owned()));
    let onward = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex::encode(&span.span_id));
    assert_eq!(shared.received()[0].header("traceparent"), Some(onward.as_str()));
}
