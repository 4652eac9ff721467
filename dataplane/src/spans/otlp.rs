//! What the spans of a request say, in OpenTelemetry's words: its conventions for generative AI, and `relay.` for the
//! rest. Names, counts and outcomes; never a prompt, an answer, a key, or a text that a provider wrote.

use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};

use super::Finished;
use crate::meter::record::{Attempt, AttemptOutcome, Record};

/// The number of the span that tells of limits; attempts are counted from 1.
const RESERVE: u32 = 0;

/// How many spans tell of a request.
pub(super) fn count(finished: &Finished) -> u64 {
    1 + u64::from(finished.reserve.is_some()) + finished.record.attempts.len() as u64
}

/// A batch as a collector takes it.
pub(super) fn export(batch: &[Finished]) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "relay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = batch.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Resource { attributes: resource(), ..Resource::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }],
    }
}

fn resource() -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    attributes.text("service.name", "relay");
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    attributes.0
}

/// The request, what limits took, and every attempt.
fn spans(finished: &Finished) -> Vec<Span> {
    let mut spans = vec![request(finished)];
    spans.extend(finished.reserve.map(|(from, to)| reserve(finished, from, to)));
    let numbered = finished.record.attempts.iter().zip(1..);
    spans.extend(numbered.map(|(tried, number)| attempt(finished, tried, number)));
    spans
}

fn request(finished: &Finished) -> Span {
    let (record, trace) = (&finished.record, &finished.trace);
    let is_failed = record.status >= 500 || (record.error_code.is_some() && record.status < 400);
    Span {
        span_id: trace.span().into(),
        parent_span_id: trace.parent().map(Vec::from).unwrap_or_default(),
        name: named(record.operation, record.model.as_deref()),
        kind: SpanKind::Server.into(),
        attributes: of_request(record),
        status: is_failed.then(failed),
        ..within(finished, Duration::ZERO, millis(record.duration_ms))
    }
}

fn reserve(finished: &Finished, from: Duration, to: Duration) -> Span {
    let mut attributes = Attributes::default();
    if let Some(reserved) = &finished.record.reserved {
        attributes.count("relay.reserved.input_tokens", reserved.input);
        attributes.count("relay.reserved.output_tokens", reserved.output);
        attributes.count("relay.reserved.cost_nano_usd", reserved.cost_nano_usd.0);
    }
    if let Some(refused) = &finished.record.refused_by {
        attributes.text("relay.refused_by", format!("{} {}", refused.scope, refused.rule));
    }
    Span {
        span_id: finished.trace.part(RESERVE).into(),
        parent_span_id: finished.trace.span().into(),
        name: "reserve".to_owned(),
        kind: SpanKind::Internal.into(),
        attributes: attributes.0,
        ..within(finished, from, to)
    }
}

fn attempt(finished: &Finished, tried: &Attempt, number: u32) -> Span {
    let from = millis(tried.started_ms);
    let to = tried.duration_ms.map_or(millis(finished.record.duration_ms), |took| from + millis(took));
    let is_failed = !matches!(tried.outcome, Some(AttemptOutcome::Ok | AttemptOutcome::Cancelled) | None);
    Span {
        span_id: finished.trace.part(number).into(),
        parent_span_id: finished.trace.span().into(),
        name: named(finished.record.operation, Some(&tried.upstream_model)),
        kind: SpanKind::Client.into(),
        attributes: of_attempt(finished.record.operation, tried, number),
        status: is_failed.then(failed),
        ..within(finished, from, to)
    }
}

/// The conventions name a span after the operation and the model.
fn named(operation: &str, model: Option<&str>) -> String {
    model.map_or_else(|| operation.to_owned(), |model| format!("{operation} {model}"))
}

fn failed() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}

fn within(finished: &Finished, from: Duration, to: Duration) -> Span {
    let began = nanos(finished.record.started_at);
    let at = |since: Duration| began.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Span {
        trace_id: finished.trace.id_bytes().into(),
        start_time_unix_nano: at(from),
        end_time_unix_nano: at(to.max(from)),
        ..Span::default()
    }
}

fn of_request(record: &Record) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", record.operation);
    attributes.maybe("gen_ai.request.model", record.requested_model.as_deref());
    attributes.maybe("gen_ai.response.model", record.answered_model.as_deref());
    attributes.maybe("gen_ai.response.id", record.upstream_id.as_deref());
    if let Some(finish) = &record.finish {
        attributes.list("gen_ai.response.finish_reasons", finish);
    }
    attributes.maybe("gen_ai.provider.name", record.upstream_shape.map(|shape| shape.provider()));
    if let Some(usage) = &record.usage {
        attributes.count("gen_ai.usage.input_tokens", usage.input_total());
        attributes.count("gen_ai.usage.output_tokens", usage.output);
        attributes.count("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
        attributes.count("gen_ai.usage.cache_creation.input_tokens", usage.cache_write());
        attributes.truth("relay.usage.estimated", usage.estimated);
    }
    attributes.count("http.response.status_code", u64::from(record.status));
    attributes.maybe("error.type", record.error_code.as_deref());
    attributes.text("relay.request_id", &record.request_id);
    attributes.maybe("relay.key", record.relay_key.as_ref().map(ToString::to_string));
    attributes.maybe("relay.model", record.model.as_deref());
    attributes.maybe("relay.host", record.host.as_ref().map(ToString::to_string));
    attributes.maybe("relay.client_shape", record.client_shape.map(|shape| shape.to_string()));
    attributes.count("relay.attempts", record.attempts.len() as u64);
    attributes.truth("relay.streamed", record.streamed);
    attributes.truth("relay.cancelled", record.cancelled);
    if let Some(cost) = record.cost_nano_usd {
        attributes.count("relay.cost_nano_usd", cost.0);
    }
    if let Some(first_content) = record.first_content_ms {
        attributes.number("relay.first_content_ms", first_content);
    }
    attributes.0
}

fn of_attempt(operation: &str, tried: &Attempt, number: u32) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", operation);
    attributes.text("gen_ai.provider.name", tried.shape.provider());
    attributes.text("gen_ai.request.model", &tried.upstream_model);
    attributes.count("relay.attempt", u64::from(number));
    attributes.text("relay.host", tried.host.to_string());
    attributes.maybe("relay.host_key", tried.host_key.as_ref().map(ToString::to_string));
    if let Some(status) = tried.status {
        attributes.count("http.response.status_code", u64::from(status));
    }
    if let Some(outcome) = tried.outcome {
        attributes.text("relay.outcome", outcome.as_str());
        if !matches!(outcome, AttemptOutcome::Ok | AttemptOutcome::Cancelled) {
            attributes.text("error.type", outcome.as_str());
        }
    }
    attributes.0
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    fn text(&mut self, key: &str, value: impl Into<String>) {
        self.put(key, Value::StringValue(value.into()));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn list(&mut self, key: &str, only: &str) {
        let values = vec![AnyValue { value: Some(Value::StringValue(only.to_owned())) }];
        self.put(key, Value::ArrayValue(ArrayValue { values }));
    }

    fn count(&mut self, key: &str, value: u64) {
        self.put(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn number(&mut self, key: &str, value: f64) {
        self.put(key, Value::DoubleValue(value));
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.put(key, Value::BoolValue(value));
    }
}

fn millis(value: f64) -> Duration {
    Duration::from_secs_f64(value.max(0.0) / 1_000.0)
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}
