//! The phases of stopping, as tokens that anything may wait for. Decides when; what each part then does is its own.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

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

    /// Walks through the phases: not ready at once, no new connections after `deregister`, then until all streams of
    /// `streams` have ended but no longer than `grace`.
    pub async fn run(&self, deregister: Duration, grace: Duration, streams: &TaskTracker) {
        self.unready.cancel();
        tokio::time::sleep(deregister).await;
        self.closed.cancel();
        streams.close();
        if tokio::time::timeout(grace, streams.wait()).await.is_err() {
            self.expired.cancel();
            // Each stream has still to say its last word; a client that does not read it must not hold the process.
            let _ = tokio::time::timeout(Duration::from_secs(5), streams.wait()).await;
        }
        self.expired.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_goes_first_then_the_listener_then_the_streams() {
        let (drain, streams) = (Drain::new(), TaskTracker::new());
        let waiting = drain.clone();
        streams.spawn(async move { waiting.expired().await });
        let (running, tracked) = (drain.clone(), streams.clone());
        let run = tokio::spawn(async move {
            running.run(Duration::from_secs(10), Duration::from_secs(60), &tracked).await;
        });
        tokio::task::yield_now().await;
        assert!(drain.is_unready() && !drain.is_closed());
        drain.closed().await;
        let closed = tokio::time::Instant::now();
        run.await.expect("drain does not panic");
        assert_eq!(closed.elapsed(), Duration::from_secs(60));
    }
}
