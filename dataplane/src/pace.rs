//! Notices a client that takes nothing of an answer. Such an answer holds an upstream's connection, a slot and a
//! reservation, and none of its own timers runs, because nobody asks it for more. What follows is the listener's business.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The answers of one connection. A handle: clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Pace(Arc<Answers>);

#[derive(Debug)]
struct Answers {
    /// When the connection began.
    began: Instant,
    /// Those that are under way, see [`Offered::since`].
    offered: Mutex<Vec<Arc<AtomicU64>>>,
}

/// An answer that is watched. Dropped, it is no longer under way.
#[derive(Debug)]
pub(crate) struct Offered {
    /// When it began or a piece was handed over, after which nobody has asked for the next; 0: it is being asked for.
    since: Arc<AtomicU64>,
    pace: Pace,
}

impl Pace {
    /// No answer is under way.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Answers { began: Instant::now(), offered: Mutex::default() }))
    }

    /// One more answer is under way, whose first piece nobody has asked for: the client may have to take another answer first.
    pub(crate) fn follow(&self) -> Offered {
        let since = Arc::new(AtomicU64::new(self.millis()));
        self.0.offered.lock().push(since.clone());
        Offered { since, pace: self.clone() }
    }

    /// Whether an answer waits for its client since `most` or longer.
    pub(crate) fn is_stalled(&self, most: Duration) -> bool {
        let (now, most) = (self.millis(), u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
        let offered = self.0.offered.lock();
        offered.iter().map(|since| since.load(Ordering::Relaxed)).any(|at| at > 0 && now - at.min(now) >= most)
    }

    /// Since the connection began; never 0.
    fn millis(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Offered {
    /// The client has asked for more; `handed_over`: and got it.
    pub(crate) fn note(&self, handed_over: bool) {
        let since = if handed_over { self.pace.millis() } else { 0 };
        self.since.store(since, Ordering::Relaxed);
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.pace.0.offered.lock().retain(|since| !Arc::ptr_eq(since, &self.since));
    }
}
