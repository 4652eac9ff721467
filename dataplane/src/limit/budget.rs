//! Money in calendar periods: when a period of a time zone begins and ends, and what was spent in it.
//!
//! Pure: the time is an argument. Whether a spent budget refuses is left to others.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};
use table::Period;

/// A calendar period as instants: from the start on, until just before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant of the next one; absent: it never ends.
    pub end: Option<Timestamp>,
}

impl Bounds {
    /// The period that holds `now` in an IANA time zone. A zone that is not known counts as UTC: the compiler refuses
    /// such a name, so it can only be one that this machine lacks.
    pub fn holding(now: Timestamp, period: Period, timezone: &str) -> Self {
        let zone = TimeZone::get(timezone).unwrap_or_else(|error| {
            tracing::warn!(timezone, %error, "budgets count in UTC: this machine does not know time zone `{timezone}`");
            TimeZone::UTC
        });
        // Only dates beyond the calendar's end have no next period.
        Self::of(&now.to_zoned(zone), period).unwrap_or(Self { start: Timestamp::MIN, end: None })
    }

    fn of(now: &Zoned, period: Period) -> Result<Self, jiff::Error> {
        let first = match period {
            Period::Day => now.date(),
            Period::Week => now.date().checked_sub(i64::from(now.weekday().to_monday_zero_offset()).days())?,
            Period::Month => now.date().first_of_month(),
            Period::Total => return Ok(Self { start: Timestamp::MIN, end: None }),
        };
        let next = match period {
            Period::Day => first.tomorrow()?,
            Period::Week => first.checked_add(1.week())?,
            Period::Month => first.checked_add(1.month())?,
            Period::Total => return Ok(Self { start: Timestamp::MIN, end: None }),
        };
        // Not "24 hours later": where clocks change, days have 23 or 25 hours, and midnight may not exist.
        let instant =
            |date: jiff::civil::Date| Ok::<_, jiff::Error>(date.to_zoned(now.time_zone().clone())?.timestamp());
        Ok(Self { start: instant(first)?, end: Some(instant(next)?) })
    }
}

/// Which period an amount was charged in: counts the periods that began while this counter lived.
pub type Epoch = u64;

/// What was spent in the current period of one budget.
#[derive(Clone, Debug)]
pub struct Spending {
    timezone: Arc<str>,
    bounds: Bounds,
    epoch: Epoch,
    spent: u64,
}

impl Spending {
    /// Nothing spent yet.
    pub fn new(now: Timestamp, period: Period, timezone: &Arc<str>) -> Self {
        Self { timezone: timezone.clone(), bounds: Bounds::holding(now, period, timezone), epoch: 0, spent: 0 }
    }

    /// A budget as it was kept elsewhere.
    pub(super) fn restored(bounds: Bounds, spent: u64, timezone: &Arc<str>) -> Self {
        Self { timezone: timezone.clone(), bounds, epoch: 0, spent }
    }

    /// Takes over what was counted elsewhere in the period that is there; `None`: nothing.
    pub(super) fn adopt(&mut self, counted: Option<&Spending>, now: Timestamp) {
        let counted = counted.filter(|counted| !counted.ended(now));
        self.spent = counted.map_or(0, |counted| counted.spent);
        if let Some(counted) = counted {
            self.epoch += Epoch::from(self.ended(now));
            self.bounds = counted.bounds;
        }
    }

    /// Moves on to the period of `now`. A clock that steps back, and a time zone that was changed, do not make a budget
    /// new: only the end of the period does.
    pub fn roll(&mut self, now: Timestamp, period: Period, timezone: &Arc<str>) {
        if self.ended(now) {
            *self = Self { epoch: self.epoch + 1, ..Self::new(now, period, timezone) };
        } else if self.timezone != *timezone {
            let bounds = Bounds::holding(now, period, timezone);
            if bounds.start >= self.bounds.start {
                self.bounds = bounds;
            }
            self.timezone = timezone.clone();
        }
    }

    /// Whether the period is over.
    pub fn ended(&self, now: Timestamp) -> bool {
        self.bounds.end.is_some_and(|end| now >= end)
    }

    /// Nano-USD spent or reserved in this period; as of `now`, so nothing once the period is over.
    pub fn spent(&self, now: Timestamp) -> u64 {
        if self.ended(now) { 0 } else { self.spent }
    }

    /// The period's number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the period begins and ends.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The period's last instant plus one; absent: it never ends.
    pub fn end(&self) -> Option<Timestamp> {
        self.bounds.end
    }

    /// Spends or reserves in the current period.
    pub fn add(&mut self, amount: u64) {
        self.spent = self.spent.saturating_add(amount);
    }

