//! How many Events there may be: a few at once for each object, then one every few minutes, and a ceiling over all.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Events of one object at once, and after how long there may be one more.
const OF_ONE: (f64, Duration) = (10.0, Duration::from_secs(300));
/// The same of all objects together.
const OF_ALL: (f64, Duration) = (200.0, Duration::from_millis(100));
/// How many objects are remembered before those that have all of theirs back are forgotten.
const REMEMBERED: usize = 4_096;

/// What is left to be told.
#[derive(Debug)]
pub struct Budget<K> {
    all: Bucket,
    each: HashMap<K, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full((most, _): (f64, Duration), now: Instant) -> Self {
        Self { left: most, at: now }
    }

    fn refill(&mut self, (most, every): (f64, Duration), now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() / every.as_secs_f64()).min(most);
        self.at = now;
    }
}

impl<K: Eq + Hash> Budget<K> {
    /// All of it.
    pub fn new(now: Instant) -> Self {
        Self { all: Bucket::full(OF_ALL, now), each: HashMap::new() }
    }

    /// Whether there may be an Event about `key` at `now`; if so it is taken off.
    pub fn take(&mut self, key: K, now: Instant) -> bool {
        if self.each.len() >= REMEMBERED {
            self.each.retain(|_, bucket| {
                bucket.refill(OF_ONE, now);
                bucket.left < OF_ONE.0
            });
        }
        self.all.refill(OF_ALL, now);
        let own = self.each.entry(key).or_insert_with(|| Bucket::full(OF_ONE, now));
        own.refill(OF_ONE, now);
        let is_granted = own.left >= 1.0 && self.all.left >= 1.0;
        if is_granted {
            own.left -= 1.0;
            self.all.left -= 1.0;
        }
        is_granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_keeps_failing_is_told_about_now_and_then() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let granted = |budget: &mut Budget<&str>, key, seconds| {
            (0..20).filter(|_| budget.take(key, start + Duration::from_secs(seconds))).count()
        };
        assert_eq!(granted(&mut budget, "a", 0), 10);
        assert_eq!(granted(&mut budget, "b", 0), 10, "another object has its own");
        assert_eq!(granted(&mut budget, "a", 299), 0);
        assert_eq!(granted(&mut budget, "a", 600), 2);
    }

    #[test]
    fn all_objects_together_have_a_ceiling_too() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!((0..1_000).filter(|n| budget.take(*n, start)).count(), 200);
        assert_eq!((0..1_000).filter(|n| budget.take(*n, start + Duration::from_secs(1))).count(), 10);
    }

    #[test]
    fn objects_that_were_quiet_are_forgotten() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for n in 0..2 * REMEMBERED {
            budget.take(n, start + Duration::from_secs(3_600 * n as u64));
        }
        assert!(budget.each.len() <= REMEMBERED, "{}", budget.each.len());
    }
}
