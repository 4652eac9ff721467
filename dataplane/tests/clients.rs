//! Callers that go away, dawdle, send nonsense or speak HTTP in unusual ways.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{
    client::{Ask, Whole},
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables},
    upstream::{Act, Gate, Script, Upstream, gzip},
    wire::{self, SHAPES},
};
use table::WireShape::{AnthropicMessages, OpenaiChat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// For what comes at once, on a machine that may be busy. Shorter than anything else that would end what is waited for.
const SOON: Duration = Duration::from_secs(20);

/// A data plane before one upstream that answers all well.
async fn served(edit: impl FnOnce(&mut dataplane::config::Config)) -> (TestRelay, Upstream) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let mut settings = config();
    edit(&mut settings);
    (TestRelay::start_with(tables, settings, Arc::new(Loopback)).await, upstream)
}

/// A request as bytes, with these lines in its head and this body.
fn raw(path: &str, lines: &[&str], body: &str) -> String {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: relay.test\r\nauthorization: Bearer {TOKEN}\r\n");
    for line in lines {
        head.push_str(&format!("{line}\r\n"));
    }
    format!("{head}\r\n{body}")
}

/// All that comes back on a connection until it is closed.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut all)).await.expect("it is closed");
    String::from_utf8_lossy(&all).into_owned()
}

