//! How callers learn where they stand: rate-limit headers, refusals that say when to come back, spent budgets, and
//! `/v1/usage`, in both shapes.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::{Value, json};
use support::{
    client::{Ask, Whole},
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Gate, Script, Upstream},
    wire::{self, SHAPES},
};
use table::{
    Budget, BudgetAction, NanoUsd, Period, PicoUsdPerToken, Pricing, Rates,
    WireShape::{self, AnthropicMessages, OpenaiChat},
};

async fn upstream() -> Upstream {
    Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await
}

fn served(upstream: &Upstream) -> Tables {
    let million = |text| PicoUsdPerToken::from_per_million(text).ok();
    let pricing = Pricing {
        rates: Rates { input: million("1"), output: million("1000"), ..Rates::default() },
        audio_in: None,
        audio_out: None,
        per_image: None,
        per_request: None,
        tiers: Vec::new(),
        effective_from: None,
        source: None,
    };
    Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .model_with("m", &["h"], |model| model.pricing = Some(pricing))
}

/// Ten tokens of output at most, each a thousandth of a dollar.
fn short(shape: WireShape) -> Ask {
    Ask::of(shape, "m").with("max_tokens", json!(10))
}

fn budget(period: Period, on_exceeded: BudgetAction) -> Budget {
    // What one answer is thought to cost, and a little more.
    let amount = NanoUsd(11_000_000);
    Budget { amount, period, timezone: "UTC".to_owned(), on_exceeded, alert_at_percent: vec![50] }
}

fn seconds(answer: &Whole) -> Option<u64> {
    answer.header("retry-after").and_then(|value| value.parse().ok())
}

#[tokio::test]
async fn an_answer_says_what_is_left_in_the_words_of_its_shape() {
    let upstream = upstream().await;
    let tables = served(&upstream).policy(|policy| (policy.limits.rpm, policy.limits.tpm) = (Some(5), Some(10_000)));
    let relay = TestRelay::start(tables).await;

    let openai = relay.ask(&short(OpenaiChat)).await;
    let anthropic = relay.ask(&short(AnthropicMessages).streamed()).await;

    assert_eq!(openai.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(openai.header("x-ratelimit-remaining-requests"), Some("4"));
    assert_eq!(openai.header("x-ratelimit-limit-tokens"), Some("10000"));
    let left: u64 = openai.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("a count");
    assert!((9_000..10_000).contains(&left), "{left}");
    assert!(openai.header("x-ratelimit-reset-requests").is_some_and(|reset| reset.ends_with('s')));
    assert_eq!(anthropic.header("anthropic-ratelimit-requests-limit"), Some("5"));
    assert_eq!(anthropic.header("anthropic-ratelimit-requests-remaining"), Some("3"));
    let reset = anthropic.header("anthropic-ratelimit-requests-reset").expect("a moment");
    let reset: jiff::Timestamp = reset.parse().expect("RFC 3339");
    assert!(reset <= jiff::Timestamp::now() + jiff::SignedDuration::from_secs(121));
    let foreign = |answer: &Whole, prefix: &str| answer.headers.keys().any(|name| name.as_str().starts_with(prefix));
    assert!(!foreign(&openai, "anthropic-") && !foreign(&anthropic, "x-ratelimit-"));
}

#[tokio::test]
async fn a_caller_without_limits_is_told_of_none() {
    let upstream = upstream().await;
    let relay = TestRelay::start(served(&upstream)).await;
    let answer = relay.ask(&short(OpenaiChat)).await;
    assert!(!answer.headers.keys().any(|name| name.as_str().contains("ratelimit")), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_spent_rate_is_refused_in_shape_with_the_wait_that_is_true() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let relay = TestRelay::start(served(&upstream).policy(|policy| policy.limits.rpm = Some(1))).await;
        assert_eq!(relay.ask(&short(shape)).await.status, 200);

        let refused = relay.ask(&short(shape)).await;

        let body = refused.json();
        assert_eq!((refused.status, upstream.count()), (429, 1), "{shape}");
        match shape {
            OpenaiChat => {
                assert_eq!(
                    (&body["error"]["type"], &body["error"]["code"]),
                    (&json!("requests"), &json!("rate_limit_exceeded"))
                );
                assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
            }
            AnthropicMessages => {
                assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("rate_limit_error")));
                assert_eq!(body["request_id"].as_str(), refused.header("request-id"));
                assert_eq!(refused.header("anthropic-ratelimit-requests-remaining"), Some("0"));
            }
        }
        let millis: u64 = refused.header("retry-after-ms").and_then(|wait| wait.parse().ok()).expect("a wait");
        // A sliding minute: the request counts until the end of the next one.
        assert!((1..=120_000).contains(&millis), "{shape}: {millis}");
        assert_eq!(seconds(&refused), Some(millis.div_ceil(1_000)), "{shape}");
        assert_eq!(refused.header("x-should-retry"), None, "{shape}: it is worth another try");
    }
}

#[tokio::test]
async fn a_request_that_can_never_fit_is_refused_for_good() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let relay = TestRelay::start(served(&upstream).policy(|policy| policy.limits.tpm = Some(50))).await;
        let long = json!([{"role": "user", "content": "many words ".repeat(100)}]);
        let refused = relay.ask(&short(shape).with("messages", long)).await;
        assert_eq!((refused.status, seconds(&refused)), (429, None), "{shape}: {}", refused.text());
        assert_eq!(refused.header("x-should-retry"), Some("false"), "{shape}");
    }
}

