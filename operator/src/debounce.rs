//! How changes settle before they are compiled: a burst is one change, and what takes something away does not wait.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long no change may follow a change before it is compiled.
const QUIET: Duration = Duration::from_millis(10);
/// How long a change waits at most.
const SETTLE: Duration = Duration::from_millis(100);

/// How soon a change has to be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Once no other change follows it.
    Usual,
    /// At once: it takes something away.
    Urgent,
}

/// Tells the one who compiles that something changed. Any number ring, one waits.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Notify,
    is_urgent: AtomicBool,
}

impl Bell {
    /// Says that something changed.
    pub fn ring(&self, urgency: Urgency) {
        if urgency == Urgency::Urgent {
            self.is_urgent.store(true, Ordering::Release);
        }
        self.rung.notify_one();
    }

    /// Waits for a change and until it has settled: 10 ms without another one, 100 ms at most, not at all where it is
    /// urgent. Changes that came since the last call count.
    pub async fn settled(&self) -> Urgency {
        self.rung.notified().await;
        let latest = Instant::now() + SETTLE;
        while !self.is_urgent.load(Ordering::Acquire) {
            let quiet = Instant::now() + QUIET;
            let rung = timeout_at(quiet.min(latest), self.rung.notified()).await;
            if rung.is_err() || Instant::now() >= latest {
                break;
            }
        }
        if self.is_urgent.swap(false, Ordering::AcqRel) { Urgency::Urgent } else { Urgency::Usual }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;

    async fn waited(bell: &Bell) -> (Urgency, Duration) {
        let begun = Instant::now();
        let urgency = bell.settled().await;
        (urgency, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_change_waits_until_it_was_quiet() {
        let bell = Bell::default();
        bell.ring(Urgency::Usual);
        let (urgency, waited) = waited(&bell).await;
        assert_eq!(urgency, Urgency::Usual);
        assert!((QUIET..QUIET * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_changes_waits_no_longer_than_the_most() {
        let bell = Arc::new(Bell::default());
        let ringer = tokio::spawn({
            let bell = bell.clone();
            async move {
                loop {
                    bell.ring(Urgency::Usual);
                    sleep(QUIET / 2).await;
                }
            }
        });
        let (_, waited) = waited(&bell).await;
        ringer.abort();
        assert!((SETTLE..SETTLE + QUIET).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_away_does_not_wait() {
        let bell = Bell::default();
        bell.ring(Urgency::Usual);
        bell.ring(Urgency::Urgent);
        assert_eq!(waited(&bell).await, (Urgency::Urgent, Duration::ZERO));
        bell.ring(Urgency::Usual);
        assert_eq!(waited(&bell).await.0, Urgency::Usual);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_change_ends_the_wait_of_a_usual_one() {
        let bell = Arc::new(Bell::default());
        bell.ring(Urgency::Usual);
        let ringer = tokio::spawn({
            let bell = bell.clone();
            async move {
                sleep(QUIET / 2).await;
                bell.ring(Urgency::Urgent);
            }
        });
        let (urgency, waited) = waited(&bell).await;
        ringer.await.unwrap();
        assert_eq!(urgency, Urgency::Urgent);
        assert!(waited < QUIET, "{waited:?}");
    }
}
