//! The sliding-window counter: two buckets, the earlier one weighted by the share of it that the window still covers.
//!
//! Pure: time is an argument, in milliseconds of a clock that never goes back. What an amount means is left to others.

use super::rule::Span;

/// Milliseconds since the limiter's start.
pub type Millis = u64;

/// What a window lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// The limit.
    pub limit: u64,
    /// How far it may be exceeded for a moment, in percent of it, 100 at most; what a burst takes beyond the limit, the
    /// neighbouring windows have less: two buckets in a row never hold more than twice the limit.
    pub burst_percent: u32,
}

impl Ceiling {
    /// A ceiling without bursts.
    pub fn flat(limit: u64) -> Self {
        Self { limit, burst_percent: 0 }
    }

    /// The most that the window ever holds.
    pub fn capacity(self) -> u64 {
        let burst = u128::from(self.limit) * u128::from(self.burst_percent.min(100)) / 100;
        u64::try_from(u128::from(self.limit) + burst).unwrap_or(u64::MAX)
    }

    /// The most that two buckets in a row ever hold together.
    pub(super) fn pair(self) -> u64 {
        match self.burst_percent {
            // Without a burst the weighted sum alone decides.
            0 => u64::MAX,
            _ => self.limit.saturating_mul(2),
        }
    }
}

/// Which bucket an amount was added to.
pub type BucketIndex = u64;

/// The counter of one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    index: BucketIndex,
    current: u64,
    previous: u64,
}

impl Window {
    /// A counter as it was kept elsewhere.
    pub(super) fn restored(index: BucketIndex, current: u64, previous: u64) -> Self {
        Self { index, current, previous }
    }

    /// Moves on to `now`. Returns the index of the bucket that is current then.
    pub fn roll(&mut self, span: Span, now: Millis) -> BucketIndex {
        let index = now / millis(span);
        match index.saturating_sub(self.index) {
            0 => {}
            1 => (self.previous, self.current) = (self.current, 0),
            _ => (self.previous, self.current) = (0, 0),
        }
        self.index = self.index.max(index);
        self.index
    }

    /// What counts now; the part of the earlier bucket is rounded up.
    pub fn used(&self, span: Span, now: Millis) -> u64 {
        let length = millis(span);
        let covered = length - now % length;
        self.current.saturating_add(share(self.previous, covered, length))
    }

    /// What still fits under a ceiling.
    pub fn room(&self, span: Span, now: Millis, ceiling: Ceiling) -> u64 {
        let weighted = ceiling.capacity().saturating_sub(self.used(span, now));
        weighted.min(ceiling.pair().saturating_sub(self.current.saturating_add(self.previous)))
    }

    /// After how long `amount` fits if nothing else comes: 0 when it does now, `None` when it never will. Exact to the
    /// millisecond: just before, it does not fit.
    pub fn wait(&self, span: Span, now: Millis, ceiling: Ceiling, amount: u64) -> Option<Millis> {
        let room = ceiling.capacity().checked_sub(amount)?;
        Some(self.wait_for_share(span, now, room).max(self.wait_for_pair(span, now, ceiling.pair(), amount)))
    }

    /// After how long nothing counts any more if nothing else comes.
    pub fn wait_for_empty(&self, span: Span, now: Millis) -> Millis {
        self.wait_for_share(span, now, 0)
    }

    /// Adds to the bucket that was current at [`Window::roll`].
    pub fn add(&mut self, amount: u64) {
        self.current = self.current.saturating_add(amount);
    }

    /// Replaces what was reserved in a bucket by what was used. Nothing happens when that bucket is gone.
    pub fn correct(&mut self, bucket: BucketIndex, reserved: u64, used: u64) {
        if let Some(bucket) = self.bucket(bucket) {
            *bucket = bucket.saturating_sub(reserved).saturating_add(used);
        }
    }

    /// Adds to a bucket, or takes from it. Nothing happens when that bucket is gone.
    pub fn shift(&mut self, bucket: BucketIndex, by: i64) {
        if let Some(bucket) = self.bucket(bucket) {
            *bucket = bucket.saturating_add_signed(by);
        }
    }

    fn bucket(&mut self, index: BucketIndex) -> Option<&mut u64> {
        match self.index.checked_sub(index)? {
            0 => Some(&mut self.current),
            1 => Some(&mut self.previous),
            _ => None,
        }
    }

    /// After how long at most `room` counts.
    fn wait_for_share(&self, span: Span, now: Millis, room: u64) -> Millis {
        let length = millis(span);
        let elapsed = now % length;
        if let Some(room) = room.checked_sub(self.current) {
            let until = fades_to(self.previous, room, length);
            if until < length {
                return until.saturating_sub(elapsed);
            }
        }
        (length - elapsed) + fades_to(self.current, room, length)
    }

