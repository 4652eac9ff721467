//! Sends spans of requests that are over to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Nothing waits for it: a bounded queue and a task that sends. What the queue cannot take, or the collector does not, is
//! counted as lost. What a span says is in `otlp`.

mod otlp;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::Mutex;
use prost::Message;
use table::ObjectRef;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    meter::record::Record,
    metrics::Metrics,
    trace::Trace,
    upstream::{
        client::Client,
        clients::{self, Clients},
        resolver::Resolve,
    },
};

/// Requests that wait at most.
const QUEUE: usize = 4_096;
/// Requests that are sent at once, at most.
const BATCH: usize = 256;
/// How long a batch is collected.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits before a batch is sent again that the collector could not take.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Most bytes of a collector's answer that are read.
const MOST_ANSWER: usize = 64 << 10;

/// A request that is over, as its spans tell of it.
pub(crate) struct Finished {
    pub(crate) trace: Trace,
    pub(crate) record: Record,
    /// When limits were asked, and until when, since the request came; absent: it did not come so far.
    pub(crate) reserve: Option<(Duration, Duration)>,
}

/// The way to the collector.
pub struct Spans {
    queue: Mutex<Option<mpsc::Sender<Finished>>>,
    exporter: Mutex<Option<JoinHandle<()>>>,
    closing: CancellationToken,
    /// Spans that are queued and neither sent nor lost.
    waiting: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Spans {
    /// Spans go nowhere.
    pub fn none(metrics: Arc<Metrics>) -> Self {
        let closing = CancellationToken::new();
        Self { queue: Mutex::default(), exporter: Mutex::default(), closing, waiting: Arc::default(), metrics }
    }

    /// Spans go to `{endpoint}/v1/traces`. Errs, in words for whoever runs the process, where that is no usable URL. Needs a
    /// Tokio runtime.
    pub fn to(endpoint: &str, resolver: Arc<dyn Resolve>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let client =
            Clients::new(resolver).for_host(&ObjectRef::new("", "collector"), &clients::row_of(endpoint), None)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let (closing, waiting) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (told, counted, counts) = (closing.clone(), waiting.clone(), metrics.clone());
        let exporter = Exporter { client, closing: told, waiting: counted, metrics: counts, failing: false };
        let task = tokio::spawn(exporter.run(requests));
        Ok(Self { queue: Mutex::new(Some(queue)), exporter: Mutex::new(Some(task)), closing, waiting, metrics })
    }

    /// Queues the spans of a request. Never blocks; a request that finds no room is counted as lost.
    pub(crate) fn send(&self, finished: Finished) {
        let queue = self.queue.lock();
        let Some(queue) = queue.as_ref() else { return };
        let count = otlp::count(&finished);
        self.waiting.fetch_add(count, Ordering::Relaxed);
        if queue.try_send(finished).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.metrics.spans_dropped.inc_by(count);
        }
    }

    /// Sends what is queued and stops, within the time that is given. A batch that fails is not tried again. Requests that
    /// come later are ignored.
    pub async fn close(&self, within: Duration) {
        self.closing.cancel();
        drop(self.queue.lock().take());
        let exporter = self.exporter.lock().take();
        let Some(mut exporter) = exporter else { return };
        if tokio::time::timeout(within, &mut exporter).await.is_err() {
            exporter.abort();
            self.metrics.spans_dropped.inc_by(self.waiting.swap(0, Ordering::Relaxed));
            warn!(waited = ?within, "spans are lost: the collector does not take them");
        }
    }
}

struct Exporter {
    client: Arc<Client>,
    closing: CancellationToken,
    waiting: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    /// Whether the last batch was lost, so that only the first of a row is logged.
    failing: bool,
}

/// Why a batch was not taken.
enum Refused {
    /// It may be taken later.
    ForNow(String),
    /// It never will.
    ForGood(String),
}

impl Exporter {
    async fn run(mut self, mut requests: mpsc::Receiver<Finished>) {
        loop {
            let batch = collect(&mut requests).await;
            if batch.is_empty() {
                return;
            }
            let count = batch.iter().map(otlp::count).sum();
            match self.deliver(otlp::export(&batch).encode_to_vec().into()).await {
                Ok(()) => self.delivered(count),
                Err(reason) => self.lost(count, &reason),
            }
        }
    }

    /// Sends a batch, a few times where it is worth it.
    async fn deliver(&self, body: Bytes) -> Result<(), String> {
        let mut waits = WAITS.into_iter();
        loop {
            let sent = tokio::time::timeout(PATIENCE, self.post(body.clone())).await;
            let reason = match sent.unwrap_or_else(|_| Err(Refused::ForNow("it takes too long".to_owned()))) {
                Ok(()) => return Ok(()),
                Err(Refused::ForGood(reason)) => return Err(reason),
                Err(Refused::ForNow(reason)) => reason,
            };
            let Some(wait) = waits.next() else { return Err(reason) };
            tokio::select! {
                () = self.closing.cancelled() => return Err(reason),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Refused> {
        let unsent = |error: crate::upstream::error::SendError| Refused::ForNow(error.to_string());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.client.uri("/v1/traces").map_err(unsent)?;
        let media_type = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(header::CONTENT_TYPE, media_type);
        let answer = self.client.send(request).await.map_err(unsent)?;
        let status = answer.status();
        // Read to the end, so that the connection can be used again.
        let _ = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        let reason = || format!("it answers {status}");
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::ForNow(reason())),
            _ => Err(Refused::ForGood(reason())),
        }
    }

    fn delivered(&mut self, count: u64) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.metrics.spans_sent.inc_by(count);
        if std::mem::replace(&mut self.failing, false) {
            info!("the collector takes spans again");
        }
    }

    fn lost(&mut self, count: u64, reason: &str) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.metrics.spans_dropped.inc_by(count);
        if !std::mem::replace(&mut self.failing, true) {
            warn!(reason, "spans are lost: the collector does not take them: {reason}");
        }
    }
}

/// The next batch; empty: there will be none.
async fn collect(requests: &mut mpsc::Receiver<Finished>) -> Vec<Finished> {
    let mut batch = Vec::new();
    if requests.recv_many(&mut batch, BATCH).await == 0 {
        return batch;
    }
    let more = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            if requests.recv_many(&mut batch, room).await == 0 {
                break;
            }
        }
    };
    // A full batch, the end of the queue, or the time: each is a reason to send.
    let _ = tokio::time::timeout(LINGER, more).await;
    batch
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
        let metrics = Arc::new(Metrics::new());
        let spans = Spans::to(&url, Arc::new(System::new()), metrics.clone()).expect("a URL");
        let requests = (QUEUE + 2 * BATCH) as u64;
        for _ in 0..requests {
            let trace = Trace::of(&HeaderMap::new(), true);
            spans.send(Finished { trace, record: Record::new("r", "chat", Timestamp::UNIX_EPOCH), reserve: None });
        }
        assert!(metrics.spans_dropped.get() >= BATCH as u64, "the queue is bounded");
        spans.close(Duration::from_millis(10)).await;
        assert_eq!((metrics.spans_dropped.get(), metrics.spans_sent.get()), (requests, 0));
    }
}