async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = String::new();
    let mut buffer = [0; 4096];
    while !all.contains(text) {
        let read = timeout(SOON, stream.read(&mut buffer)).await.expect("something comes");
        let read = read.expect("the connection holds");
        assert!(read > 0, "closed before {text:?}: {all:?}");
        all.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    all
}

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_a_stream_cancels_the_upstream_and_gives_all_back() {
    for shape in SHAPES {
        let upstream = Upstream::start(move |_| {
            let begun = [wire::opening(shape), wire::saying(shape, "hel", true)].concat();
            Script::stream().chunks(begun).then(Act::Stall)
        })
        .await;
        let tables = Tables::new()
            .host("h", shape, &upstream.url(), &["k"])
            .model("m", &["h"])
            .policy(|policy| policy.limits.concurrency = Some(1));
        let relay = TestRelay::start(tables).await;
        for (turn, client) in SHAPES.into_iter().enumerate() {
            let mut answer = relay.send(&Ask::of(client, "m").streamed()).await;
            answer.until("hel").await;
            assert_eq!(relay.ask(&Ask::of(client, "m")).await.status, 429, "the only place is taken");

            drop(answer);

            timeout(SOON, upstream.abandoned(turn + 1)).await.expect("the upstream is let go");
            assert_eq!(relay.metric("relay_streams_open").await, Some(0.0));
        }
        let records = relay.records().await;
        assert_eq!(records.iter().filter(|record| record["cancelled"] == true).count(), 2);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_begins_cancels_the_upstream() {
    let upstream = Upstream::start(|_| Script::new().then(Act::Stall)).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    for (turn, ask) in [Ask::openai("m"), Ask::anthropic("m").streamed()].into_iter().enumerate() {
        let connection = relay.connect().await;
        let asking = tokio::spawn(async move { connection.send(&ask).await.map(|answer| answer.status) });
        while upstream.count() <= turn {
            tokio::task::yield_now().await;
        }
        asking.abort();
        timeout(SOON, upstream.abandoned(turn + 1)).await.expect("the upstream is let go");
    }
}

#[tokio::test]
async fn a_head_that_dawdles_loses_its_connection() {
    let (relay, upstream) = served(|config| config.header_read_timeout = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n").await.expect("it is sent");
    let said = until_closed(&mut stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_refused_in_time() {
    let (relay, upstream) = served(|config| config.body_read_timeout = Duration::from_millis(200)).await;
    let stream = TcpStream::connect(relay.address).await.expect("the port is open");
    let (mut read, mut write) = stream.into_split();
    let head = raw("/v1/chat/completions", &[&format!("content-length: {}", BODY.len())], "");
    let dawdling = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.expect("it is sent");
        for byte in BODY.bytes() {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut all = Vec::new();
    let _ = timeout(SOON, read.read_to_end(&mut all)).await.expect("it is closed");
    let said = String::from_utf8_lossy(&all);
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("--body-read-timeout"), "{said}");
    assert_eq!(upstream.count(), 0);
    dawdling.abort();
}

#[tokio::test]
async fn two_lengths_are_refused_and_nothing_is_smuggled() {
    let (relay, upstream) = served(|_| {}).await;
    let smuggled = raw("/v1/chat/completions", &[&format!("content-length: {}", BODY.len())], BODY);
    for lines in [
        ["content-length: 4".to_owned(), format!("content-length: {}", smuggled.len())],
        ["content-length: 4, 5".to_owned(), "x-a: b".to_owned()],
        ["content-length: -1".to_owned(), "x-a: b".to_owned()],
        ["transfer-encoding: gzip".to_owned(), "x-a: b".to_owned()],
    ] {
        let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
        let request = raw("/v1/chat/completions", &[&lines[0], &lines[1]], &smuggled);
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let said = until_closed(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 400") && said.matches("HTTP/1.1").count() == 1, "{lines:?}: {said}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (relay, upstream) = served(|_| {}).await;
    let length = format!("content-length: {}", BODY.len());
    let unknown = raw("/v1/nothing", &[&length], BODY);
    let good = raw("/v1/chat/completions", &[&length], BODY);
    let last = raw("/v1/chat/completions", &[&length, "connection: close"], BODY);
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    stream.write_all([good, unknown, last].concat().as_bytes()).await.expect("it is sent");
    let said = until_closed(&mut stream).await;
    let statuses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{said}");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_the_name_of_the_setting() {
    let (relay, upstream) = served(|config| config.body_limit = 1_000).await;
    for client in SHAPES {
        let large = Ask::of(client, "m").with("padding", json!("x".repeat(2_000)));
        let bomb = Ask::of(client, "m").header("content-encoding", "gzip");
        let answer = relay.ask(&large).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert!(wire::message_of(client, &answer).contains("--body-limit"), "{}", answer.text());
        // Not gzip at all, which is another matter.
        assert_eq!(relay.ask(&bomb).await.status, 400);
    }
    let chunks = format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2_000));
    let request = raw("/v1/messages", &["transfer-encoding: chunked", "connection: close"], &chunks);
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let said = until(&mut stream, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn compressed_requests_are_read_and_unknown_encodings_are_refused() {
    let (relay, upstream) = served(|_| {}).await;
    let zstd = zstd::encode_all(BODY.as_bytes(), 1).expect("it compresses");
    for (encoding, body, status) in
        [("gzip", gzip(BODY), 200), ("zstd", zstd, 200), ("br", BODY.into(), 415), ("gzip, gzip", BODY.into(), 415)]
    {
        let lines = [
            format!("content-length: {}", body.len()),
            format!("content-encoding: {encoding}"),
            "connection: close".to_owned(),
        ];
        let head = raw("/v1/chat/completions", &[&lines[0], &lines[1], &lines[2]], "");
        let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
        stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("it is sent");
        let said = until_closed(&mut stream).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{encoding}: {said}");
    }
    assert!(upstream.received().iter().all(|request| request.json()["model"] == "up-m"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_shape_that_they_look_like() {
    let (relay, _upstream) = served(|_| {}).await;
    let status = |answer: &Whole| answer.status;
    for (client, path) in [(OpenaiChat, "/v1/nothing"), (AnthropicMessages, "/anthropic/v1/nothing")] {
        let answer = relay.ask(&Ask::post(path, json!({}))).await;
        assert_eq!(status(&answer), 404);
        assert!(wire::message_of(client, &answer).contains(path), "{}", answer.text());
    }
    for client in SHAPES {
        let answer = relay.ask(&Ask::of(client, "m").method(Method::DELETE)).await;
        assert_eq!(status(&answer), 405);
        assert!(wire::message_of(client, &answer).contains("POST"), "{}", answer.text());
    }
}

#[tokio::test]
async fn what_is_wrong_in_a_body_is_refused_with_its_place() {
    let (relay, upstream) = served(|_| {}).await;
    for client in SHAPES {
        for (field, value) in [
            ("messages", json!(5)),
            ("max_tokens", json!("many")),
            ("stream", json!("yes")),
            ("model", json!(null)),
            ("temperature", json!([])),
        ] {
            let answer = relay.ask(&Ask::of(client, "m").with(field, value.clone())).await;
            // Of the same shape, what the router need not know is the provider's to judge.
            let is_theirs = client == OpenaiChat && matches!(field, "temperature");
            let expected = if is_theirs { 200 } else { 400 };
            assert_eq!(answer.status, expected, "{client:?} {field}: {}", answer.text());
            if !is_theirs {
                assert!(wire::message_of(client, &answer).contains(field), "{client:?} {field}: {}", answer.text());
            }
        }
        let path = if client == OpenaiChat { "/v1/chat/completions" } else { "/v1/messages" };
        for body in ["", "{", "[]", "null", "{\"model\":\"m\",}", "\u{0}", "{\"model\":\"m\"} x"] {
            let lines = [format!("content-length: {}", body.len()), "connection: close".to_owned()];
            let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
            stream.write_all(raw(path, &[&lines[0], &lines[1]], body).as_bytes()).await.expect("it is sent");
            let said = until_closed(&mut stream).await;
            assert!(said.starts_with("HTTP/1.1 400") && said.contains("\"error\""), "{client:?} {body:?}: {said}");
        }
    }
    assert!(upstream.count() <= 1, "nothing malformed went up");
}

#[tokio::test]
async fn a_caller_that_expects_to_be_told_to_go_on_is_told() {
    let (relay, _upstream) = served(|_| {}).await;
    let lines = [format!("content-length: {}", BODY.len()), "expect: 100-continue".to_owned()];
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    stream.write_all(raw("/v1/chat/completions", &[&lines[0], &lines[1]], "").as_bytes()).await.expect("it is sent");
    let said = until(&mut stream, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 100"), "{said}");
    stream.write_all(BODY.as_bytes()).await.expect("it is sent");
    let said = until(&mut stream, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn a_caller_that_is_refused_is_not_told_to_send_its_body() {
    let (relay, _upstream) = served(|_| {}).await;
    let request = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = TcpStream::connect(relay.address).await.expect("the port is open");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let said = until(&mut stream, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
}

#[tokio::test]
async fn http_2_is_spoken_with_prior_knowledge_and_many_streams_share_a_connection() {
    let (relay, upstream) = served(|_| {}).await;
    let stream = TcpStream::connect(relay.address).await.expect("the port is open");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let ask = |sender: &hyper::client::conn::http2::SendRequest<Full<Bytes>>| {
        let mut sender = sender.clone();
        let request = Request::post(format!("http://{}/v1/chat/completions", relay.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .expect("a request");
        async move {
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a whole body").to_bytes()
        }
    };
    for body in futures::future::join_all((0..50).map(|_| ask(&sender))).await {
        assert!(body.starts_with(b"{\"id\":\"chatcmpl-1\""));
    }
    assert_eq!(upstream.count(), 50);
}

#[tokio::test]
async fn a_stream_of_http_2_that_is_left_cancels_its_own_upstream_request_and_no_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |_| {
        let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
        Script::stream().chunks(begun).then(Act::Gate(held.clone())).chunks(wire::closing(OpenaiChat)).end()
    })
    .await;
    let relay = TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"])).await;
    let stream = TcpStream::connect(relay.address).await.expect("the port is open");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let body = Ask::openai("m").streamed().body.to_string();
        let request = Request::post(format!("http://{}/v1/chat/completions", relay.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let mut answer = sender.send_request(request).await.expect("an answer").into_body();
        answer.frame().await.expect("it begins").expect("it goes on");
        answers.push(answer);
    }

    drop(answers.remove(0));

    assert_eq!(timeout(SOON, upstream.abandoned(1)).await.expect("the upstream is let go"), [0]);
    gate.open();
    let rest = answers.remove(0).collect().await.expect("the other goes on").to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
}

#[tokio::test]
async fn more_requests_than_the_process_takes_are_told_so_and_each_end_makes_room() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request| {
        let Script(good) = wire::good(OpenaiChat, request, "hi");
        Script([vec![Act::Gate(held.clone())], good].concat())
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let mut settings = config();
    settings.max_in_flight = 1;
    let relay = TestRelay::start_with(tables, settings, Arc::new(Loopback)).await;
    let mut connection = relay.connect().await;
    let first = tokio::spawn(async move { connection.ask(&Ask::openai("m")).await });
    while upstream.count() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = relay.ask(&Ask::openai("m")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(wire::message_of(OpenaiChat, &answer).contains("--max-in-flight"), "{}", answer.text());
    gate.open();
    assert_eq!(first.await.expect("no panic").expect("an answer").status, 200);
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200);
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_in_the_callers_shape() {
    for (shape, client) in SHAPES.into_iter().flat_map(|shape| SHAPES.map(|client| (shape, client))) {
        let gate = Gate::new();
        let held = gate.clone();
        let upstream = Upstream::start(move |_| {
            let begun = [wire::opening(shape), wire::saying(shape, "hel", true)].concat();
            let rest = [wire::saying(shape, "lo", false), wire::closing(shape)].concat();
            // The silence begins within a frame, where a keep-alive must not be put.
            let (half, other) = rest[0].split_at(10);
            Script::stream()
                .chunks(begun)
                .chunk(half)
                .then(Act::Gate(held.clone()))
                .chunk(other)
                .chunks(rest[1..].to_vec())
                .end()
        })
        .await;
        let tables = Tables::new().host("h", shape, &upstream.url(), &["k"]).model("m", &["h"]);
        let mut settings = config();
        settings.keep_alive = Duration::from_millis(50);
        let relay = TestRelay::start_with(tables, settings, Arc::new(Loopback)).await;
        let mut answer = relay.send(&Ask::of(client, "m").streamed()).await;
        let mark = if client == OpenaiChat { "\n\n:" } else { "event: ping" };
        let mut seen = answer.until("hel").await;
        seen.push_str(&timeout(SOON, answer.until(mark)).await.expect("a keep-alive in time"));
        gate.open();
        let rest = answer.whole().await;
        let whole = Whole { bytes: [seen.as_bytes(), &rest.bytes].concat(), ..rest };
        assert_eq!(wire::text_of(client, true, &whole), "hello", "{}", whole.text());
        assert!(wire::is_ended(client, &whole));
    }
}

#[tokio::test]
async fn the_root_can_be_asked_for_its_head() {
    let (relay, _upstream) = served(|_| {}).await;
    let mut ask = Ask::get("/").method(Method::HEAD);
    ask.body = serde_json::Value::Null;
    let answer = relay.ask(&ask).await;
    assert_eq!((answer.status, answer.bytes.len()), (200, 0));
}
