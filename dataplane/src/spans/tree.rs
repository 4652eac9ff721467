//! What the spans of a request say. Names, counts and outcomes; never a prompt, an answer, a key, or a text that a provider
//! wrote.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::KeyValue,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};

use super::Finished;
use crate::{
    meter::record::{Attempt, AttemptOutcome},
    otlp::words::{self, Attributes},
};

/// The number of the span that tells of limits; attempts are counted from 1.
const RESERVE: u32 = 0;

/// How many spans tell of a request.
pub(super) fn count(finished: &Finished) -> u64 {
    1 + u64::from(finished.reserve.is_some()) + finished.record.attempts.len() as u64
}

/// A batch as a collector takes it.
pub(super) fn export(batch: &[Finished]) -> ExportTraceServiceRequest {
    let spans = batch.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(words::scope()), spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(words::resource()),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
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
        attributes: words::of_request(record).0,
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
    let began = words::nanos(finished.record.started_at);
    let at = |since: Duration| began.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Span {
        trace_id: finished.trace.id_bytes().into(),
        start_time_unix_nano: at(from),
        end_time_unix_nano: at(to.max(from)),
        ..Span::default()
    }
}

fn of_attempt(operation: &str, tried: &Attempt, number: u32) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", operation);
    attributes.text("gen_ai.provider.name", tried.shape.provider());
    attributes.text("gen_ai.request.model", &*tried.upstream_model);
    attributes.count("relay.attempt", u64::from(number));
    attributes.text("relay.host", &*tried.host);
    attributes.maybe("relay.host_key", tried.host_key.as_deref());
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

fn millis(value: f64) -> Duration {
    Duration::from_secs_f64(value.max(0.0) / 1_000.0)
}
