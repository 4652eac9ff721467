//! Wakes a task that mostly waits for something else: when a moment has come, or when it is late. It is asked at each of
//! many wake-ups, nearly all of which are for that other thing, so nothing is registered anew while the same task asks,
//! and a timer that is set rings early rather than being moved each time.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::drain::Moment;

/// Wakes a task for one moment, and each time that it is as late as was asked for.
#[derive(Default)]
pub(crate) struct Alarm(Option<Set>);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rang {
    /// The moment has come; said once.
    Come,
    /// It is late.
    Due,
}

struct Set {
    /// Absent: it has come.
    moment: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    timer: Pin<Box<Sleep>>,
    /// Whom both wake; absent: nobody yet.
    asked_by: Option<Waker>,
}

impl Alarm {
    /// Nobody waits yet.
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Whether `moment` has come, which has to be the same each time, or it is `at` or later.
    pub(crate) fn poll(&mut self, moment: &Moment, at: Instant, context: &mut Context<'_>) -> Poll<Rang> {
        let set = self.0.get_or_insert_with(|| Set {
            moment: Some(Box::pin(moment.wait())),
            timer: Box::pin(sleep_until(at)),
            asked_by: None,
        });
        let is_known = set.asked_by.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        let has_come = set.moment.is_some() && moment.has_come();
        if is_known && !has_come && set.rings_by(at) {
            return Poll::Pending;
        }
        if !is_known {
            set.asked_by = Some(context.waker().clone());
        }
        set.poll(at, context)
    }
}

impl Set {
    /// Whether the timer is running, and rings no later than `at`.
    fn rings_by(&self, at: Instant) -> bool {
        !self.timer.is_elapsed() && self.timer.deadline() <= at
    }

    fn poll(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<Rang> {
        if self.moment.as_mut().is_some_and(|moment| moment.as_mut().poll(context).is_ready()) {
            self.moment = None;
            return Poll::Ready(Rang::Come);
        }
        if self.timer.deadline() > at {
            self.timer.as_mut().reset(at);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if self.timer.deadline() >= at {
                return Poll::Ready(Rang::Due);
            }
            self.timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::drain::Drain;

    const SECOND: Duration = Duration::from_secs(1);

    async fn next(alarm: &mut Alarm, drain: &Drain, at: Instant) -> Rang {
        poll_fn(|context| alarm.poll(drain.expiry(), at, context)).await
    }

    /// Asks without waiting.
    async fn asked(alarm: &mut Alarm, drain: &Drain, at: Instant) -> Option<Rang> {
        poll_fn(|context| match alarm.poll(drain.expiry(), at, context) {
            Poll::Ready(rang) => Poll::Ready(Some(rang)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_it_is_late_however_often_that_was_put_off_or_brought_forward() {
        let (mut alarm, drain, began) = (Alarm::new(), Drain::new(), Instant::now());
        for put_off in 1..5 {
            assert_eq!(asked(&mut alarm, &drain, began + put_off * 10 * SECOND).await, None);
            tokio::time::sleep(5 * SECOND).await;
        }
        assert_eq!(next(&mut alarm, &drain, began + 40 * SECOND).await, Rang::Due);
        assert_eq!(began.elapsed(), 40 * SECOND);
        assert_eq!(asked(&mut alarm, &drain, began + 100 * SECOND).await, None);
        assert_eq!(next(&mut alarm, &drain, began + 50 * SECOND).await, Rang::Due);
        assert_eq!(began.elapsed(), 50 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_said_once_and_wakes_whoever_asked_last() {
        let (mut alarm, drain, began) = (Alarm::new(), Drain::new(), Instant::now());
        assert_eq!(asked(&mut alarm, &drain, began + 900 * SECOND).await, None);
        let stopping = drain.clone();
        let waiting = tokio::spawn(async move {
            let first = next(&mut alarm, &drain, began + 900 * SECOND).await;
            (first, next(&mut alarm, &drain, began + 900 * SECOND).await, began.elapsed())
        });
        tokio::time::sleep(SECOND).await;
        stopping.run(tokio::sync::watch::Sender::default().subscribe(), &tokio_util::task::TaskTracker::new()).await;
        assert_eq!(waiting.await.expect("it does not panic"), (Rang::Come, Rang::Due, 900 * SECOND));
    }
}