#[tokio::test]
async fn a_request_beyond_the_concurrency_is_refused_and_the_next_one_is_not() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request| {
        let Script(mut acts) = wire::good(OpenaiChat, request, "hi");
        acts.insert(0, Act::Gate(held.clone()));
        Script(acts)
    })
    .await;
    let relay = TestRelay::start(served(&upstream).policy(|policy| policy.limits.concurrency = Some(1))).await;
    let (mut first, ask) = (relay.connect().await, short(OpenaiChat));
    let (held, refused) = tokio::join!(first.ask(&ask), async {
        while upstream.count() == 0 {
            tokio::task::yield_now().await;
        }
        let refused = relay.ask(&short(AnthropicMessages)).await;
        gate.open();
        refused
    });
    assert_eq!((held.expect("an answer").status, refused.status), (200, 429));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(relay.ask(&ask).await.status, 200);
}

#[tokio::test]
async fn a_spent_budget_is_refused_as_spent_money_and_not_as_haste() {
    for (shape, period) in SHAPES.into_iter().flat_map(|shape| [(shape, Period::Month), (shape, Period::Total)]) {
        let upstream = upstream().await;
        let tables = served(&upstream).policy(|policy| policy.budgets = vec![budget(period, BudgetAction::Block)]);
        let relay = TestRelay::start(tables).await;
        assert_eq!(relay.ask(&short(shape)).await.status, 200);

        let refused = relay.ask(&short(shape)).await;

        let (case, body) = (format!("{shape} {period:?}"), refused.json());
        assert_eq!((refused.status, upstream.count()), (429, 1), "{case}");
        assert_eq!(refused.header("x-should-retry"), Some("false"), "{case}");
        assert_eq!(seconds(&refused).is_some(), period == Period::Month, "{case}");
        assert!(seconds(&refused).is_none_or(|wait| wait <= 31 * 86_400), "{case}");
        match shape {
            OpenaiChat => {
                let error = (&body["error"]["type"], &body["error"]["code"]);
                assert_eq!(error, (&json!("insufficient_quota"), &json!("insufficient_quota")), "{case}");
            }
            AnthropicMessages => {
                assert_eq!(body["error"]["type"], "billing_error", "{case}");
                assert_eq!(refused.header("anthropic-ratelimit-unified-status"), Some("rejected"), "{case}");
                let reset = refused.header("anthropic-ratelimit-unified-reset").is_some();
                assert_eq!(reset, period == Period::Month, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_budget_that_only_alerts_lets_requests_go_on_and_says_so_in_the_record() {
    let upstream = upstream().await;
    let tables = served(&upstream).policy(|policy| policy.budgets = vec![budget(Period::Day, BudgetAction::Alert)]);
    let relay = TestRelay::start(tables).await;
    for _ in 0..3 {
        assert_eq!(relay.ask(&short(OpenaiChat)).await.status, 200);
    }
    let records = relay.records().await;
    let alert = json!([{"scope": "policy", "rule": "budget_day", "percent": 100}]);
    assert_eq!(records[2]["budget_alerts"], alert, "{records:?}");
}

#[tokio::test]
async fn the_usage_of_a_key_is_its_own_limits_with_what_is_used_and_left() {
    let upstream = upstream().await;
    let tables = served(&upstream)
        .policy(|policy| policy.budgets = vec![budget(Period::Month, BudgetAction::Block)])
        .relay_key("other", "other-token-0123456789", |key| key.limits.rpm = Some(7))
        .policy(|policy| policy.limits.tpm = Some(50_000));
    let relay = TestRelay::start(tables).await;
    let token = "other-token-0123456789";
    relay.ask(&short(OpenaiChat).token(token)).await;

    let usage = relay.ask(&Ask::get("/v1/usage").token(token)).await.json();

    assert_eq!((&usage["object"], &usage["relay_key"]), (&json!("relay.usage"), &json!("other")));
    let rule = |scope: &str, name: &str| -> Value {
        let limits = usage["limits"].as_array().expect("a list");
        limits.iter().find(|limit| limit["scope"] == scope && limit["rule"] == name).cloned().unwrap_or_default()
    };
    let requests = rule("relay_key", "requests_per_minute");
    assert_eq!((&requests["limit"], &requests["used"], &requests["remaining"]), (&json!(7), &json!(1), &json!(6)));
    let tokens = rule("policy", "tokens_per_minute");
    assert_eq!((&tokens["limit"], &tokens["used"], &tokens["remaining"]), (&json!(50_000), &json!(12), &json!(49_988)));
    let money = rule("policy", "budget_month");
    let spent = 5 * 1_000 + 7 * 1_000_000;
    assert_eq!(
        (&money["unit"], &money["used"], &money["remaining"]),
        (&json!("nano_usd"), &json!(spent), &json!(11_000_000 - spent))
    );
    let nobody = relay.ask(&Ask::get("/v1/usage").token("nobody-knows-this-token")).await;
    assert_eq!(nobody.status, 401);
}
