//! The phases of stopping, as tokens that anything may wait for. Decides when; what each part then does is its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

use crate::in_force::Stopping;

/// A time that never comes, which no clock overflows by.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The phases of stopping, and the tasks that have to end before the process may. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    phases: Arc<Phases>,
    /// Every task that the process waits for.
    pub tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Phases {
    unready: Moment,
    closed: Moment,
    expired: Moment,
}

/// A moment that comes once. Whether it has come can be asked without a lock.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// Set before the token is cancelled, so that who is woken sees it.
    has_come: AtomicBool,
    token: CancellationToken,
}

impl Moment {
    /// It is now.
    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it has come.
    pub(crate) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    /// Resolves once it has come. To be kept by whoever waits for long.
    pub(crate) fn wait(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }
}

impl Drain {
    /// Nothing is stopping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether readiness is gone.
    pub fn is_unready(&self) -> bool {
        self.phases.unready.has_come()
    }

    /// Resolves when readiness is gone.
    pub async fn unready(&self) {
        self.phases.unready.token.cancelled().await;
    }

    /// Resolves when no more connections are accepted and open ones shall be closed after their request.
    pub async fn closed(&self) {
        self.phases.closed.token.cancelled().await;
    }

    /// Whether connections are being closed.
    pub fn is_closed(&self) -> bool {
        self.phases.closed.has_come()
    }

    /// When connections are closed.
    pub(crate) fn closing(&self) -> &Moment {
        &self.phases.closed
    }

    /// Resolves when open streams must end now.
    pub async fn expired(&self) {
        self.phases.expired.token.cancelled().await;
    }

    /// When open streams must end.
    pub(crate) fn expiry(&self) -> &Moment {
        &self.phases.expired
    }

    /// A token for tasks that run until streams have ended.
    pub fn until_expired(&self) -> CancellationToken {
        self.phases.expired.token.child_token()
    }

    /// Walks through the phases: not ready at once, no new connections after the deregister delay, then until all streams
    /// of `streams` have ended but no longer than the grace. Settings that change meanwhile hold at once.
    pub async fn run(&self, mut settings: watch::Receiver<Stopping>, streams: &TaskTracker) {
        self.phases.unready.come();
        passed(&mut settings, |stopping| stopping.deregister).await;
        self.phases.closed.come();
        streams.close();
        let is_over = tokio::select! {
            biased;
            () = streams.wait() => false,
            () = passed(&mut settings, |stopping| stopping.grace) => true,
        };
        if is_over {
            self.phases.expired.come();
            // Each stream has still to say its last word; a client that does not read it must not hold the process.
            let _ = tokio::time::timeout(Duration::from_secs(5), streams.wait()).await;
        }
        self.phases.expired.come();
    }
}

/// Resolves once as much time has passed since now as the settings in force then say.
async fn passed(settings: &mut watch::Receiver<Stopping>, which: impl Fn(&Stopping) -> Duration) {
    let began = Instant::now();
    loop {
        let end = began + which(&settings.borrow_and_update()).min(LONGEST);
        tokio::select! {
            () = sleep_until(end) => return,
            changed = settings.changed() => if changed.is_err() {
                return sleep_until(end).await;
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn settings(deregister: u64, grace: u64) -> Stopping {
        Stopping { deregister: Duration::from_secs(deregister), grace: Duration::from_secs(grace) }
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_goes_first_then_the_listener_then_the_streams() {
        let (drain, streams) = (Drain::new(), TaskTracker::new());
        let waiting = drain.clone();
        streams.spawn(async move { waiting.expired().await });
        let (running, tracked) = (drain.clone(), streams.clone());
        let settings = watch::Sender::new(settings(10, 60));
        let seen = settings.subscribe();
        let run = tokio::spawn(async move { running.run(seen, &tracked).await });
        tokio::task::yield_now().await;
        assert!(drain.is_unready() && !drain.is_closed());
        drain.closed().await;
        let closed = tokio::time::Instant::now();
        run.await.expect("drain does not panic");
        assert_eq!(closed.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn settings_that_change_hold_in_a_drain_that_has_begun() {
        let (drain, streams) = (Drain::new(), TaskTracker::new());
        let waiting = drain.clone();
        streams.spawn(async move { waiting.expired().await });
        let (running, tracked) = (drain.clone(), streams.clone());
        let sender = watch::Sender::new(settings(0, 600));
        let seen = sender.subscribe();
        let run = tokio::spawn(async move { running.run(seen, &tracked).await });
        drain.closed().await;
        let closed = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        sender.send_replace(settings(0, 30));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!run.is_finished());
        sender.send_replace(settings(0, 8));
        run.await.expect("drain does not panic");
        assert_eq!(closed.elapsed(), Duration::from_secs(10), "8 s were over already");
    }
}
