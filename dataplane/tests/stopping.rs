//! Stopping: readiness goes first, then the listener, then the streams; nobody is cut off without a word.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{sync::Arc, time::Duration};

use support::{
    client::{Ask, Whole},
    relay::{Loopback, TestRelay, config},
    tables::Tables,
    upstream::{Act, Gate, Script, Upstream},
    wire::{self, SHAPES},
};
use table::WireShape::{AnthropicMessages, OpenaiChat};
use tokio::{net::TcpStream, time::timeout};

const SOON: Duration = Duration::from_secs(60);

/// Longer than a few requests take on a busy machine, and waited for.
const DELAY: Duration = Duration::from_secs(3);

/// A data plane whose upstream pauses in the middle of streams until the gate is opened, and never answers key `mute`.
async fn streaming(gate: &Gate, deregister: Duration, grace: Duration) -> (TestRelay, Upstream) {
    let held = gate.clone();
    let upstream = Upstream::start(move |request| match (request.key(), request.is_streamed()) {
        ("mute", _) => Script::new().then(Act::Stall),
        (_, true) => {
            let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
            let rest = [wire::saying(OpenaiChat, "lo", false), wire::closing(OpenaiChat)].concat();
            Script::stream().chunks(begun).then(Act::Gate(held.clone())).chunks(rest).end()
        }
        (_, false) => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .host("mute", OpenaiChat, &upstream.url(), &["mute"])
        .model("m", &["h"])
        .model("mute", &["mute"]);
    let mut settings = config();
    (settings.deregister_delay, settings.drain_grace) = (deregister, grace);
    (TestRelay::start_with(tables, settings, Arc::new(Loopback)).await, upstream)
}

#[tokio::test]
async fn readiness_goes_at_once_new_connections_later_and_open_streams_finish() {
    let gate = Gate::new();
    let (mut relay, _upstream) = streaming(&gate, DELAY, SOON).await;
    assert_eq!(relay.admin("/readyz").await.0, 200);
    let mut answer = relay.send(&Ask::anthropic("m").streamed()).await;
    let seen = answer.until("hel").await;

    relay.shut_down();
    while relay.admin("/readyz").await.0 == 200 {}
    assert_eq!(relay.admin("/healthz").await.0, 200);
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200, "accepted during the delay");
    let closed = timeout(SOON, async { while TcpStream::connect(relay.address).await.is_ok() {} });
    closed.await.expect("the listener is closed after the delay");

    gate.open();
    let rest = answer.whole().await;
    let whole = Whole { bytes: [seen.as_bytes(), &rest.bytes].concat(), ..rest };
    assert_eq!(wire::text_of(AnthropicMessages, true, &whole), "hello");
    assert!(wire::is_ended(AnthropicMessages, &whole) && !whole.is_broken);
    let records = timeout(SOON, relay.records()).await.expect("it stops once the last stream has ended");
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record["usage"]["output"] == 7), "{records:?}");
}

#[tokio::test]
async fn at_the_end_of_the_grace_each_stream_gets_one_error_event_and_waiting_requests_an_error() {
    let gate = Gate::new();
    let (mut relay, upstream) = streaming(&gate, Duration::ZERO, Duration::from_millis(300)).await;
    let mut streams = Vec::new();
    for client in SHAPES {
        let mut answer = relay.send(&Ask::of(client, "m").streamed()).await;
        let seen = answer.until("hel").await;
        streams.push((client, seen, answer));
    }
    let waiting = SHAPES.map(|client| (client, relay.connect()));
    let mut asked = Vec::new();
    for (client, connection) in waiting {
        let mut connection = connection.await;
        asked.push((client, tokio::spawn(async move { connection.ask(&Ask::of(client, "mute")).await })));
    }
    while upstream.count() < 4 {
        tokio::task::yield_now().await;
    }

    relay.shut_down();

    for (client, seen, answer) in streams {
        let rest = timeout(SOON, answer.whole()).await.expect("it ends");
        let whole = Whole { bytes: [seen.as_bytes(), &rest.bytes].concat(), ..rest };
        assert_eq!(wire::errors_of(client, &whole).len(), 1, "{}", whole.text());
        assert!(!wire::is_ended(client, &whole) && !whole.is_broken, "{}", whole.text());
    }
    for (client, asked) in asked {
        let answer = timeout(SOON, asked).await.expect("it ends").expect("no panic").expect("an answer");
        let overloaded = if client == OpenaiChat { 503 } else { 529 };
        assert_eq!(answer.status, overloaded, "{}", answer.text());
        assert!(wire::message_of(client, &answer).contains("shutting down"), "{}", answer.text());
    }
    let records = timeout(SOON, relay.records()).await.expect("it stops");
    let codes: Vec<&str> = records.iter().filter_map(|record| record["error_code"].as_str()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "drained").count(), 2, "{records:?}");
    assert_eq!(codes.iter().filter(|code| **code == "shutting_down").count(), 2, "{records:?}");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let gate = Gate::new();
    let (mut relay, _upstream) = streaming(&gate, Duration::ZERO, Duration::from_secs(600)).await;
    let mut used = relay.connect().await;
    assert_eq!(used.ask(&Ask::openai("m")).await.expect("an answer").status, 200);
    let _fresh = TcpStream::connect(relay.address).await.expect("the port is open");
    relay.shut_down();
    assert_eq!(timeout(SOON, relay.records()).await.expect("it stops").len(), 1);
}

#[tokio::test]
async fn kept_connections_are_told_with_an_answer_that_they_end_before_they_are_closed() {
    let gate = Gate::new();
    let (mut relay, _upstream) = streaming(&gate, SOON, SOON).await;
    let mut kept = relay.connect().await;
    let answer = kept.ask(&Ask::openai("m")).await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, None));

    relay.shut_down();
    while relay.admin("/readyz").await.0 == 200 {}
    let last = kept.ask(&Ask::openai("m")).await.expect("an answer");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    kept.ask(&Ask::openai("m")).await.expect_err("it is closed after the answer that said so");
}
