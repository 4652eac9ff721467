//! What callers may ask beside conversations: their models, token counts and embeddings.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::{Value, json};
use support::{
    client::Ask,
    relay::TestRelay,
    tables::{NAMESPACE, Tables},
    upstream::{Script, Upstream},
    wire,
};
use table::WireShape::{AnthropicMessages, OpenaiChat};

/// Models `a`, `b` with the alias `bee`, `c`; `denied` is denied, `off` suspended, `keyless` has no key.
async fn shop() -> (Upstream, TestRelay) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .host("empty", OpenaiChat, &upstream.url(), &[])
        .model("a", &["h"])
        .model_with("b", &["h"], |model| {
            model.aliases = vec!["bee".to_owned()];
            (model.context_window, model.max_output_tokens) = (Some(200_000), Some(8_192));
        })
        .model("c", &["h"])
        .model("denied", &["h"])
        .model_with("off", &["h"], |model| model.suspended = true)
        .model("keyless", &["empty"])
        .policy(|policy| policy.models.deny = vec!["denied".to_owned()]);
    (upstream, TestRelay::start(tables).await)
}

fn list(path: &str) -> Ask {
    Ask::get(path).header("anthropic-version", "2023-06-01")
}

fn ids(body: &Value) -> Vec<&str> {
    body["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect()
}

#[tokio::test]
async fn a_key_is_shown_exactly_the_models_that_would_answer_it() {
    let (_upstream, relay) = shop().await;
    let body = relay.ask(&Ask::get("/v1/models")).await.json();
    assert_eq!((&body["object"], ids(&body)), (&json!("list"), vec!["a", "b", "bee", "c"]));
    let first = json!({"id": "a", "object": "model", "created": 0, "owned_by": NAMESPACE});
    assert_eq!(body["data"][0], first);
    for model in ["a", "b", "bee", "c", "denied", "off", "keyless", "unknown"] {
        let answers = relay.ask(&Ask::openai(model)).await.status == 200;
        let is_found = relay.ask(&Ask::get(&format!("/v1/models/{model}"))).await.status == 200;
        let is_listed = ids(&body).contains(&model);
        assert_eq!((answers, is_found), (is_listed, is_listed), "{model}");
    }
}

#[tokio::test]
async fn the_list_has_pages_where_anthropics_version_is_sent() {
    let (_upstream, relay) = shop().await;
    let mut seen = Vec::new();
    let mut path = "/v1/models?limit=3".to_owned();
    loop {
        let body = relay.ask(&list(&path)).await.json();
        seen.extend(ids(&body).into_iter().map(str::to_owned));
        assert_eq!(body["last_id"].as_str(), seen.last().map(String::as_str));
        if body["has_more"] == false {
            break;
        }
        path = format!("/v1/models?limit=3&after_id={}", body["last_id"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, ["a", "b", "bee", "c"]);
    let before = relay.ask(&list("/anthropic/v1/models?limit=2&before_id=c")).await.json();
    assert_eq!((ids(&before), &before["first_id"], &before["has_more"]), (vec!["b", "bee"], &json!("b"), &json!(true)));
    let one = relay.ask(&list("/v1/models/b")).await.json();
    assert_eq!(
        (&one["type"], &one["id"], &one["max_input_tokens"], &one["max_tokens"]),
        (&json!("model"), &json!("b"), &json!(200_000), &json!(8_192))
    );
    let refused = relay.ask(&list("/v1/models?limit=0")).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (400, &json!("invalid_request_error")));
}

#[tokio::test]
async fn a_model_that_is_missing_is_not_found_in_both_shapes() {
    let (_upstream, relay) = shop().await;
    let openai = relay.ask(&Ask::get("/v1/models/nope")).await;
    assert_eq!((openai.status, &openai.json()["error"]["code"]), (404, &json!("model_not_found")));
    let anthropic = relay.ask(&list("/v1/models/nope")).await;
    assert_eq!((anthropic.status, &anthropic.json()["error"]["type"]), (404, &json!("not_found_error")));
}

fn count(model: &str) -> Ask {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "How many tokens are these words?"}]});
    Ask::post("/v1/messages/count_tokens", body).header("anthropic-version", "2023-06-01")
}

#[tokio::test]
async fn an_anthropic_upstream_counts_tokens_exactly_and_no_quota_is_used() {
    let upstream = Upstream::start(|_| Script::json(200, &json!({"input_tokens": 42}))).await;
    let tables = Tables::new()
        .host("h", AnthropicMessages, &upstream.url(), &["k"])
        .model("m", &["h"])
        .policy(|policy| policy.limits.rpm = Some(5));
    let relay = TestRelay::start(tables).await;

    let answer = relay.ask(&count("m")).await;

    assert_eq!((answer.status, answer.json()), (200, json!({"input_tokens": 42})));
    assert_eq!(answer.header("x-relay-estimated"), None);
    let received = &upstream.received()[0];
    assert_eq!((received.path.as_str(), &received.json()["model"]), ("/v1/messages/count_tokens", &json!("up-m")));
    let usage = relay.ask(&Ask::get("/v1/usage")).await.json();
    assert_eq!(usage["limits"][0]["used"], 0, "{usage}");
    let records = relay.records().await;
    assert_eq!(
        (records.len(), &records[0]["operation"], &records[0]["cost_nano_usd"]),
        (1, &json!("count_tokens"), &Value::Null)
    );
}

#[tokio::test]
async fn where_nobody_counts_tokens_they_are_estimated_and_a_header_says_so() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    let answer = relay.ask(&count("m")).await;
    assert_eq!((answer.status, answer.header("x-relay-estimated"), upstream.count()), (200, Some("true"), 0));
    let tokens = answer.json()["input_tokens"].as_u64();
    assert!((Some(5)..Some(40)).contains(&tokens), "{tokens:?}");
}

#[tokio::test]
async fn embeddings_pass_through_byte_for_byte_and_fail_over() {
    let answer = br#"{"object":"list",  "data":[{"object":"embedding","index":0,"embedding":[0.10,-2.5e-3]}],"model":"up-e","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let upstream = Upstream::start(move |request| match request.key() {
        "bad" => Script::json(500, &wire::error(OpenaiChat, "server_error", "boom")),
        _ => Script::answer(200, "application/json", answer),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "good"]).model("e", &["h"]);
    let relay = TestRelay::start(tables).await;
    let asked = r#"{ "input":["caf\u00e9", "x"],"model":"e" ,"dimensions":1e2,"unknown":{"a":1.0}}"#;

    let whole = relay.ask(&Ask::post("/openai/v1/embeddings", Value::Null).raw(asked)).await;

    assert_eq!((whole.status, whole.bytes.as_slice()), (200, &answer[..]));
    assert_eq!(whole.header("x-relay-attempts"), Some("2"));
    let last = upstream.received().pop().expect("a request");
    assert_eq!((last.path.as_str(), last.key()), ("/v1/embeddings", "good"));
    assert_eq!(String::from_utf8_lossy(&last.body), asked.replace(r#""model":"e""#, r#""model":"up-e""#));
    let records = relay.records().await;
    assert_eq!(
        (&records[0]["operation"], &records[0]["usage"]["input"], &records[0]["usage"]["output"]),
        (&json!("embeddings"), &json!(3), &json!(0))
    );
}

#[tokio::test]
async fn the_root_answers_a_probe_without_a_key() {
    let (_upstream, relay) = shop().await;
    let probe = Ask::get("/").without("authorization").method(http::Method::HEAD);
    assert_eq!(relay.ask(&probe).await.status, 200);
}
