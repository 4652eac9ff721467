//! Waits for what no condition of Kubernetes tells: bounded, and with words for what never came.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take. Far more than it does, so that only what never happens fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
