//! Same shape means the same bytes, and which headers pass in either direction.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::{Value, json};
use support::{
    client::Ask,
    relay::TestRelay,
    tables::Tables,
    upstream::{Script, Upstream, gzip, gzip_pieces},
    wire::{self, SHAPES},
};
use table::WireShape::{self, AnthropicMessages, OpenaiChat};

/// Bodies with all that a parser would normalise: spacing, order, escapes, numbers, unknown fields, double names.
fn odd(shape: WireShape, streamed: bool) -> String {
    let rest = r#""x":{"b":1.0,"a":1E400,"n":-0,"big":123456789012345678901234567890},"messages":[ {"content":"caf\u00e9 \/ \ud83d\ude00 é","role":"user"} ],"max_tokens":  100 ,"model" : "m","stream":STREAM , "unknown":[null,{}]"#;
    let options = match shape {
        OpenaiChat => r#","stream_options":{"include_usage":true,"odd":1.50}"#,
        AnthropicMessages => "",
    };
    format!("\n {{{}{options}}} \r\n", rest.replace("STREAM", if streamed { "true" } else { "false" }))
}

fn path(shape: WireShape) -> &'static str {
    match shape {
        OpenaiChat => "/v1/chat/completions",
        AnthropicMessages => "/v1/messages",
    }
}

fn raw(shape: WireShape, body: impl Into<String>) -> Ask {
    Ask::post(path(shape), Value::Null).raw(body.into())
}

/// A whole answer as no serialiser would write it.
fn odd_answer(shape: WireShape) -> String {
    let text = wire::whole(shape, "caf\\u00e9").to_string().replace("caf\\\\u00e9", "caf\\u00e9");
    format!(" {{\"new_field\" : 1.00, {}\n", &text[1..])
}

async fn serving(
    shape: WireShape,
    script: impl Fn(&support::upstream::Received) -> Script + Send + Sync + 'static,
) -> (Upstream, TestRelay) {
    let upstream = Upstream::start(script).await;
    let tables = Tables::new().host("h", shape, &upstream.url(), &["k"]).model("m", &["h"]);
    (upstream, TestRelay::start(tables).await)
}

#[tokio::test]
async fn a_request_of_the_same_shape_is_the_callers_own_bytes_but_for_the_model() {
    for (shape, streamed) in SHAPES.into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
        let (upstream, relay) = serving(shape, move |request| wire::good(shape, request, "hi")).await;
        let body = odd(shape, streamed);
        let answer = relay.ask(&raw(shape, body.as_str())).await;
        assert_eq!(answer.status, 200, "{shape}: {}", answer.text());
        let received = upstream.received();
        let expected = body.replace(r#""model" : "m""#, r#""model" : "up-m""#);
        assert_eq!(String::from_utf8_lossy(&received[0].body), expected, "{shape} {streamed}");
        assert_eq!(received[0].path, path(shape));
    }
}

#[tokio::test]
async fn a_whole_answer_of_the_same_shape_is_the_upstreams_own_bytes() {
    for shape in SHAPES {
        let body = odd_answer(shape);
        let sent = body.clone();
        let (_upstream, relay) = serving(shape, move |_| Script::answer(200, "application/json", &sent)).await;
        let answer = relay.ask(&raw(shape, odd(shape, false))).await;
        assert_eq!((answer.status, answer.text()), (200, body), "{shape}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{shape}");
    }
}

