//! What a breaker counts: failures in a row with the cooldowns that they earn, and a share of failures in a window.

use std::time::{Duration, Instant};

use table::ServerErrorBreaker;

/// Failures of one class in a row, and how often they have led to an opening since it was last well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ladder {
    pub(super) strikes: u32,
    pub(super) rung: u32,
}

impl Ladder {
    /// The cooldown of the next rung: `first` doubled at each, `most` at the end, never below `first`.
    pub(super) fn climb(&mut self, first: Duration, most: Duration) -> Duration {
        let cooldown = first.saturating_mul(2_u32.saturating_pow(self.rung)).min(most.max(first));
        self.step();
        cooldown
    }

    /// The next rung.
    pub(super) fn step(&mut self) {
        self.rung = self.rung.saturating_add(1);
        self.strikes = 0;
    }
}

/// Answers and failures of the last while, in two halves, so that old ones leave without a list of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Window {
    half: Option<Instant>,
    now: Counts,
    before: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    all: u32,
    failed: u32,
}

impl Window {
    /// Counts one answer.
    pub(super) fn count(&mut self, failed: bool, now: Instant, length: Duration) {
        self.roll(now, length / 2);
        self.now.all = self.now.all.saturating_add(1);
        self.now.failed = self.now.failed.saturating_add(u32::from(failed));
    }

    /// Whether enough was counted, and too much of it failed.
    pub(super) fn is_over(&self, settings: &ServerErrorBreaker) -> bool {
        let all = self.now.all.saturating_add(self.before.all);
        let failed = self.now.failed.saturating_add(self.before.failed);
        all >= settings.min_requests.max(1)
            && u64::from(failed) * 100 >= u64::from(settings.ratio_percent.max(1)) * u64::from(all)
    }

    fn roll(&mut self, now: Instant, half: Duration) {
        let began = *self.half.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed < half {
            return;
        }
        self.before = if passed < half * 2 { self.now } else { Counts::default() };
        self.now = Counts::default();
        self.half = Some(now);
    }
}
