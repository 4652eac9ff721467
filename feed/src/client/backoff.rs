//! How long to wait before the next try: random, so that a thousand clients of one server do not come at once, and longer
//! after each failure.

use std::time::Duration;

/// Waits of one client.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Up to `first` after the first failure, and never more than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The next wait: up to the bound of this failure, and no less than a tenth of it.
    pub fn wait(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.1..=1.0))
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        self.first.saturating_mul(1 << self.failures.min(16)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for bound in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.bound(), Duration::from_millis(bound));
            let wait = backoff.wait();
            assert!(wait >= Duration::from_millis(bound / 10) && wait <= Duration::from_millis(bound), "{wait:?}");
        }
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(100));
    }
}
