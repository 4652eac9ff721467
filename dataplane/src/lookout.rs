//! Looks at the time for what is waited for on a connection that one task drives: the head of a request, its body, an
//! upstream's answer. The task has one timer for all of it, which is hardly ever moved, and polls what waits once more when
//! it is late or when the process has to stop; so nothing is registered for a request that nobody is late for. Where
//! requests are driven by tasks of their own (HTTP/2), each has timers of its own.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::drain::Drain;

/// Who looks at the time for a request.
#[derive(Clone, Debug)]
pub struct Lookout(Option<Arc<Kept>>);

/// What is waited for was not there in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// What is waited for on one connection, kept by whoever drives it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What [`Due`] counts from.
    opened: Instant,
    /// The head of the next request.
    head: Due,
    /// The request under way: over HTTP/1 there is one at a time.
    request: Due,
}

/// When a wait is over, in nanoseconds; or [`NEVER`], or [`LATE`] once it is.
#[derive(Debug)]
struct Due(AtomicU64);

const NEVER: u64 = u64::MAX;
const LATE: u64 = 0;

/// A wait. Dropped, it is over.
#[must_use = "a wait ends when it is dropped"]
struct Wait<'a> {
    due: &'a Due,
    /// The wait that this one is a part of.
    before: u64,
}

/// A wait for the head of a request. Dropped, it is over.
#[derive(Debug)]
#[must_use = "a wait ends when it is dropped"]
pub(crate) struct HeadWait(Arc<Kept>);

impl Lookout {
    /// Nobody does: who waits has a timer of its own.
    pub fn nobody() -> Self {
        Self(None)
    }

    /// Whoever drives the connection does.
    pub(crate) fn of(kept: Arc<Kept>) -> Self {
        Self(Some(kept))
    }

    /// What comes of `work`, where that is there by `at`.
    pub async fn within<F: Future + Unpin>(&self, at: Instant, mut work: F) -> Result<F::Output, Late> {
        let Some(kept) = &self.0 else { return timeout_at(at, work).await.map_err(|_| Late) };
        let _wait = kept.request.wait(kept.nanos(at));
        poll_fn(move |context| match Pin::new(&mut work).poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if kept.request.is_late() => Poll::Ready(Err(Late)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// What comes of `work`, where that is there before the process must stop.
    pub(crate) async fn unless_expired<F: Future + Unpin>(&self, drain: &Drain, mut work: F) -> Option<F::Output> {
        if self.0.is_none() {
            return tokio::select! {
                biased;
                done = work => Some(done),
                () = drain.expired() => None,
            };
        }
        poll_fn(move |context| match Pin::new(&mut work).poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if drain.expiry().has_come() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Kept {
    /// Of a connection that was opened then, on which nothing is waited for. Whoever drives it has to poll it again at
    /// [`Kept::next`], after [`Kept::look`], and when the drain expires.
    pub(crate) fn new(opened: Instant) -> Self {
        Self { opened, head: Due(AtomicU64::new(NEVER)), request: Due(AtomicU64::new(NEVER)) }
    }

    /// When something is late next, or `last` where that is before. What is late already was told: whoever waited for it may
    /// have gone on to something else.
    pub(crate) fn next(&self, last: Instant) -> Instant {
        let dues = [self.head.get(), self.request.get()];
        match dues.into_iter().filter(|nanos| *nanos != LATE).min() {
            None | Some(NEVER) => last,
            Some(nanos) => last.min(self.opened + Duration::from_nanos(nanos)),
        }
    }

    /// Notes what is late by now.
    pub(crate) fn look(&self, now: Instant) {
        let now = self.nanos(now);
        for due in [&self.head, &self.request] {
            if due.get() <= now {
                due.set(LATE);
            }
        }
    }

    /// A head is waited for until then. One at a time.
    pub(crate) fn wait_for_head(self: &Arc<Self>, at: Instant) -> HeadWait {
        self.head.set(self.nanos(at));
        HeadWait(self.clone())
    }

    /// A moment as [`Due`] has it.
    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.opened).as_nanos();
        u64::try_from(since).unwrap_or(NEVER).clamp(LATE + 1, NEVER - 1)
    }
}

impl Due {
    // One task alone uses it, whichever thread that is on.
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    fn is_late(&self) -> bool {
        self.get() == LATE
    }

    fn wait(&self, until: u64) -> Wait<'_> {
        let before = self.get();
        self.set(until.min(before));
        Wait { due: self, before }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.due.set(self.before);
    }
}

impl HeadWait {
    /// Whether it was waited for in vain.
    pub(crate) fn is_late(&self) -> bool {
        self.0.head.is_late()
    }
}

impl Drop for HeadWait {
    fn drop(&mut self) {
        self.0.head.set(NEVER);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Drives what waits as a connection does: polled again when something is late.
    async fn driven<F: Future>(kept: &Kept, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            let until = poll_fn(|context| match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => Poll::Ready(Err(kept.next(Instant::now() + 3_600 * SECOND))),
            });
            let next = match until.await {
                Ok(done) => return done,
                Err(next) => next,
            };
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(next) => kept.look(Instant::now()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_late_at_its_time_with_timers_of_its_own_and_without() {
        let kept = Arc::new(Kept::new(Instant::now()));
        tokio::time::sleep(7 * SECOND).await;
        for lookout in [Lookout::nobody(), Lookout::of(kept.clone())] {
            for wait in [Duration::ZERO, Duration::from_micros(1_500), 30 * SECOND] {
                let began = Instant::now();
                let late = driven(&kept, Box::pin(lookout.within(began + wait, pending::<()>()))).await;
                assert_eq!(late, Err(Late));
                let over = began.elapsed() - wait;
                assert!(over <= Duration::from_millis(1), "{wait:?}: {over:?} late");
            }
            let done = driven(&kept, lookout.within(Instant::now(), std::future::ready("done"))).await;
            assert_eq!(done, Ok("done"), "what is there is taken, however late it is");
        }
        assert_eq!(kept.next(Instant::now() + SECOND), Instant::now() + SECOND, "nothing is waited for any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_within_a_wait_ends_with_it() {
        let kept = Arc::new(Kept::new(Instant::now()));
        let (lookout, began) = (Lookout::of(kept.clone()), Instant::now());
        let inner = async {
            let (short, long) = (Box::pin(pending::<()>()), Box::pin(pending::<()>()));
            let first = (lookout.within(began + SECOND, short).await, began.elapsed());
            (first, lookout.within(began + 90 * SECOND, long).await)
        };
        let inner = Box::pin(inner);
        let outer = driven(&kept, lookout.within(began + 5 * SECOND, inner)).await;
        assert!(outer == Err(Late) || outer == Ok(((Err(Late), SECOND), Err(Late))), "{outer:?}");
        assert_eq!(began.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_came_is_waited_for_no_more() {
        let kept = Arc::new(Kept::new(Instant::now()));
        let at = Instant::now() + SECOND;
        let wait = kept.wait_for_head(at);
        assert_eq!(kept.next(at + SECOND), at);
        kept.look(at);
        assert!(wait.is_late());
        assert_eq!(kept.next(at + SECOND), at + SECOND, "whoever does not look is told once");
        drop(wait);
        assert_eq!(kept.next(at + SECOND), at + SECOND);
        kept.look(at + SECOND);
        assert!(!kept.wait_for_head(at + 9 * SECOND).is_late());
    }
}
