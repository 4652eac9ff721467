//! How many repeats on the same key a host's traffic has earned, so that repeats cannot multiply an outage.

use std::sync::atomic::{AtomicU64, Ordering};

/// Thousandths of one repeat.
const ONE: u64 = 1000;
/// What a host starts with, and may always save up: quiet hosts can repeat too.
const RESERVE: u64 = 10 * ONE;
/// The most that is saved up.
const MOST: u64 = 100 * ONE;

/// Repeats that a host's traffic has earned.
#[derive(Debug)]
pub struct RetryBudget(AtomicU64);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU64::new(RESERVE))
    }
}

impl RetryBudget {
    /// A request was sent that is no repeat; it earns `percent` of one.
    pub fn deposit(&self, percent: u32) {
        let earned = u64::from(percent.min(100)) * ONE / 100;
        let add = |saved: u64| (saved < MOST).then(|| (saved + earned).min(MOST));
        // Refused only where the most is saved up already.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one repeat; false: none is left, or `percent` is 0 and nothing is ever repeated.
    pub fn withdraw(&self, percent: u32) -> bool {
        let take = |saved: u64| saved.checked_sub(ONE);
        percent > 0 && self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_share_of_traffic_beyond_the_reserve() {
        let budget = RetryBudget::default();
        let spent = |budget: &RetryBudget| (0..1000).take_while(|_| budget.withdraw(20)).count();
        assert_eq!(spent(&budget), 10);
        for _ in 0..100 {
            budget.deposit(20);
        }
        assert_eq!(spent(&budget), 20);
        for _ in 0..100_000 {
            budget.deposit(20);
        }
        assert_eq!(spent(&budget), 100);
    }

    #[test]
    fn a_budget_of_nothing_repeats_nothing() {
        assert!(!RetryBudget::default().withdraw(0));
    }
}
