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

    /// Whether records go anywhere.
    pub(crate) fn take_any(&self) -> bool {
        self.0.take_any()
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
    LogRecord {
        time_unix_nano: began,
        observed_time_unix_nano: began.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".to_owned(),
        event_name: EVENT.to_owned(),
        // A record is plain data, which always has a form in JSON.
        body: serde_json::to_string(record).ok().map(|line| AnyValue { value: Some(Value::StringValue(line)) }),
        attributes: attributes(record),
        trace_id: record.trace_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        span_id: record.span_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        ..LogRecord::default()
    }
}

/// Everything that is one value; lists of attempts, losses, warnings and alerts are in the body.
fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut attributes = words::of_request(record);
    attributes.text("relay.schema", record.schema);
    attributes.list("relay.policies", &*record.policies);
    for (name, value) in &*record.attributes {
        attributes.text(format!("relay.attributes.{name}"), value);
    }
    attributes.maybe("relay.model_ref", record.model_ref.as_deref());
    attributes.maybe("relay.upstream_model", record.upstream_model.as_deref());
    attributes.maybe("relay.upstream_shape", record.upstream_shape.map(|shape| shape.to_string()));
    attributes.maybe("relay.host_key", record.host_key.as_deref());
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::HeaderMap;
    use jiff::Timestamp;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpSocket},
    };

    use super::*;
    use crate::upstream::resolver::System;

    /// As [`PACE`], for tests that do not want to wait.
    const QUICK: Pace = Pace {
        queue: 100,
        batch: 10,
        linger: Duration::from_millis(1),
        tries: None,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(1),
    };

    fn record(id: u64) -> Arc<Record> {
        Arc::new(Record::new(id.to_string(), "chat", Timestamp::UNIX_EPOCH))
    }

    fn logs(url: &str, metrics: &Metrics) -> Logs {
        let collector = Collector::new(url, "/v1/logs", HeaderMap::new(), Arc::new(System::new())).expect("a URL");
        Logs(Exports::to(collector, QUICK, counts(metrics)))
    }

    /// An address at which nobody listens yet, and which nobody else gets meanwhile.
    fn nobody() -> (SocketAddr, TcpSocket) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        (socket.local_addr().expect("it is bound"), socket)
    }

    /// Waits until `is_so`.
    async fn until(is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), so).await.expect("it comes to be so");
    }

    /// Takes every batch, one for each connection; gives the ids of its records in the order of their coming.
    async fn take(listener: TcpListener, ids: Arc<parking_lot::Mutex<Vec<u64>>>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut buffer = [0; 4_096];
                let read = stream.read(&mut buffer).await.expect("it sends");
                bytes.extend(&buffer[..read]);
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                if bytes.len() - end - 4 == length.parse::<usize>().expect("a number") {
                    break bytes.split_off(end + 4);
                }
            };
            let batch = ExportLogsServiceRequest::decode(&body[..]).expect("OTLP");
            let records = batch.resource_logs.into_iter().flat_map(|it| it.scope_logs).flat_map(|it| it.log_records);
            let id = |record: LogRecord| {
                let one = record.attributes.into_iter().find(|it| it.key == "relay.request_id").expect("it has an id");
                match one.value.and_then(|value| value.value) {
                    Some(Value::StringValue(id)) => id.parse::<u64>().expect("a number"),
                    other => panic!("{other:?} is no text"),
                }
            };
            ids.lock().extend(records.map(id));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("it listens");
        }
    }

    #[tokio::test]
    async fn what_came_while_the_collector_was_away_is_sent_in_order_once_it_is_back_as_far_as_the_queue_held_it() {
        let (address, away) = nobody();
        let metrics = Metrics::new();
        let logs = logs(&format!("http://{address}"), &metrics);
        for id in 0..10 {
            logs.send(record(id));
        }
        // The first batch is on its way, for good; what comes now waits in the queue.
        until(|| metrics.usage_logs_errors.get() > 2).await;
        for id in 10..1_000 {
            logs.send(record(id));
        }
        let lost = metrics.usage_logs_dropped.get();
        assert_eq!(lost, 1_000 - 10 - 100);

        let ids = Arc::default();
        let back = away.listen(16).expect("it is bound");
        let taking = tokio::spawn(take(back, Arc::clone(&ids)));
        until(|| metrics.usage_logs_sent.get() == 110).await;
        logs.close(Duration::from_secs(60)).await;
        taking.abort();
        assert_eq!(*ids.lock(), (0..110).collect::<Vec<_>>());
        assert_eq!((metrics.usage_logs_dropped.get(), metrics.usage_logs_sent.get()), (lost, 110));
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_tried_once_more_and_then_counted_as_lost() {
        let (address, _away) = nobody();
        let metrics = Metrics::new();
        let logs = logs(&format!("http://{address}"), &metrics);
        for id in 0..50 {
            logs.send(record(id));
        }
        logs.close(Duration::from_secs(60)).await;
        assert_eq!((metrics.usage_logs_dropped.get(), metrics.usage_logs_sent.get()), (50, 0));
        logs.send(record(50));
        assert_eq!(metrics.usage_logs_dropped.get(), 50);
    }

    #[tokio::test]
    async fn a_batch_that_collectors_would_find_too_large_is_sent_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (metrics, ids) = (Metrics::new(), Arc::default());
        let logs = logs(&format!("http://{}", listener.local_addr().expect("it is bound")), &metrics);
        for id in 0..10 {
            let mut large = Record::new(id.to_string(), "chat", Timestamp::UNIX_EPOCH);
            large.warnings = vec!["x".repeat(1 << 20)];
            logs.send(Arc::new(large));
        }
        let taking = tokio::spawn(take(listener, Arc::clone(&ids)));
        logs.close(Duration::from_secs(60)).await;
        taking.abort();
        assert_eq!(*ids.lock(), (0..10).collect::<Vec<_>>());
        assert_eq!(metrics.usage_logs_errors.get(), 0);
    }
}
