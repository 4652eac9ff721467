//! The phases of stopping, as tokens that anything may wait for. Decides when; what each part then does is its own.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::in_force::Stopping;

/// A time that never comes, which no clock overflows by.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The phases of stopping, and the tasks that have to end before the process may.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    unready: CancellationToken,
    closed: CancellationToken,
    expired: CancellationToken,
    /// Every task that the process waits for.
    pub tasks: TaskTracker,
}

impl Drain {
    /// Nothing is stopping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether readiness is gone.
    pub fn is_unready(&self) -> bool {
        self.unready.is_cancelled()
    }

    /// Resolves when readiness is gone.
    pub async fn unready(&self) {
        self.unready.cancelled().await;
    }

    /// Resolves when no more connections are accepted and open ones shall be closed after their request.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether connections are being closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Resolves when open streams must end now.
    pub async fn expired(&self) {
        self.expired.cancelled().await;
    }

    /// A token for tasks that run until streams have ended.
    pub fn until_expired(&self) -> CancellationToken {
        self.expired.child_token()
    }

    /// Walks through the phases: not ready at once, no new connections after the deregister delay, then until all streams
    /// of `streams` have ended but no longer than the grace. Settings that change meanwhile hold at once.
    pub async fn run(&self, mut settings: watch::Receiver<Stopping>, streams: &TaskTracker) {
        self.unready.cancel();
        passed(&mut settings, |stopping| stopping.deregister).await;
        self.closed.cancel();
        streams.close();
        let is_over = tokio::select! {
            biased;
            () = streams.wait() => false,
            () = passed(&mut settings, |stopping| stopping.grace) => true,
        };
        if is_over {
            self.expired.cancel();
            // Each stream has still to say its last word; a client that does not read it must not hold the process.
            let _ = tokio::time::timeout(Duration::from_secs(5), streams.wait()).await;
        }
        self.expired.cancel();
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
