//! Every error as a caller of each shape sees it, and as `docs/clients.md` tells it.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use support::{
    client::Ask,
    relay::{Loopback, TestRelay, config},
    tables::Tables,
    upstream::{Act, Nobody, Script, Upstream},
    wire::{self, SHAPES},
};
use table::WireShape::{self, AnthropicMessages, OpenaiChat};

const DOCUMENT: &str = include_str!("../../docs/clients.md");

/// An error as callers of both shapes see it.
struct Told {
    status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    anthropic_status: u16,
    anthropic: &'static str,
}

fn told(status: u16, kind: &'static str, code: Option<&'static str>, anthropic: &'static str) -> Told {
    Told { status, kind, code, anthropic_status: status, anthropic }
}

impl Told {
    async fn is_seen(&self, relay: &TestRelay, ask: impl Fn(WireShape) -> Ask, case: &str) {
        for shape in SHAPES {
            let answer = relay.ask(&ask(shape)).await;
            let (body, case) = (answer.json(), format!("{case} in {shape}: {}", answer.text()));
            assert!(!wire::message_of(shape, &answer).is_empty(), "{case}");
            match shape {
                OpenaiChat => {
                    assert_eq!(
                        (answer.status, body["error"]["type"].as_str()),
                        (self.status, Some(self.kind)),
                        "{case}"
                    );
                    assert_eq!(body["error"]["code"].as_str(), self.code, "{case}");
                }
                AnthropicMessages => {
                    assert_eq!(answer.status, self.anthropic_status, "{case}");
                    assert_eq!(body["error"]["type"].as_str(), Some(self.anthropic), "{case}");
                    assert_eq!(body["request_id"].as_str(), answer.header("request-id"), "{case}");
                }
            }
        }
        self.is_documented(case);
    }

    fn is_documented(&self, case: &str) {
        let code = self.code.map_or("null".to_owned(), |code| format!("`{code}`"));
        let told = format!("`{}` / {code} | `{}` |", self.kind, self.anthropic);
        let limits = told.replace("`requests` /", "`requests` or `tokens` /");
        let status = format!("| {}", self.status);
        let has_line = |line: &str| line.contains(&status) && (line.contains(&told) || line.contains(&limits));
        assert!(DOCUMENT.lines().any(has_line), "{case}: the document has no line with `{told}`");
    }
}

fn plain(shape: WireShape) -> Ask {
    Ask::of(shape, "m")
}

async fn good() -> (Upstream, Tables) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    (upstream, tables)
}

/// A relay whose only upstream answers so.
async fn failing(script: impl Fn() -> Script + Send + Sync + 'static) -> (Upstream, TestRelay) {
    let upstream = Upstream::start(move |_| script()).await;
    let tables = Tables::new()
        .host_with("h", OpenaiChat, &upstream.url(), &["k"], |host| host.timeouts.first_byte = Duration::from_secs(2))
        .model("m", &["h"])
        .policy(|policy| policy.routing.max_attempts = 1);
    (upstream, TestRelay::start(tables).await)
}

#[tokio::test]
async fn faults_of_the_request_are_told_with_their_place() {
    let (_upstream, tables) = good().await;
    let relay = TestRelay::start(tables).await;
    let malformed = told(400, "invalid_request_error", None, "invalid_request_error");
    malformed.is_seen(&relay, |shape| plain(shape).raw("{\"model\": \"m\", \"messages\": [}"), "no JSON").await;
    malformed.is_seen(&relay, |shape| plain(shape).with("messages", json!("hello")), "a wrong type").await;
    let typed = relay.ask(&Ask::openai("m").with("messages", json!("hello"))).await.json();
    assert_eq!(typed["error"]["param"], "messages", "{typed}");
    let unknown = told(404, "invalid_request_error", Some("model_not_found"), "not_found_error");
    unknown.is_seen(&relay, |shape| Ask::of(shape, "nope"), "an unknown model").await;
}

