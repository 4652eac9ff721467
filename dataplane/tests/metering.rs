//! One usage record for each request, whatever became of it, and metrics that agree with it.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{
    client::Ask,
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Received, Script, Upstream},
    wire::{self, SHAPES},
};
use table::{
    NanoUsd, PicoUsdPerToken, Pricing, Rates, Tier,
    WireShape::{self, AnthropicMessages, OpenaiChat},
};

/// What a provider of each shape says of 400 tokens of fresh input, 600 from its cache and 200 of output.
fn used(shape: WireShape) -> Value {
    match shape {
        OpenaiChat => json!({"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 50}}),
        AnthropicMessages => json!({"input_tokens": 400, "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 50, "output_tokens": 200,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}}),
    }
}

/// The same as a record has it.
fn recorded(shape: WireShape) -> Value {
    let (write_5m, write_1h, reasoning) = match shape {
        OpenaiChat => (0, 0, 50),
        AnthropicMessages => (30, 20, 0),
    };
    json!({"input": 400, "cache_read": 600, "cache_write_5m": write_5m, "cache_write_1h": write_1h, "output": 200,
        "reasoning": reasoning, "audio_input": 0, "audio_output": 0, "estimated": false})
}

fn price(input: &str, output: &str) -> Pricing {
    let of = |text: &str| Some(PicoUsdPerToken::from_per_million(text).expect("a price"));
    Pricing {
        rates: Rates {
            input: of(input),
            output: of(output),
            cached_input: of("0.30"),
            cache_write_5m: of("3.75"),
            cache_write_1h: of("6"),
            reasoning: None,
        },
        audio_in: None,
        audio_out: None,
        per_image: None,
        per_request: None,
        tiers: Vec::new(),
        effective_from: None,
        source: Some("the price list".to_owned()),
    }
}

/// What [`used`] costs at 3 and 15 USD a million: no token is paid for twice.
fn cost(shape: WireShape) -> u64 {
    let cached_and_fresh = 400 * 3_000 + 600 * 300 + 200 * 15_000;
    match shape {
        OpenaiChat => cached_and_fresh,
        AnthropicMessages => cached_and_fresh + 30 * 3_750 + 20 * 6_000,
    }
}

/// An upstream's answer with this usage.
fn answer(shape: WireShape, request: &Received, usage: &Value) -> Script {
    if request.is_streamed() {
        let frames = wire::frames(shape, "hi").into_iter().map(|frame| with_usage(&frame, usage));
        return Script::stream().chunks(frames.collect::<Vec<_>>()).end();
    }
    let mut body = wire::whole(shape, "hi");
    body["usage"] = usage.clone();
    Script::json(200, &body)
}

fn with_usage(frame: &str, usage: &Value) -> String {
    let Some((head, data)) = frame.split_once("data: ") else { return frame.to_owned() };
    let Ok(mut event) = serde_json::from_str::<Value>(data) else { return frame.to_owned() };
    if event["message"]["usage"].is_object() {
        event["message"]["usage"] = usage.clone();
        event["message"]["usage"]["output_tokens"] = json!(1);
    } else if event["type"] == "message_delta" {
        event["usage"] = json!({"output_tokens": usage["output_tokens"]});
    } else if event["usage"].is_object() {
        event["usage"] = usage.clone();
    }
    format!("{head}data: {event}\n\n")
}

async fn metered(shape: WireShape) -> (Upstream, Tables) {
    let upstream = Upstream::start(move |request| answer(shape, request, &used(shape))).await;
    let tables = Tables::new().host("h", shape, &upstream.url(), &["k"]);
    (upstream, tables)
}

fn only(records: Vec<Value>) -> Value {
    assert_eq!(records.len(), 1, "one record for one request: {records:?}");
    records.into_iter().next().expect("there is one")
}

#[tokio::test]
async fn every_token_is_counted_once_and_paid_exactly_in_each_shape_streamed_or_not() {
    for (client, upstream_shape, streamed) in SHAPES
        .into_iter()
        .flat_map(|client| SHAPES.into_iter().flat_map(move |up| [(client, up, false), (client, up, true)]))
    {
        let case = format!("{client} at {upstream_shape}, streamed: {streamed}");
        let (_upstream, tables) = metered(upstream_shape).await;
        let tables = tables.model_with("m", &["h"], |model| model.pricing = Some(price("3", "15")));
        let relay = TestRelay::start(tables).await;
        let ask = Ask::of(client, "m").with("stream", json!(streamed));

        let answered = relay.ask(&ask).await;
        let record = only(relay.records().await);

        assert_eq!(answered.status, 200, "{case}");
        assert_eq!(record["usage"], recorded(upstream_shape), "{case}");
        assert_eq!(record["cost_nano_usd"], cost(upstream_shape), "{case}");
        let said = [
            ("request_id", answered.header("x-request-id").unwrap_or_default()),
            ("schema", "relay.usage/1"),
            ("operation", "chat"),
            ("relay_key", "team/key"),
            ("client_shape", &client.to_string()),
            ("upstream_shape", &upstream_shape.to_string()),
            ("requested_model", "m"),
            ("model", "m"),
            ("model_ref", "team/m"),
            ("upstream_model", "up-m"),
            ("answered_model", "up"),
            ("host", "team/h"),
            ("host_key", "team/k"),
            ("price_source", "the price list"),
            ("finish", "end_turn"),
        ];
        for (field, value) in said {
            assert_eq!(record[field], value, "{case}: {field}");
        }
        assert_eq!((&record["status"], &record["streamed"]), (&json!(200), &json!(streamed)), "{case}");
        assert_eq!((&record["cancelled"], &record["error_code"]), (&json!(false), &Value::Null), "{case}");
        assert_eq!(record["attempts"][0]["outcome"], "ok", "{case}");
    }
}

#[tokio::test]
async fn an_input_above_a_tier_is_paid_at_its_rates_as_a_whole() {
    let (_upstream, tables) = metered(OpenaiChat).await;
    let tier = |above| {
        let input = Some(PicoUsdPerToken::from_per_million("6").expect("a price"));
        Tier { above_input_tokens: above, rates: Rates { input, ..Rates::default() } }
    };
    for (above, expected) in [(999, 400 * 6_000 + 600 * 300 + 200 * 15_000), (1_000, cost(OpenaiChat))] {
        let tables = tables.clone().model_with("m", &["h"], |model| {
            model.pricing = Some(Pricing { tiers: vec![tier(above)], ..price("3", "15") });
        });
        let relay = TestRelay::start(tables).await;
        relay.ask(&Ask::openai("m")).await;
        assert_eq!(only(relay.records().await)["cost_nano_usd"], expected, "above {above}");
    }
}

#[tokio::test]
async fn an_answer_without_a_price_has_no_cost_and_is_counted_as_such() {
    let (_upstream, tables) = metered(OpenaiChat).await;
    let relay = TestRelay::start(tables.model("m", &["h"])).await;
    relay.ask(&Ask::openai("m")).await;
    assert_eq!(relay.metric("relay_unpriced_requests_total{model=\"m\"}").await, Some(1.0));
    let record = only(relay.records().await);
    assert_eq!((&record["cost_nano_usd"], &record["price_source"]), (&Value::Null, &Value::Null));
    assert_eq!(record["usage"], recorded(OpenaiChat));
}

#[tokio::test]
async fn a_moving_alias_is_paid_as_the_model_that_answered() {
    let upstream = Upstream::start(|_| {
        let mut body = wire::whole(OpenaiChat, "hi");
        body["model"] = json!("up-dated");
        body["usage"] = used(OpenaiChat);
        Script::json(200, &body)
    })
    .await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .model_with("latest", &["h"], |model| model.pricing = Some(price("100", "100")))
        .model_with("dated", &["h"], |model| model.pricing = Some(price("3", "15")));
    let relay = TestRelay::start(tables).await;
    relay.ask(&Ask::openai("latest")).await;
    let record = only(relay.records().await);
    assert_eq!((&record["answered_model"], &record["cost_nano_usd"]), (&json!("up-dated"), &json!(cost(OpenaiChat))));
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_is_metered_for_what_was_generated() {
    for client in SHAPES {
        let upstream = Upstream::start(|_| {
            let frames = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "some words were said", true)].concat();
            Script::stream().chunks(frames).then(Act::Stall)
        })
        .await;
        let tables = Tables::new()
            .host("h", OpenaiChat, &upstream.url(), &["k"])
            .model_with("m", &["h"], |model| model.pricing = Some(price("3", "15")));
        let relay = TestRelay::start(tables).await;
        let mut begun = relay.send(&Ask::of(client, "m").streamed()).await;
        begun.until("some words").await;
        drop(begun);
        upstream.abandoned(1).await;

        let record = only(relay.records().await);

        assert_eq!((&record["cancelled"], &record["status"]), (&json!(true), &json!(200)), "{client}");
        assert_eq!(record["attempts"][0]["outcome"], "cancelled", "{client}");
        assert_eq!(record["usage"]["estimated"], true, "{client}");
        let (input, output) = (record["usage"]["input"].as_u64(), record["usage"]["output"].as_u64());
        assert!(input > Some(0) && (Some(2)..Some(20)).contains(&output), "{client}: {record}");
        let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
        assert_eq!(record["cost_nano_usd"], input * 3_000 + output * 15_000, "{client}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_before_any_answer_is_recorded_as_gone() {
    let upstream = Upstream::start(|_| Script::new().then(Act::Stall)).await;
    let relay = TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"])).await;
    let (mut connection, ask) = (relay.connect().await, Ask::openai("m"));
    tokio::select! {
        _ = connection.ask(&ask) => panic!("nobody answers"),
        () = async { while upstream.count() == 0 { tokio::task::yield_now().await } } => {}
    }
    drop(connection);
    upstream.abandoned(1).await;
    let record = only(relay.records().await);
    assert_eq!((&record["cancelled"], &record["status"]), (&json!(true), &json!(499)));
    assert_eq!(record["attempts"][0]["outcome"], "cancelled");
}

#[tokio::test]
async fn a_request_that_a_limit_refuses_is_recorded_with_the_rule_and_uses_nothing() {
    let (upstream, tables) = metered(OpenaiChat).await;
    let tables =
        tables.model("m", &["h"]).relay_key("narrow", "narrow-token-0123456789", |key| key.limits.rpm = Some(1));
    let relay = TestRelay::start(tables).await;
    for shape in [OpenaiChat, AnthropicMessages] {
        relay.ask(&Ask::of(shape, "m").token("narrow-token-0123456789")).await;
    }
    assert_eq!(
        relay.metric("relay_limit_refusals_total{scope=\"relay_key\",rule=\"requests_per_minute\"}").await,
        Some(1.0)
    );
    let records = relay.records().await;
    assert_eq!((records.len(), upstream.count()), (2, 1));
    let refused = &records[1];
    assert_eq!(refused["refused_by"], json!({"scope": "relay_key", "rule": "requests_per_minute"}));
    assert_eq!((&refused["status"], &refused["error_code"]), (&json!(429), &json!("rate_limit_exceeded")));
    assert_eq!(
        (&refused["usage"], &refused["attempts"], &refused["cost_nano_usd"]),
        (&Value::Null, &json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn refusals_before_the_plan_are_recorded_with_what_was_known() {
    let (_upstream, tables) = metered(OpenaiChat).await;
    let relay = TestRelay::start(tables.model("m", &["h"])).await;
    relay.ask(&Ask::openai("m").token("nobody-knows-this-token")).await;
    relay.ask(&Ask::anthropic("no-such-model")).await;
    let records = relay.records().await;
    let known: Vec<_> =
        records.iter().map(|record| (&record["status"], &record["relay_key"], &record["requested_model"])).collect();
    let (key, model) = (json!("team/key"), json!("no-such-model"));
    assert_eq!(known, [(&json!(401), &Value::Null, &Value::Null), (&json!(404), &key, &model)]);
    assert_eq!(
        (&records[0]["error_code"], &records[1]["error_code"]),
        (&json!("invalid_api_key"), &json!("model_not_found"))
    );
}

#[tokio::test]
async fn failed_attempts_cost_nothing_and_are_all_recorded() {
    let upstream = Upstream::start(|request| match request.key() {
        "bad" => Script::json(401, &wire::error(OpenaiChat, "invalid_request_error", "no such key")),
        "slow-down" => Script::json(429, &wire::error(OpenaiChat, "requests", "slow down")),
        _ => answer(OpenaiChat, request, &used(OpenaiChat)),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "slow-down", "good"]).model_with(
        "m",
        &["h"],
        |model| model.pricing = Some(price("3", "15")),
    );
    let relay = TestRelay::start(tables).await;
    assert_eq!(relay.ask(&Ask::anthropic("m")).await.status, 200);
    let record = only(relay.records().await);
    let tried = record["attempts"].as_array().expect("a list");
    let tried: Vec<_> = tried.iter().map(|one| (&one["host_key"], &one["outcome"], &one["status"])).collect();
    assert_eq!(
        tried,
        [
            (&json!("team/bad"), &json!("auth"), &json!(401)),
            (&json!("team/slow-down"), &json!("rate_limited"), &json!(429)),
            (&json!("team/good"), &json!("ok"), &json!(200)),
        ]
    );
    assert_eq!((&record["cost_nano_usd"], &record["host_key"]), (&json!(cost(OpenaiChat)), &json!("team/good")));
}

#[tokio::test]
async fn losses_of_a_translation_are_in_the_record_and_in_the_header() {
    let (_upstream, tables) = metered(AnthropicMessages).await;
    let relay = TestRelay::start(tables.model("m", &["h"])).await;
    let answered = relay.ask(&Ask::openai("m").with("seed", json!(7))).await;
    let warnings = answered.header("x-relay-warnings").unwrap_or_default().to_owned();
    let record = only(relay.records().await);
    assert!(warnings.contains("seed"), "{warnings}");
    let losses = record["losses"].as_array().expect("a list");
    assert!(losses.iter().any(|loss| loss["field"] == "seed" && loss["kind"] == "dropped"), "{losses:?}");
}

#[tokio::test]
async fn the_document_of_the_record_names_every_field_and_no_other() {
    let (_upstream, tables) = metered(OpenaiChat).await;
    let relay = TestRelay::start(tables.model("m", &["h"])).await;
    relay.ask(&Ask::openai("m")).await;
    let record = only(relay.records().await);
    let document = include_str!("../../docs/usage-record.md");
    let (document, _) = document.split_once("## Cost").expect("the fields come before the cost");
    let names = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let names: BTreeSet<&str> = names.filter(|name| !name.contains('.')).collect();
    let fields: BTreeSet<&str> = record.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, fields);
}

#[tokio::test]
async fn every_metric_is_there_before_the_first_request_and_right_after_it() {
    let (_upstream, tables) = metered(OpenaiChat).await;
    let tables = tables.model_with("m", &["h"], |model| model.pricing = Some(price("3", "15")));
    let relay = TestRelay::start(tables).await;
    let (_, before) = relay.admin("/metrics").await;
    for family in [
        "requests",
        "tokens",
        "cost_nano_usd",
        "unpriced_requests",
        "request_duration_seconds",
        "first_content_seconds",
        "overhead_seconds",
        "requests_in_flight",
        "streams_open",
        "connections_open",
        "attempts",
        "breaker_state",
        "losses",
        "limit_refusals",
        "budget_alerts",
        "limit_reservations_live",
        "usage_records_written",
        "usage_records_dropped",
        "spans_sent",
        "spans_dropped",
        "table_info",
        "table_objects",
    ] {
        assert!(before.contains(&format!("# TYPE relay_{family} ")), "{family}");
    }
    assert!(before.contains("relay_breaker_state{host_key=\"team/k\"} 0"), "{before}");

    relay.ask(&Ask::openai("m").streamed()).await;

    for (series, value) in [
        ("relay_tokens_total{model=\"m\",kind=\"input\"}", 400.0),
        ("relay_tokens_total{model=\"m\",kind=\"cache_read\"}", 600.0),
        ("relay_tokens_total{model=\"m\",kind=\"output\"}", 200.0),
        ("relay_tokens_total{model=\"m\",kind=\"reasoning\"}", 50.0),
        ("relay_cost_nano_usd_total{model=\"m\"}", cost(OpenaiChat) as f64),
        ("relay_requests_in_flight", 0.0),
        ("relay_streams_open", 0.0),
        ("relay_limit_reservations_live", 0.0),
        ("relay_attempts_total{host=\"team/h\",outcome=\"ok\"}", 1.0),
    ] {
        assert_eq!(relay.metric(series).await, Some(value), "{series}");
    }
    let (_, after) = relay.admin("/metrics").await;
    let counted = after.lines().find(|line| line.starts_with("relay_requests_total{")).unwrap_or_default();
    for label in ["shape=\"openai-chat\"", "model=\"m\"", "host=\"team/h\"", " 1"] {
        assert!(counted.contains(label), "{label} in {counted}");
    }
}

#[tokio::test]
async fn money_of_a_budget_is_what_the_records_say() {
    let (_upstream, tables) = metered(AnthropicMessages).await;
    let budget = table::Budget {
        amount: NanoUsd(1_000_000_000),
        period: table::Period::Total,
        timezone: "UTC".to_owned(),
        on_exceeded: table::BudgetAction::Block,
        alert_at_percent: Vec::new(),
    };
    let tables = tables
        .model_with("m", &["h"], |model| model.pricing = Some(price("3", "15")))
        .policy(|policy| policy.budgets = vec![budget]);
    let relay = TestRelay::start(tables).await;
    for shape in SHAPES {
        relay.ask(&Ask::of(shape, "m").with("max_tokens", json!(100))).await;
    }
    let usage = relay.ask(&Ask::get("/v1/usage")).await.json();
    let spent = usage["limits"][0]["used"].as_u64();
    let records = relay.records().await;
    let sum: Option<u64> = records.iter().map(|record| record["cost_nano_usd"].as_u64()).sum();
    assert_eq!((spent, sum), (Some(2 * cost(AnthropicMessages)), Some(2 * cost(AnthropicMessages))), "{usage}");
}
