//! What became of statuses, counted.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What became of one status that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was put into the queue.
    Enqueued,
    /// There was no room for it in the queue.
    Dropped,
    /// The API server took it.
    Succeeded,
    /// The object said so already, is gone, or has changed since.
    Needless,
    /// Somebody else wrote another status at the same moment; it is thought over.
    Contended,
    /// The API server refused it or could not be reached.
    Failed,
    /// The API server did not answer in time.
    TimedOut,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// Counters of statuses.
#[derive(Clone, Debug, Default)]
pub struct StatusMetrics {
    outcomes: Family<Labels, Counter>,
    waiting: Gauge<i64>,
    leading: Gauge<u64, AtomicU64>,
}

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Enqueued, Self::Dropped, Self::Succeeded, Self::Needless, Self::Contended, Self::Failed, Self::TimedOut];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Dropped => "dropped",
            Self::Succeeded => "succeeded",
            Self::Needless => "needless",
            Self::Contended => "contended",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

impl StatusMetrics {
    /// Adds them to what is scraped.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in Outcome::ALL {
            // There from the start, so that a rate of the first is one too.
            self.outcomes.get_or_create(&Labels { outcome: outcome.as_str() }).inc_by(0);
        }
        let help = "Statuses that were put into the queue, and what became of them";
        registry.register("status_writes", help, self.outcomes.clone());
        registry.register("status_waiting", "Statuses that wait to be written", self.waiting.clone());
        registry.register("leading", "1 where this replica holds the Lease", self.leading.clone());
    }

    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        self.outcomes.get_or_create(&Labels { outcome: outcome.as_str() }).inc();
    }

    /// How many there were.
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.outcomes.get_or_create(&Labels { outcome: outcome.as_str() }).get()
    }

    pub(super) fn waits(&self, many: usize) {
        self.waiting.set(i64::try_from(many).unwrap_or(i64::MAX));
    }

    pub(super) fn leads(&self, is_leading: bool) {
        self.leading.set(u64::from(is_leading));
    }
}
