//! Queues what goes to a collector, sends it in batches and tries again. Nobody waits for it: the queue is bounded, and
//! what finds no room, or is never taken, is counted as lost.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::collector::{Collector, Refused};

/// Bytes of a batch beyond which it is sent in halves; collectors bound what they read.
const MOST_BYTES: usize = 4 << 20;

/// A kind of things that collectors take.
pub(crate) trait Signal: Send + Sync + 'static {
    /// One of what is queued.
    type Item: Send + Sync + 'static;
    /// What they are called in logs.
    const NAME: &'static str;
    /// How many are told of an item.
    fn count(item: &Self::Item) -> u64;
    /// A batch as a collector takes it.
    fn encode(batch: &[Self::Item]) -> Vec<u8>;
    /// How many of a batch that it took the collector says that it rejected.
    fn rejected(answer: &[u8]) -> u64;
}

/// How much is kept, and how long it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Items that wait at most.
    pub(crate) queue: usize,
    /// Items that are sent at once, at most.
    pub(crate) batch: usize,
    /// How long a batch is collected.
    pub(crate) linger: Duration,
    /// How often a batch is sent; absent: until it is taken, or everything stops.
    pub(crate) tries: Option<u32>,
    /// The wait after the first try; each further one is twice as long.
    pub(crate) first_wait: Duration,
    /// The longest wait.
    pub(crate) longest_wait: Duration,
}

/// Where it is counted what becomes of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Taken by the collector.
    pub(crate) sent: Counter,
    /// Lost.
    pub(crate) dropped: Counter,
    /// Tries that failed.
    pub(crate) errors: Counter,
}

/// The way to the collector.
pub(crate) struct Exports<S: Signal> {
    queue: Mutex<Option<mpsc::Sender<S::Item>>>,
    exporter: Mutex<Option<JoinHandle<()>>>,
    closing: CancellationToken,
    /// Those that are queued and neither sent nor lost.
    waiting: Arc<AtomicU64>,
    counts: Counts,
}

impl<S: Signal> Exports<S> {
    /// They go nowhere.
    pub(crate) fn none() -> Self {
        Self {
            queue: Mutex::default(),
            exporter: Mutex::default(),
            closing: CancellationToken::new(),
            waiting: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// They go to this collector. Needs a Tokio runtime.
    pub(crate) fn to(collector: Collector, pace: Pace, counts: Counts) -> Self {
        let (queue, items) = mpsc::channel(pace.queue);
        let (closing, waiting) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let exporter = Exporter::<S> {
            collector,
            pace,
            closing: closing.clone(),
            waiting: waiting.clone(),
            counts: counts.clone(),
            failing: false,
            of: PhantomData,
        };
        let task = tokio::spawn(exporter.run(items));
        Self { queue: Mutex::new(Some(queue)), exporter: Mutex::new(Some(task)), closing, waiting, counts }
    }

    /// Whether items go anywhere; false also once it was closed.
    pub(crate) fn take_any(&self) -> bool {
        self.queue.lock().is_some()
    }

    /// Queues an item. Never blocks; one that finds no room is counted as lost.
    pub(crate) fn send(&self, item: S::Item) {
        let queue = self.queue.lock();
        let Some(queue) = queue.as_ref() else { return };
        let count = S::count(&item);
        self.waiting.fetch_add(count, Ordering::Relaxed);
        if queue.try_send(item).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.counts.dropped.inc_by(count);
        }
    }

    /// Sends what is queued and stops, within the time that is given. Each batch is tried once more. Items that come later
    /// are ignored.
    pub(crate) async fn close(&self, within: Duration) {
        self.closing.cancel();
        drop(self.queue.lock().take());
        let exporter = self.exporter.lock().take();
        let Some(mut exporter) = exporter else { return };
        if tokio::time::timeout(within, &mut exporter).await.is_err() {
            exporter.abort();
            self.counts.dropped.inc_by(self.waiting.swap(0, Ordering::Relaxed));
            warn!(waited = ?within, "{} are lost: the collector does not take them", S::NAME);
        }
    }
}

struct Exporter<S: Signal> {
    collector: Collector,
    pace: Pace,
    closing: CancellationToken,
    waiting: Arc<AtomicU64>,
    counts: Counts,
    /// Whether the last try failed, so that only the first of a row is logged.
    failing: bool,
    of: PhantomData<S>,
}

/// A batch on its way.
struct Parcel {
    count: u64,
    body: Bytes,
}

impl<S: Signal> Exporter<S> {
    async fn run(mut self, mut items: mpsc::Receiver<S::Item>) {
        loop {
            let batch = self.collect(&mut items).await;
            if batch.is_empty() {
                return;
            }
            for parcel in parcels::<S>(&batch) {
                let sent = match self.deliver(parcel.body).await {
                    Some(answer) => parcel.count.saturating_sub(S::rejected(&answer)),
                    None => 0,
                };
                self.waiting.fetch_sub(parcel.count, Ordering::Relaxed);
                self.counts.sent.inc_by(sent);
                self.counts.dropped.inc_by(parcel.count - sent);
            }
        }
    }

    /// The next batch; empty: there will be none.
    async fn collect(&self, items: &mut mpsc::Receiver<S::Item>) -> Vec<S::Item> {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, self.pace.batch).await == 0 {
            return batch;
        }
        let more = async {
            while batch.len() < self.pace.batch {
                let room = self.pace.batch - batch.len();
                if items.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        // A full batch, the end of the queue, or the time: each is a reason to send.
        let _ = tokio::time::timeout(self.pace.linger, more).await;
        batch
    }

    /// Sends a batch, more than once where it is worth it; gives the collector's answer. Absent: the batch is lost.
    async fn deliver(&mut self, body: Bytes) -> Option<Bytes> {
        let (mut tried, mut wait) = (0, self.pace.first_wait);
        loop {
            let is_last = self.closing.is_cancelled();
            let after = match self.collector.post(body.clone()).await {
                Ok(answer) => {
                    self.succeeded();
                    return Some(answer);
                }
                Err(Refused::ForGood(reason)) => {
                    self.failed(&reason);
                    return None;
                }
                Err(Refused::ForNow { reason, after }) => {
                    self.failed(&reason);
                    after
                }
            };
            tried += 1;
            if is_last || self.pace.tries.is_some_and(|tries| tried >= tries) {
                return None;
            }
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = tokio::time::sleep(after.unwrap_or_else(|| about(wait))) => {}
            }
            wait = (wait * 2).min(self.pace.longest_wait);
        }
    }

    fn succeeded(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            info!("the collector takes {} again", S::NAME);
        }
    }

    fn failed(&mut self, reason: &str) {
        self.counts.errors.inc();
        if !std::mem::replace(&mut self.failing, true) {
            warn!(reason, "the collector does not take {}: {reason}", S::NAME);
        }
    }
}

/// Between half of it and all, so that processes that lost the same collector do not come back at once.
fn about(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// A batch in as many pieces as its size asks for.
fn parcels<S: Signal>(batch: &[S::Item]) -> Vec<Parcel> {
    let body = S::encode(batch);
    if body.len() <= MOST_BYTES || batch.len() < 2 {
        return vec![Parcel { count: batch.iter().map(S::count).sum(), body: body.into() }];
    }
    let (first, second) = batch.split_at(batch.len() / 2);
    let mut pieces = parcels::<S>(first);
    pieces.extend(parcels::<S>(second));
    pieces
}
