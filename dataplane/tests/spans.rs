//! The spans of a request: what a collector is told, how traces hang together, and what becomes of a request when the
//! collector does not work.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use std::sync::Arc;
use support::{
    client::Ask,
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables},
    upstream::{Script, Upstream},
    wire,
};
use table::WireShape::{AnthropicMessages, OpenaiChat};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

async fn collector(status: u16) -> Upstream {
    Upstream::start(move |_| Script::answer(status, "application/x-protobuf", "")).await
}

async fn relay(collector: &Upstream, tables: Tables) -> TestRelay {
    let mut config = config();
    config.otlp.endpoint = Some(collector.url().trim_end_matches("/v1").to_owned());
    TestRelay::start_with(tables, config, Arc::new(Loopback)).await
}

/// An upstream whose key `bad-key` fails, and a table that tries it first.
async fn flaky() -> (Upstream, Tables) {
    let upstream = Upstream::start(|request| match request.key() {
        "bad-key" => Script::json(500, &wire::error(OpenaiChat, "server_error", "words of the provider")),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad-key", "good-key"]).model("m", &["h"]);
    (upstream, tables)
}

fn traced(flags: &str) -> Ask {
    Ask::openai("m").header("traceparent", &format!("00-{TRACE}-{CALLERS_SPAN}-{flags}"))
}

fn spans(collector: &Upstream) -> Vec<Span> {
    let received = collector.received();
    let exports = received.iter().map(|request| {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        ExportTraceServiceRequest::decode(&request.body[..]).expect("OTLP")
    });
    let scopes = exports.flat_map(|export| export.resource_spans).flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn text(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(count) => count.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::ArrayValue(list) => format!("{:?}", list.values),
        other => format!("{other:?}"),
    })
}

#[tokio::test]
async fn a_request_is_told_as_a_tree_of_spans_in_the_callers_trace() {
    let (collector, (upstream, tables)) = (collector(200).await, flaky().await);
    let relay = relay(&collector, tables).await;
    assert_eq!(relay.ask(&traced("01")).await.status, 200);
    let records = relay.records().await;

    let spans = spans(&collector);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["chat m", "reserve", "chat up-m", "chat up-m"]);
    let [request, reserve, first, second] = &spans[..] else { panic!("four spans") };
    assert!(spans.iter().all(|span| hex::encode(&span.trace_id) == TRACE));
    assert_eq!(records[0]["trace_id"], TRACE);
    assert_eq!(hex::encode(&request.parent_span_id), CALLERS_SPAN);
    assert!([reserve, first, second].iter().all(|span| span.parent_span_id == request.span_id));
    let kinds = [request, reserve, first].map(Span::kind);
    assert_eq!(kinds, [SpanKind::Server, SpanKind::Internal, SpanKind::Client]);
    let failed: Vec<_> = spans.iter().map(|span| span.status.is_some()).collect();
    assert_eq!(failed, [false, false, true, false]);
    for span in &spans {
        assert!(request.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= request.end_time_unix_nano);
    }
    let onward: Vec<_> =
        upstream.received().iter().map(|seen| seen.header("traceparent").unwrap().to_owned()).collect();
    let of = |span: &Span| format!("00-{TRACE}-{}-01", hex::encode(&span.span_id));
    assert_eq!(onward, [of(first), of(second)]);
}

#[tokio::test]
async fn spans_speak_the_words_of_generative_ai_and_hold_nothing_secret() {
    let (collector, (_upstream, tables)) = (collector(200).await, flaky().await);
    let relay = relay(&collector, tables).await;
    let ask =
        traced("01").streamed().with("messages", serde_json::json!([{"role": "user", "content": "canary-prompt"}]));
    let answer = relay.ask(&ask).await;
    relay.records().await;

    let spans = spans(&collector);
    let of = |index: usize, key: &str| text(&spans[index], key);
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.response.model", "up"),
        ("gen_ai.response.id", "chatcmpl-1"),
        ("gen_ai.usage.input_tokens", "5"),
        ("gen_ai.usage.output_tokens", "7"),
        ("http.response.status_code", "200"),
        ("relay.key", "team/key"),
        ("relay.host", "team/h"),
        ("relay.attempts", "2"),
        ("relay.streamed", "true"),
        ("relay.request_id", answer.header("x-request-id").unwrap()),
    ] {
        assert_eq!(of(0, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(of(2, "error.type").as_deref(), Some("server_error"));
    assert_eq!(of(2, "relay.host_key").as_deref(), Some("team/bad-key"));
    let told = format!("{spans:?}");
    for secret in ["canary-prompt", TOKEN, "words of the provider"] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn input_tokens_hold_those_of_caches_which_are_told_beside_them_too() {
    let collector = collector(200).await;
    let upstream = Upstream::start(|_| {
        let mut answer = wire::whole(AnthropicMessages, "hi");
        answer["usage"] = serde_json::json!({"input_tokens": 1, "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 300, "output_tokens": 7});
        Script::json(200, &answer)
    })
    .await;
    let tables = Tables::new().host("h", AnthropicMessages, &upstream.url(), &["k"]).model("m", &["h"]);
    let relay = relay(&collector, tables).await;
    relay.ask(&Ask::openai("m")).await;
    relay.records().await;

    let spans = spans(&collector);
    let counts = ["input_tokens", "cache_read.input_tokens", "cache_creation.input_tokens", "output_tokens"];
    let counts = counts.map(|count| text(&spans[0], &format!("gen_ai.usage.{count}")).unwrap_or_default());
    assert_eq!(counts, ["321", "20", "300", "7"]);
    assert_eq!(text(&spans[0], "gen_ai.provider.name").as_deref(), Some("anthropic"));
}

#[tokio::test]
async fn a_trace_that_its_caller_does_not_record_is_passed_on_and_not_reported() {
    let (collector, (upstream, tables)) = (collector(200).await, flaky().await);
    let relay = relay(&collector, tables).await;
    assert_eq!(relay.ask(&traced("00")).await.status, 200);
    relay.records().await;

    assert_eq!(collector.count(), 0);
    let header = format!("00-{TRACE}-{CALLERS_SPAN}-00");
    assert_eq!(upstream.received()[0].header("traceparent"), Some(header.as_str()));
}

#[tokio::test]
async fn a_request_that_limits_refuse_is_told_with_the_rule() {
    let (collector, (_upstream, tables)) = (collector(200).await, flaky().await);
    let tables = tables.policy(|policy| policy.limits.concurrency = Some(0));
    let relay = relay(&collector, tables).await;
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 429);
    relay.records().await;

    let spans = spans(&collector);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["chat m", "reserve"]);
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!(text(&spans[1], "relay.refused_by").as_deref(), Some("policy concurrency"));
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_and_no_request() {
    let (collector, (_upstream, tables)) = (collector(400).await, flaky().await);
    let relay = relay(&collector, tables).await;
    assert_eq!(relay.metric("relay_spans_dropped_total").await, Some(0.0));

    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200);

    while relay.metric("relay_spans_dropped_total").await != Some(4.0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(relay.metric("relay_spans_sent_total").await, Some(0.0));
    assert_eq!(relay.records().await.len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_stops_the_start_and_is_named() {
    let mut config = config();
    config.otlp.endpoint = Some("collector:4318".to_owned());
    let built = dataplane::app::build_with(config, dataplane::meter::sinks::Target::None, Arc::new(Loopback)).await;
    let error = format!("{:#}", built.err().expect("it is no URL"));
    assert!(error.contains("collector:4318"), "{error}");
}