    /// After how long `amount` fits beside the buckets before it.
    fn wait_for_pair(&self, span: Span, now: Millis, pair: u64, amount: u64) -> Millis {
        let length = millis(span);
        let next = length - now % length;
        let fits = |held: u64| held.saturating_add(amount) <= pair;
        match () {
            () if fits(self.current.saturating_add(self.previous)) => 0,
            () if fits(self.current) => next,
            () => next + length,
        }
    }
}

/// From which point of the bucket after it on a bucket of `amount` counts for `room` at most.
fn fades_to(amount: u64, room: u64, length: Millis) -> Millis {
    if amount <= room {
        return 0;
    }
    let covered = u128::from(room) * u128::from(length) / u128::from(amount);
    length - u64::try_from(covered).unwrap_or(length).min(length)
}

/// The part of `amount` that is still covered, rounded up.
fn share(amount: u64, covered: Millis, length: Millis) -> u64 {
    if let Some(product) = amount.checked_mul(covered) {
        // As below, where numbers are as small as they usually are.
        return product.div_ceil(length);
    }
    let part = (u128::from(amount) * u128::from(covered)).div_ceil(u128::from(length));
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn millis(span: Span) -> Millis {
    u64::try_from(span.length().as_millis()).expect("a day has few milliseconds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Millis = 60_000;

    fn holding(previous: u64, current: u64, now: Millis) -> Window {
        Window { index: now / MINUTE, current, previous }
    }

    #[test]
    fn the_earlier_bucket_fades_with_the_time_that_passed() {
        let window = holding(100, 10, MINUTE);
        assert_eq!(window.used(Span::Minute, MINUTE), 110);
        assert_eq!(window.used(Span::Minute, MINUTE + 30_000), 60);
        assert_eq!(window.used(Span::Minute, MINUTE + 59_999), 11);
    }

    #[test]
    fn rolling_keeps_one_earlier_bucket_and_forgets_older_ones() {
        let mut window = holding(5, 7, 0);
        window.roll(Span::Minute, MINUTE);
        assert_eq!((window.previous, window.current), (7, 0));
        window.roll(Span::Minute, 3 * MINUTE);
        assert_eq!((window.previous, window.current), (0, 0));
    }

    #[test]
    fn a_correction_goes_to_its_own_bucket_or_nowhere() {
        let mut window = holding(100, 50, 5 * MINUTE);
        window.correct(5, 50, 20);
        window.correct(4, 100, 150);
        window.correct(3, 1, 999);
        assert_eq!((window.previous, window.current), (150, 20));
    }

    #[test]
    fn a_burst_is_paid_back_by_the_next_window() {
        let ceiling = Ceiling { limit: 100, burst_percent: 50 };
        let mut window = Window::default();
        assert_eq!(window.wait(Span::Minute, 0, ceiling, 150), Some(0));
        window.add(150);
        window.roll(Span::Minute, 2 * MINUTE - 1);
        assert_eq!(window.room(Span::Minute, 2 * MINUTE - 1, ceiling), 50);
    }

    #[test]
    fn more_than_the_capacity_never_fits() {
        assert_eq!(Window::default().wait(Span::Day, 0, Ceiling::flat(10), 11), None);
        assert_eq!(Window::default().wait(Span::Day, 0, Ceiling::flat(10), 10), Some(0));
    }

    proptest! {
        #[test]
        fn waiting_as_told_is_enough_and_a_millisecond_less_is_not(
            previous in 0_u64..5_000, current in 0_u64..5_000, at in 0_u64..MINUTE,
            limit in 1_u64..2_000, burst_percent in 0_u32..=100, amount in 0_u64..2_000,
        ) {
            let (now, ceiling) = (10 * MINUTE + at, Ceiling { limit, burst_percent });
            let window = holding(previous, current, now);
            let fits_after = |wait: Millis| {
                let mut later = window;
                later.roll(Span::Minute, now + wait);
                later.used(Span::Minute, now + wait) + amount <= ceiling.capacity()
                    && later.current + later.previous + amount <= ceiling.pair()
            };
            match window.wait(Span::Minute, now, ceiling, amount) {
                None => prop_assert!(amount > ceiling.capacity()),
                Some(0) => prop_assert!(fits_after(0)),
                Some(wait) => {
                    prop_assert!(fits_after(wait), "after {wait}");
                    prop_assert!(!fits_after(wait - 1), "already after {}", wait - 1);
                }
            }
        }
    }
}