    /// Replaces what was reserved in a period by what was spent. Nothing happens when that period is over.
    pub fn correct(&mut self, epoch: Epoch, reserved: u64, spent: u64) {
        if epoch == self.epoch {
            self.spent = self.spent.saturating_sub(reserved).saturating_add(spent);
        }
    }

    /// Adds to what was spent in a period, or takes from it. Nothing happens when that period is over.
    pub fn shift(&mut self, epoch: Epoch, by: i64) {
        if epoch == self.epoch {
            self.spent = self.spent.saturating_add_signed(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a test writes valid times")
    }

    fn bounds(now: &str, period: Period, timezone: &str) -> (String, String) {
        let bounds = Bounds::holding(at(now), period, timezone);
        (bounds.start.to_string(), bounds.end.map_or(String::new(), |end| end.to_string()))
    }

    fn pair(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let day = bounds("2026-01-15T23:30:00Z", Period::Day, "Europe/Berlin");
        assert_eq!(day, pair("2026-01-15T23:00:00Z", "2026-01-16T23:00:00Z"));
    }

    #[test]
    fn a_day_has_23_hours_in_spring_and_25_in_autumn() {
        let spring = bounds("2026-03-29T10:00:00Z", Period::Day, "Europe/Berlin");
        assert_eq!(spring, pair("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"));
        let autumn = bounds("2026-10-25T10:00:00Z", Period::Day, "Europe/Berlin");
        assert_eq!(autumn, pair("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"));
    }

    #[test]
    fn a_day_without_a_midnight_begins_when_the_clock_jumps() {
        // In Beirut the clock jumps from 00:00 to 01:00.
        let day = bounds("2026-03-29T10:00:00Z", Period::Day, "Asia/Beirut");
        assert_eq!(day, pair("2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"));
    }

    #[test]
    fn a_week_begins_on_monday_and_a_month_on_its_first() {
        let week = bounds("2026-11-22T12:00:00Z", Period::Week, "UTC");
        assert_eq!(week, pair("2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"));
        let month = bounds("2026-02-28T12:00:00Z", Period::Month, "America/New_York");
        assert_eq!(month, pair("2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z"));
    }

    #[test]
    fn a_total_never_ends() {
        assert_eq!(Bounds::holding(at("2026-01-01T00:00:00Z"), Period::Total, "UTC").end, None);
    }

    #[test]
    fn a_clock_that_steps_back_over_midnight_does_not_renew_a_budget() {
        let mut spending = Spending::new(at("2026-01-02T00:00:10Z"), Period::Day, &"UTC".into());
        spending.add(5);
        spending.roll(at("2026-01-01T23:59:50Z"), Period::Day, &"UTC".into());
        spending.roll(at("2026-01-02T00:00:20Z"), Period::Day, &"UTC".into());
        assert_eq!(spending.spent(at("2026-01-02T00:00:20Z")), 5);
    }

    #[test]
    fn another_time_zone_moves_the_end_and_keeps_what_was_spent() {
        let mut spending = Spending::new(at("2026-01-02T12:00:00Z"), Period::Day, &"UTC".into());
        spending.add(5);
        spending.roll(at("2026-01-02T12:00:00Z"), Period::Day, &"America/New_York".into());
        assert_eq!(spending.spent(at("2026-01-02T12:00:00Z")), 5);
        assert_eq!(spending.end(), Some(at("2026-01-03T05:00:00Z")));
    }

    #[test]
    fn another_time_zone_never_makes_a_period_end_earlier() {
        let mut spending = Spending::new(at("2026-01-02T12:00:00Z"), Period::Day, &"UTC".into());
        spending.roll(at("2026-01-02T12:00:00Z"), Period::Day, &"Asia/Tokyo".into());
        assert_eq!(spending.end(), Some(at("2026-01-03T00:00:00Z")));
        spending.roll(at("2026-01-03T00:00:00Z"), Period::Day, &"Asia/Tokyo".into());
        assert_eq!(spending.end(), Some(at("2026-01-03T15:00:00Z")));
    }

    #[test]
    fn what_is_settled_late_does_not_touch_the_next_period() {
        let mut spending = Spending::new(at("2026-01-01T12:00:00Z"), Period::Day, &"UTC".into());
        let epoch = spending.epoch();
        spending.add(5);
        spending.roll(at("2026-01-02T00:00:00Z"), Period::Day, &"UTC".into());
        spending.correct(epoch, 5, 100);
        assert_eq!(spending.spent(at("2026-01-02T00:00:00Z")), 0);
    }
}