#[tokio::test]
async fn a_field_that_no_host_can_take_is_refused_by_name() {
    let upstream = Upstream::start(|request| wire::good(AnthropicMessages, request, "hi")).await;
    let tables = Tables::new().host("h", AnthropicMessages, &upstream.url(), &["k"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    let refused = relay.ask(&Ask::openai("m").with("n", json!(2))).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"], &error["param"]), (400, &json!("unsupported_parameter"), &json!("n")));
    told(400, "invalid_request_error", Some("unsupported_parameter"), "invalid_request_error").is_documented("n");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served_are_told_in_shape() {
    let (_upstream, tables) = good().await;
    let relay = TestRelay::start(tables).await;
    let prefixed =
        |path: &'static str| move |shape: WireShape| Ask::post(&format!("/{}/v1/{path}", shape.provider()), json!({}));
    told(404, "invalid_request_error", Some("unknown_url"), "not_found_error")
        .is_seen(&relay, prefixed("nonsense"), "an unknown path")
        .await;
    told(501, "invalid_request_error", Some("not_supported"), "not_supported")
        .is_seen(&relay, prefixed("files"), "an endpoint that is not offered")
        .await;
    told(405, "invalid_request_error", Some("method_not_supported"), "invalid_request_error")
        .is_seen(&relay, |shape| plain(shape).method(http::Method::GET), "a wrong method")
        .await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_with_the_settings_name() {
    let (upstream, tables) = good().await;
    let mut config = config();
    config.body_limit = 1_000;
    let relay = TestRelay::start_with(tables, config, Arc::new(Loopback)).await;
    let large = |shape| plain(shape).with("padding", json!("x".repeat(2_000)));
    told(413, "invalid_request_error", Some("request_too_large"), "request_too_large")
        .is_seen(&relay, large, "a large body")
        .await;
    let text = relay.ask(&large(OpenaiChat)).await.text();
    assert!(text.contains("1000") && text.contains("--body-limit"), "{text}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_model_that_is_not_granted_is_told_from_one_that_cannot_be_used() {
    let (_upstream, tables) = good().await;
    let tables = tables
        .model("denied", &["h"])
        .policy(|policy| policy.models.deny = vec!["denied".to_owned()])
        .model_with("off", &["h"], |model| model.suspended = true);
    let relay = TestRelay::start(tables).await;
    told(403, "invalid_request_error", Some("model_not_allowed"), "permission_error")
        .is_seen(&relay, |shape| Ask::of(shape, "denied"), "a model that is not granted")
        .await;
    told(503, "server_error", Some("model_unavailable"), "api_error")
        .is_seen(&relay, |shape| Ask::of(shape, "off"), "a suspended model")
        .await;
}

#[tokio::test]
async fn a_providers_word_on_the_request_is_kept_and_on_its_account_is_not() {
    let long = "prompt is too long: 205000 tokens > 200000 maximum";
    let (_upstream, relay) = failing(move || {
        Script::json(
            400,
            &json!({"error": {"message": long, "type": "invalid_request_error", "code": "context_length_exceeded"}}),
        )
    })
    .await;
    told(400, "invalid_request_error", Some("context_length_exceeded"), "invalid_request_error")
        .is_seen(&relay, plain, "a long prompt")
        .await;
    for shape in SHAPES {
        assert_eq!(wire::message_of(shape, &relay.ask(&plain(shape)).await), long);
    }

    let (_upstream, relay) =
        failing(|| Script::json(401, &wire::error(OpenaiChat, "invalid_request_error", "Incorrect API key canary")))
            .await;
    told(502, "server_error", Some("upstream_auth"), "api_error").is_seen(&relay, plain, "a dead key").await;
    assert!(!relay.ask(&plain(OpenaiChat)).await.text().contains("canary"));

    let spent = json!({"error": {"message": "canary", "type": "insufficient_quota", "code": "insufficient_quota"}});
    let (_upstream, relay) = failing(move || Script::json(429, &spent)).await;
    told(503, "server_error", Some("insufficient_upstream_quota"), "api_error")
        .is_seen(&relay, plain, "a spent account")
        .await;
}

#[tokio::test]
async fn failures_of_the_provider_keep_their_kind() {
    let (_upstream, relay) = failing(|| Script::new().then(Act::Stall)).await;
    told(504, "server_error", Some("timeout"), "timeout_error").is_seen(&relay, plain, "silence").await;

    let overloaded = wire::error(OpenaiChat, "server_error", "The engine is currently overloaded");
    let (_upstream, relay) = failing(move || Script::json(503, &overloaded)).await;
    Told { anthropic_status: 529, ..told(503, "server_error", Some("overloaded"), "overloaded_error") }
        .is_seen(&relay, plain, "overload")
        .await;

    let nobody = Nobody::new();
    let url = format!("http://{}/v1", nobody.address());
    let tables = Tables::new().host("h", OpenaiChat, &url, &["k"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    told(502, "server_error", Some("upstream_unreachable"), "api_error").is_seen(&relay, plain, "nobody there").await;
}

#[tokio::test]
async fn a_limit_of_the_provider_comes_with_its_own_wait() {
    let (_upstream, relay) = failing(|| {
        let body = wire::error(OpenaiChat, "requests", "Rate limit reached").to_string();
        Script::answer_with(429, &[("content-type", "application/json"), ("retry-after", "7")], body)
    })
    .await;
    let limited = told(429, "requests", Some("rate_limit_exceeded"), "rate_limit_error");
    limited.is_seen(&relay, plain, "a limited key").await;
    for shape in SHAPES {
        let answer = relay.ask(&plain(shape)).await;
        let wait: Option<u64> = answer.header("retry-after").and_then(|wait| wait.parse().ok());
        assert!((Some(1)..=Some(7)).contains(&wait), "{shape}: {wait:?}");
        assert_eq!(answer.header("x-should-retry"), None);
    }
}

#[tokio::test]
async fn strict_policies_refuse_what_lenient_ones_warn_of() {
    let upstream = Upstream::start(|request| wire::good(AnthropicMessages, request, "hi")).await;
    let tables = Tables::new().host("h", AnthropicMessages, &upstream.url(), &["k"]).model("m", &["h"]);
    let plain = Ask::openai("m").with("max_completion_tokens", json!(100));
    let ask = plain.clone().with("seed", Value::from(7));
    let lenient = TestRelay::start(tables.clone()).await;
    let warned = lenient.ask(&ask).await;
    assert_eq!((warned.status, warned.header("x-relay-warnings")), (200, Some("dropped=seed")));
    let strict = TestRelay::start(tables.policy(|policy| policy.translation = table::Translation::Strict)).await;
    assert_eq!(strict.ask(&plain).await.status, 200);
    let refused = strict.ask(&ask).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("seed")));
}

#[tokio::test]
async fn a_model_that_lacks_what_the_request_needs_is_not_tried() {
    let (upstream, tables) = good().await;
    let tables = tables.model_with("blind", &["h"], |model| {
        model.capabilities = [table::Capability::Tools].into_iter().collect();
    });
    let relay = TestRelay::start(tables).await;
    let pixel = "iVBORw0KGgo=";
    let seeing = |shape| {
        let image = match shape {
            OpenaiChat => json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{pixel}")}}),
            AnthropicMessages => {
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}})
            }
        };
        Ask::of(shape, "blind").with("messages", json!([{"role": "user", "content": [image]}]))
    };
    told(400, "invalid_request_error", Some("unsupported_capability"), "invalid_request_error")
        .is_seen(&relay, seeing, "an image for a model that cannot see")
        .await;
    assert_eq!(upstream.count(), 0);
}
