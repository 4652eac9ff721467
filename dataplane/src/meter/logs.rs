//! Takes usage records to an OpenTelemetry collector, as log records: the whole record as the body, what is summed and
//! selected by as attributes. `docs/usage-record.md` describes each of them.

use std::{sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};
use prost::Message;

use super::record::Record;
use crate::{
    metrics::Metrics,
    otlp::{
        collector::Collector,
        exports::{Counts, Exports, Pace, Signal},
        words::{self, Attributes},
    },
};

/// Money is of use however late it comes: a record waits until the collector takes it, as long as the queue has room.
const PACE: Pace = Pace {
    queue: 16_384,
    batch: 512,
    linger: Duration::from_millis(500),
    tries: None,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(15),
};

/// What kind of event it is.
const EVENT: &str = "relay.usage";

/// Nano-USD in a US dollar.
const NANO: f64 = 1e9;

/// The way to the collector.
pub struct Logs(Exports<Records>);

impl Logs {
    /// Records go nowhere.
    pub fn none() -> Self {
        Self(Exports::none())
    }

    /// Records go to this collector. Needs a Tokio runtime.
    pub(crate) fn to(collector: Collector, metrics: &Metrics) -> Self {
        Self(Exports::to(collector, PACE, counts(metrics)))
    }

    /// Queues a record. Never blocks; one that finds no room is counted as lost.
    pub(crate) fn send(&self, record: Arc<Record>) {
        self.0.send(record);
    }

    /// Sends what is queued and stops, within the time that is given. Records that come later are ignored.
    pub async fn close(&self, within: Duration) {
        self.0.close(within).await;
    }
}

fn counts(metrics: &Metrics) -> Counts {
    Counts {
        sent: metrics.usage_logs_sent.clone(),
        dropped: metrics.usage_logs_dropped.clone(),
        errors: metrics.usage_logs_errors.clone(),
    }
}

/// Usage records, told as log records.
struct Records;

impl Signal for Records {
    type Item = Arc<Record>;
    const NAME: &'static str = "usage records";

    fn count(_: &Arc<Record>) -> u64 {
        1
    }

    fn encode(batch: &[Arc<Record>]) -> Vec<u8> {
        let log_records = batch.iter().map(|record| log_record(record)).collect();
        let scope_logs = vec![ScopeLogs { scope: Some(words::scope()), log_records, ..ScopeLogs::default() }];
        let resource = Some(words::resource());
        let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn rejected(answer: &[u8]) -> u64 {
        let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
        answer.partial_success.map_or(0, |part| u64::try_from(part.rejected_log_records).unwrap_or_default())
    }
}

fn log_record(record: &Record) -> LogRecord {
    let began = words::nanos(record.started_at);
    let took = Duration::from_secs_f64(record.duration_ms.max(0.0) / 1_000.0);
    let bytes = |id: &Option<String>| id.as_ref().and_then(|id| hex::decode(id).ok()).unwrap_or_default();
    LogRecord {
        time_unix_nano: began,
        observed_time_unix_nano: began.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".to_owned(),
        event_name: EVENT.to_owned(),
        // A record is plain data, which always has a form in JSON.
        body: serde_json::to_string(record).ok().map(|line| AnyValue { value: Some(Value::StringValue(line)) }),
        attributes: attributes(record),
        trace_id: bytes(&record.trace_id),
        span_id: bytes(&record.span_id),
        ..LogRecord::default()
    }
}

/// Everything that is one value; lists of attempts, losses, warnings and alerts are in the body.
fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut attributes = words::of_request(record);
    attributes.text("relay.schema", record.schema);
    attributes.list("relay.policies", &record.policies);
    for (name, value) in &record.attributes {
        attributes.text(format!("relay.attributes.{name}"), value);
    }
    attributes.maybe("relay.model_ref", record.model_ref.as_ref().map(ToString::to_string));
    attributes.maybe("relay.upstream_model", record.upstream_model.as_deref());
    attributes.maybe("relay.upstream_shape", record.upstream_shape.map(|shape| shape.to_string()));
    attributes.maybe("relay.host_key", record.host_key.as_ref().map(ToString::to_string));
    attributes.count("relay.images", record.images);
    attributes.maybe("relay.price_source", record.price_source.as_deref());
    attributes.truth("relay.limits_degraded", record.limits_degraded);
    attributes.maybe("relay.refused_by", record.refused_by.as_ref().map(|by| format!("{} {}", by.scope, by.rule)));
    attributes.number("relay.duration_ms", record.duration_ms);
    if let Some(overhead) = record.overhead_ms {
        attributes.number("relay.overhead_ms", overhead);
    }
    if let Some(cost) = record.cost_nano_usd {
        attributes.number("relay.cost_usd", cost.0 as f64 / NANO);
    }
    reserved(record, &mut attributes);
    tokens(record, &mut attributes);
    attributes.0
}

fn reserved(record: &Record, attributes: &mut Attributes) {
    let Some(reserved) = &record.reserved else { return };
    attributes.count("relay.reserved.input_tokens", reserved.input);
    attributes.count("relay.reserved.output_tokens", reserved.output);
    attributes.count("relay.reserved.cost_nano_usd", reserved.cost_nano_usd.0);
}

/// What the conventions have no words for.
fn tokens(record: &Record, attributes: &mut Attributes) {
    let Some(usage) = &record.usage else { return };
    attributes.count("relay.usage.uncached_input_tokens", usage.input);
    attributes.count("relay.usage.cache_write_5m_tokens", usage.cache_write_5m);
    attributes.count("relay.usage.cache_write_1h_tokens", usage.cache_write_1h);
    attributes.count("relay.usage.audio_input_tokens", usage.audio_input);
    attributes.count("relay.usage.audio_output_tokens", usage.audio_output);
    for (tool, requests) in &usage.server_tools {
        attributes.count(format!("relay.usage.server_tools.{tool}"), *requests);
    }
}