#[tokio::test]
async fn a_stream_of_the_same_shape_is_the_upstreams_own_bytes() {
    for shape in SHAPES {
        let stream = format!(": a comment\r\n\r\nid: 7\n{}", wire::frames(shape, "h\\u00e9").concat());
        let sent = stream.clone();
        let (_upstream, relay) = serving(shape, move |_| {
            // Pieces that end in the middle of lines and characters.
            let pieces = sent.as_bytes().chunks(17);
            pieces.fold(Script::stream(), |script, piece| script.chunk(piece)).end()
        })
        .await;
        let answer = relay.ask(&raw(shape, odd(shape, true))).await;
        assert_eq!(answer.text(), stream, "{shape}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!((answer.header("content-length"), answer.header("cache-control")), (None, Some("no-cache")));
    }
}

#[tokio::test]
async fn a_gzip_answer_stays_the_same_gzip_for_a_caller_who_takes_it() {
    for shape in SHAPES {
        let zipped = gzip(odd_answer(shape));
        let sent = zipped.clone();
        let (upstream, relay) = serving(shape, move |_| {
            let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
            Script::answer_with(200, &headers, &sent)
        })
        .await;
        let ask = raw(shape, odd(shape, false)).header("accept-encoding", "gzip, br");
        let answer = relay.ask(&ask).await;
        assert_eq!((answer.header("content-encoding"), answer.bytes == zipped), (Some("gzip"), true), "{shape}");
        assert_eq!(upstream.received()[0].header("accept-encoding"), Some("gzip"), "{shape}");
        let plain = relay.ask(&raw(shape, odd(shape, false))).await;
        assert_eq!((plain.header("content-encoding"), plain.text()), (None, odd_answer(shape)), "{shape}");
        assert_eq!(upstream.received()[1].header("accept-encoding"), Some("identity"), "{shape}");
        let records = relay.records().await;
        assert!(records.iter().all(|record| record["usage"]["output"] == 7), "{shape}: usage is read through gzip");
    }
}

#[tokio::test]
async fn a_stream_is_not_asked_for_compressed_and_unpacked_where_it_comes_so() {
    for shape in SHAPES {
        let frames = wire::frames(shape, "hi");
        let pieces = gzip_pieces(&frames);
        let (upstream, relay) = serving(shape, move |_| {
            let headers =
                [("content-type", "text/event-stream"), ("content-encoding", "gzip"), ("transfer-encoding", "chunked")];
            pieces.iter().fold(Script::head(200, &headers), |script, piece| script.chunk(piece)).end()
        })
        .await;
        let answer = relay.ask(&raw(shape, odd(shape, true)).header("accept-encoding", "gzip")).await;
        assert_eq!(upstream.received()[0].header("accept-encoding"), Some("identity"), "{shape}");
        assert_eq!((answer.header("content-encoding"), answer.text()), (None, frames.concat()), "{shape}");
        assert_eq!(relay.records().await[0]["usage"]["output"], 7, "{shape}");
    }
}

#[tokio::test]
async fn usage_of_a_stream_is_asked_for_and_hidden_from_a_caller_who_did_not_ask() {
    let (upstream, relay) = serving(OpenaiChat, |request| wire::good(OpenaiChat, request, "hi")).await;

    let plain = relay.ask(&Ask::openai("m").streamed()).await;
    let asking = relay.ask(&Ask::openai("m").streamed().with("stream_options", json!({"include_usage": true}))).await;

    let received = upstream.received();
    assert_eq!(received[0].json()["stream_options"], json!({"include_usage": true}));
    assert!(!plain.text().contains("usage"), "{}", plain.text());
    let visible: String = wire::frames(OpenaiChat, "hi").into_iter().filter(|frame| !frame.contains("usage")).collect();
    assert_eq!(plain.text(), visible);
    assert_eq!(asking.text(), wire::frames(OpenaiChat, "hi").concat());
    let records = relay.records().await;
    assert!(records.iter().all(|record| record["usage"]["output"] == 7 && record["usage"]["estimated"] == false));
}

#[tokio::test]
async fn nothing_of_the_callers_connection_or_credentials_goes_up() {
    for (client, upstream_shape) in SHAPES.into_iter().flat_map(|client| SHAPES.map(|upstream| (client, upstream))) {
        let (upstream, relay) = serving(upstream_shape, move |request| wire::good(upstream_shape, request, "hi")).await;
        let private = [
            ("x-api-key", "canary-1"),
            ("api-key", "canary-2"),
            ("x-goog-api-key", "canary-3"),
            ("cookie", "canary-4"),
            ("x-relay-debug", "canary-5"),
            ("connection", "x-mine"),
            ("x-mine", "canary-6"),
            ("te", "canary-7"),
            ("proxy-authorization", "canary-8"),
            ("x-forwarded-for", "203.0.113.77"),
            ("forwarded", "for=canary-9"),
            ("x-something-else", "canary-10"),
            ("via", "canary-11"),
            ("openai-organization", "canary-12"),
            ("openai-project", "canary-13"),
        ];
        let ask = private.iter().fold(Ask::of(client, "m"), |ask, (name, value)| ask.header(name, value));
        assert_eq!(relay.ask(&ask).await.status, 200);
        let seen = format!("{:?}", upstream.received()[0].headers);
        assert!(!seen.contains("canary") && !seen.contains("203.0.113.77") && !seen.contains("x-relay"), "{seen}");
        assert_eq!(upstream.received()[0].key(), "k");
    }
}

#[tokio::test]
async fn headers_of_the_shape_go_up_to_hosts_of_that_shape_only() {
    let betas = [
        ("anthropic-beta", "a-beta-of-2031"),
        ("anthropic-version", "2026-10-21"),
        ("x-stainless-lang", "python"),
        ("user-agent", "sdk/1"),
    ];
    for upstream_shape in SHAPES {
        let (upstream, relay) = serving(upstream_shape, move |request| wire::good(upstream_shape, request, "hi")).await;
        let ask = betas.iter().fold(Ask::anthropic("m"), |ask, (name, value)| ask.header(name, value));
        assert_eq!(relay.ask(&ask).await.status, 200);
        let received = upstream.received().remove(0);
        let is_same = upstream_shape == AnthropicMessages;
        for (name, value) in betas {
            assert_eq!(received.header(name) == Some(value), is_same, "{upstream_shape}: {name}");
        }
    }
}

#[tokio::test]
async fn nothing_of_the_providers_account_comes_down_and_the_rest_does() {
    for shape in SHAPES {
        let body = wire::whole(shape, "hi").to_string();
        let (_upstream, relay) = serving(shape, move |_| {
            let headers = [
                ("content-type", "application/json"),
                ("openai-organization", "canary"),
                ("openai-project", "canary"),
                ("anthropic-organization-id", "canary"),
                ("anthropic-workspace-id", "canary"),
                ("set-cookie", "canary=1"),
                ("x-ratelimit-remaining-requests", "canary"),
                ("anthropic-ratelimit-requests-remaining", "canary"),
                ("request-id", "canary"),
                ("x-request-id", "canary"),
                ("cf-ray", "canary"),
                ("x-relay-host", "canary"),
                ("server", "canary"),
                ("openai-processing-ms", "12"),
            ];
            Script::answer_with(200, &headers, &body)
        })
        .await;
        let answer = relay.ask(&Ask::of(shape, "m")).await;
        let seen = format!("{:?}", answer.headers);
        assert!(!seen.contains("canary"), "{shape}: {seen}");
        assert_eq!(answer.header("openai-processing-ms"), Some("12"), "{shape}");
    }
}

#[tokio::test]
async fn an_answer_says_who_served_it_and_after_how_many_tries() {
    let (_upstream, relay) = serving(AnthropicMessages, |request| wire::good(AnthropicMessages, request, "hi")).await;
    for shape in SHAPES {
        let plain = relay.ask(&Ask::of(shape, "m")).await;
        assert_eq!(plain.header("x-relay-model"), Some("m"));
        assert_eq!((plain.header("x-relay-host"), plain.header("x-relay-attempts")), (Some("team/h"), Some("1")));
        assert_eq!(plain.header("x-request-id"), plain.header("x-relay-request-id"));
        assert_eq!(plain.header("request-id").is_some(), shape == AnthropicMessages);
        let overhead: f64 = plain.header("x-relay-overhead-ms").and_then(|ms| ms.parse().ok()).expect("milliseconds");
        assert!((0.0..60_000.0).contains(&overhead));
        assert_eq!(plain.header("x-relay-debug"), None);
        let debug = relay.ask(&Ask::of(shape, "m").header("x-relay-debug", "1")).await;
        assert!(debug.header("x-relay-debug").is_some_and(|why| why.contains('h')), "{:?}", debug.headers);
    }
}
