//! What follows a failed attempt: which failures are tried elsewhere, which are the caller's own, and what it is told.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    client::Ask,
    relay::TestRelay,
    tables::{Tables, named},
    upstream::{Script, Upstream},
    wire::{self, SHAPES},
};
use table::{
    Credential, Fallback, Secret, Translation,
    WireShape::{self, AnthropicMessages, OpenaiChat},
};

fn error(shape: WireShape, status: u16, kind: &str, code: Option<&str>, message: &str) -> Script {
    let mut body = wire::error(shape, kind, message);
    if shape == OpenaiChat {
        body["error"]["code"] = code.map_or(Value::Null, Value::from);
    }
    Script::json(status, &body)
}

#[tokio::test]
async fn an_answer_comes_from_the_next_key_when_the_first_one_fails() {
    let upstream = Upstream::start(|request| match request.key() {
        "bad" => error(OpenaiChat, 500, "server_error", None, "boom"),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "good"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;

    let answer = relay.ask(&Ask::openai("m")).await;

    assert_eq!((answer.status, wire::text_of(OpenaiChat, false, &answer).as_str()), (200, "hi"));
    assert_eq!(upstream.keys(), ["bad", "good"]);
    let records = relay.records().await;
    assert_eq!(records.len(), 1);
    let outcomes: Vec<&Value> =
        records[0]["attempts"].as_array().expect("a list").iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["server_error", "ok"]);
    assert_eq!(records[0]["usage"]["output"], 7);
}

#[tokio::test]
async fn an_answer_comes_from_a_host_of_the_other_shape_when_the_first_one_fails() {
    let first = Upstream::start(|_| error(AnthropicMessages, 529, "overloaded_error", None, "busy")).await;
    let second = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new()
        .host("first", AnthropicMessages, &first.url(), &["a"])
        .host("second", OpenaiChat, &second.url(), &["b"])
        .model("m", &["first", "second"]);
    let relay = TestRelay::start(tables).await;
    for client in SHAPES {
        for (ask, streamed) in [(Ask::of(client, "m"), false), (Ask::of(client, "m").streamed(), true)] {
            let answer = relay.ask(&ask).await;
            assert_eq!(wire::text_of(client, streamed, &answer), "hi", "{}", answer.text());
            assert_eq!(answer.header("x-relay-host"), Some("team/second"));
        }
    }
}

#[tokio::test]
async fn a_request_that_is_at_fault_is_not_tried_again_and_harms_no_key() {
    let upstream = Upstream::start(|request| match request.json()["temperature"].as_f64() {
        Some(_) => error(OpenaiChat, 400, "invalid_request_error", None, "temperature must be below 2"),
        None => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["a", "b"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;

    for _ in 0..10 {
        let answer = relay.ask(&Ask::openai("m").with("temperature", json!(3))).await;
        assert_eq!(answer.status, 400);
        assert_eq!(wire::message_of(OpenaiChat, &answer), "temperature must be below 2");
    }
    let answer = relay.ask(&Ask::openai("m")).await;

    assert_eq!(answer.status, 200);
    assert_eq!(upstream.keys(), vec!["a"; 11]);
}

#[tokio::test]
async fn a_conversation_that_is_too_long_goes_to_a_larger_model_where_the_policy_lists_one() {
    let too_long = |shape| match shape {
        OpenaiChat => error(
            OpenaiChat,
            400,
            "invalid_request_error",
            Some("context_length_exceeded"),
            "This model's maximum context length is 8192 tokens.",
        ),
        AnthropicMessages => error(
            AnthropicMessages,
            400,
            "invalid_request_error",
            None,
            "prompt is too long: 9000 tokens > 8192 maximum",
        ),
    };
    for shape in SHAPES {
        let small = Upstream::start(move |_| too_long(shape)).await;
        let large = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
        let tables = Tables::new()
            .host("small", shape, &small.url(), &["a", "b"])
            .host("large", OpenaiChat, &large.url(), &["c"])
            .model("m", &["small"])
            .model("m-large", &["large"]);
        let alone = TestRelay::start(tables.clone()).await;
        let fallback = Fallback { matches: "m".to_owned(), to: vec![named("m-large")] };
        let helped = TestRelay::start(tables.policy(|policy| policy.routing.fallbacks = vec![fallback])).await;

        let answer = helped.ask(&Ask::openai("m")).await;
        assert_eq!(wire::text_of(OpenaiChat, false, &answer), "hi", "{}", answer.text());
        assert_eq!(answer.header("x-relay-attempts"), Some("2"));
        assert_eq!(answer.header("x-relay-model"), Some("m-large"));

        let answer = alone.ask(&Ask::openai("m")).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
        assert_eq!(small.keys(), ["a", "a"], "a window is no larger with another key");
    }
}

#[tokio::test]
async fn when_every_key_is_limited_the_earliest_retry_is_told_and_nobody_is_asked_before() {
    let upstream = Upstream::start(|request| {
        let wait = if request.key() == "slow" { "300" } else { "120" };
        let body = wire::error(OpenaiChat, "rate_limit_error", "Rate limit reached").to_string();
        Script::answer_with(429, &[("content-type", "application/json"), ("retry-after", wait)], body)
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["slow", "quick"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    for client in SHAPES {
        for ask in [Ask::of(client, "m"), Ask::of(client, "m").streamed()] {
            let answer = relay.ask(&ask).await;
            assert_eq!(answer.status, 429, "{}", answer.text());
            let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
            assert!((60..=120).contains(&wait), "{wait}");
            assert_eq!(wire::message_of(client, &answer), "Rate limit reached");
        }
    }
    assert_eq!(upstream.keys(), ["slow", "quick"]);
}

#[tokio::test]
async fn a_passing_failure_of_the_only_key_is_repeated_on_it() {
    let upstream = Upstream::start(|request| match request.index {
        0 => error(OpenaiChat, 503, "server_error", None, "try again"),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let relay = TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"])).await;
    let answer = relay.ask(&Ask::openai("m")).await;
    assert_eq!((answer.status, answer.header("x-relay-attempts")), (200, Some("2")));
}

#[tokio::test]
async fn repeats_on_the_same_key_stay_within_their_share_of_requests() {
    let upstream = Upstream::start(|_| error(OpenaiChat, 503, "server_error", None, "down")).await;
    let tables = Tables::new()
        .host_with("h", OpenaiChat, &upstream.url(), &["k"], |host| {
            host.breaker.server_error.consecutive = 1_000_000;
            host.breaker.server_error.min_requests = 1_000_000;
        })
        .model("m", &["h"])
        .policy(|policy| policy.retries.backoff_base = Duration::from_millis(1));
    let relay = TestRelay::start(tables).await;
    for _ in 0..100 {
        assert_eq!(relay.ask(&Ask::openai("m")).await.status, 503);
    }
    // A reserve of ten for quiet hosts, and a fifth of the requests.
    assert_eq!(upstream.count(), 100 + 10 + 20);
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_repeated_and_the_caller_is_not_blamed() {
    let upstream = Upstream::start(|_| {
        error(OpenaiChat, 401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided: sk-up")
    })
    .await;
    let relay =
        TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["sk-up"]).model("m", &["h"])).await;
    for turn in 0..3 {
        let answer = relay.ask(&Ask::openai("m")).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_auth")));
        // The first one tried it; the others met a key that is out.
        let tried = (turn == 0).then_some("1");
        assert_eq!(answer.header("x-relay-attempts"), tried);
        assert_eq!(answer.header("x-relay-host"), tried.map(|_| "team/h"));
    }
    assert_eq!(upstream.keys(), ["sk-up"]);
}

#[tokio::test]
async fn what_cannot_be_translated_goes_to_a_host_that_needs_no_translation() {
    let cannot = Upstream::start(|request| wire::good(OpenaiChat, request, "no")).await;
    let can = Upstream::start(|request| wire::good(AnthropicMessages, request, "yes")).await;
    let tables = Tables::new()
        .host("cannot", OpenaiChat, &cannot.url(), &["a"])
        .host("can", AnthropicMessages, &can.url(), &["b"])
        .model("m", &["cannot", "can"])
        .model("only", &["cannot"])
        .policy(|policy| policy.translation = Translation::Strict);
    let relay = TestRelay::start(tables).await;

    let answer = relay.ask(&Ask::anthropic("m").with("top_k", json!(5))).await;
    assert_eq!(wire::text_of(AnthropicMessages, false, &answer), "yes", "{}", answer.text());
    assert_eq!(answer.header("x-relay-attempts"), Some("1"));

    let answer = relay.ask(&Ask::anthropic("only").with("top_k", json!(5))).await;
    assert_eq!(answer.status, 400);
    assert!(wire::message_of(AnthropicMessages, &answer).contains("top_k"), "{}", answer.text());
    assert_eq!(cannot.count(), 0);
}

#[tokio::test]
async fn answers_say_who_gave_them_what_was_lost_and_under_which_id() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let relay = TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"])).await;
    for client in SHAPES {
        let ask = Ask::of(client, "m").header("cookie", "a=CANARY").header("x-relay-debug", "1");
        let ask = if client == AnthropicMessages { ask.with("top_k", json!(5)) } else { ask };
        for ask in [ask.clone(), ask.streamed()] {
            let answer = relay.ask(&ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("x-relay-attempts"), Some("1"));
            assert_eq!(answer.header("x-relay-host"), Some("team/h"));
            assert_eq!(answer.header("x-relay-model"), Some("m"));
            let id = answer.header("x-relay-request-id").expect("an id");
            let name = if client == AnthropicMessages { "request-id" } else { "x-request-id" };
            assert_eq!(answer.header(name), Some(id));
            let warnings = answer.header("x-relay-warnings");
            match client {
                OpenaiChat => assert_eq!(warnings, None),
                AnthropicMessages => assert!(warnings.is_some_and(|text| text.contains("top_k")), "{warnings:?}"),
            }
        }
    }
    for request in upstream.received() {
        let sent = format!("{:?}", request.headers);
        assert!(!sent.contains("CANARY") && !sent.contains("x-relay-"), "{sent}");
        assert!(!sent.contains(support::tables::TOKEN), "{sent}");
        assert_eq!(request.header("authorization"), Some("Bearer k"));
    }
}

#[tokio::test]
async fn no_error_of_an_upstream_names_its_account_or_its_key() {
    // No request id can hold the end of the masked key: it is not hex.
    const SECRET: &str = "sk-proj-CANARYcanary012345wxyz";
    const ACCOUNT: &str = "org-CANARYcanary012345wxyz";
    for shape in SHAPES {
        let upstream = Upstream::start(move |request| {
            let key = request.key();
            let message = format!("Incorrect API key provided: {key}, see organization {ACCOUNT} for sk-proj-****wxyz");
            let status: u16 =
                request.json()["messages"][0]["content"].as_str().unwrap_or_default().parse().unwrap_or(200);
            let kind = if status == 200 { "overloaded_error" } else { "invalid_request_error" };
            if request.is_streamed() {
                let frames = [wire::opening(shape), wire::saying(shape, "hel", true)].concat();
                return Script::stream().chunks(frames).chunk(wire::error_frame(shape, kind, &message)).end();
            }
            let body = wire::error(shape, kind, &message).to_string();
            let headers = [("content-type", "application/json"), ("openai-organization", ACCOUNT)];
            Script::answer_with(status, &headers, body)
        })
        .await;
        let mut tables = Tables::new();
        let statuses = ["200", "400", "401", "402", "403", "404", "409", "413", "422", "429", "500", "503", "529"];
        for status in statuses {
            // Each with a host of its own, whose breaker no other status opens.
            tables = tables.host(status, shape, &upstream.url(), &[]).model(status, &[status]);
            tables = tables.host_key(status, &format!("key-{status}"), |_| {});
            let secret = Credential::Value(Secret::new(format!("{SECRET}-{status}")));
            tables.credentials.host_keys.insert(named(&format!("key-{status}")), secret);
        }
        let relay = TestRelay::start(tables).await;
        for client in SHAPES {
            for status in statuses {
                let content = json!([{"role": "user", "content": status}]);
                let ask = Ask::of(client, status).with("messages", content);
                for ask in [ask.clone(), ask.streamed()] {
                    let answer = relay.ask(&ask).await;
                    let said = format!("{:?} {}", answer.headers, answer.text());
                    assert!(!said.contains("CANARY") && !said.contains("wxyz"), "{status}: {said}");
                }
            }
        }
        for record in relay.records().await {
            assert!(!record.to_string().contains(SECRET), "{record}");
        }
    }
}
