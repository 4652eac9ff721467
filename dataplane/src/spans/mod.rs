//! Sends spans of requests that are over to an OpenTelemetry collector. What a span says is in `tree`.

mod tree;

use std::{sync::Arc, time::Duration};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::{
    meter::record::Record,
    metrics::Metrics,
    otlp::{
        collector::Collector,
        exports::{Counts, Exports, Pace, Signal},
    },
    trace::Trace,
};

/// A trace with a hole is of use, and a late one of little: what a collector does not take soon is given up.
const PACE: Pace = Pace {
    queue: 4_096,
    batch: 256,
    linger: Duration::from_millis(500),
    tries: Some(3),
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(4),
};

/// A request that is over, as its spans tell of it.
pub(crate) struct Finished {
    pub(crate) trace: Trace,
    pub(crate) record: Arc<Record>,
    /// When limits were asked, and until when, since the request came; absent: it did not come so far.
    pub(crate) reserve: Option<(Duration, Duration)>,
}

/// The way to the collector.
pub struct Spans(Exports<Requests>);

impl Spans {
    /// Spans go nowhere.
    pub fn none() -> Self {
        Self(Exports::none())
    }

    /// Spans go to this collector. Needs a Tokio runtime.
    pub(crate) fn to(collector: Collector, metrics: &Metrics) -> Self {
        let (sent, dropped) = (metrics.spans_sent.clone(), metrics.spans_dropped.clone());
        Self(Exports::to(collector, PACE, Counts { sent, dropped, ..Counts::default() }))
    }

    /// Whether spans go anywhere.
    pub(crate) fn take_any(&self) -> bool {
        self.0.take_any()
    }

    /// Queues the spans of a request. Never blocks; a request that finds no room is counted as lost.
    pub(crate) fn send(&self, finished: Finished) {
        self.0.send(finished);
    }

    /// Sends what is queued and stops, within the time that is given. Requests that come later are ignored.
    pub async fn close(&self, within: Duration) {
        self.0.close(within).await;
    }
}

/// Requests, told as spans.
struct Requests;

impl Signal for Requests {
    type Item = Finished;
    const NAME: &'static str = "spans";

    fn count(item: &Finished) -> u64 {
        tree::count(item)
    }

    fn encode(batch: &[Finished]) -> Vec<u8> {
        tree::export(batch).encode_to_vec()
    }

    fn rejected(answer: &[u8]) -> u64 {
        let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
        answer.partial_success.map_or(0, |part| u64::try_from(part.rejected_spans).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use jiff::Timestamp;

    use super::*;
    use crate::upstream::resolver::System;

    #[tokio::test]
    async fn a_collector_that_never_answers_blocks_nobody_and_every_span_is_counted_as_lost() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", silent.local_addr().expect("it is bound"));
        let metrics = Metrics::new();
        let collector = Collector::new(&url, "/v1/traces", HeaderMap::new(), Arc::new(System::new())).expect("a URL");
        let spans = Spans::to(collector, &metrics);
        let requests = (PACE.queue + 2 * PACE.batch) as u64;
        for _ in 0..requests {
            let trace = Trace::of(&HeaderMap::new(), true);
            let record = Arc::new(Record::new("r", "chat", Timestamp::UNIX_EPOCH));
            spans.send(Finished { trace, record, reserve: None });
        }
        assert!(metrics.spans_dropped.get() >= PACE.batch as u64, "the queue is bounded");
        spans.close(Duration::from_millis(10)).await;
        assert_eq!((metrics.spans_dropped.get(), metrics.spans_sent.get()), (requests, 0));
    }
}
