//! What this process changed on a scope and all processes have not counted together yet: signed, by bucket and period.

use table::Period;

use crate::limit::{
    budget::Epoch,
    counter::{Charge, Counter, Now, Outcome},
    redis::exchange::{BudgetDelta, RateDelta},
    rule::{Counted, Rule, Span},
    window::{BucketIndex, Millis},
};

/// The largest whole number that scripts keep exactly.
const MOST: i64 = (1 << 53) - 1;

/// Changes of the counters of one scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Deltas {
    rates: Vec<(Counted, Span, BucketIndex, Change)>,
    budgets: Vec<(Period, Epoch, Change)>,
}

/// How one counter changed.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    /// By how much more counts.
    amount: i64,
    /// By how much more open requests may still give back.
    held: i64,
}

impl Change {
    fn add(&mut self, amount: i64, held: i64) {
        self.amount = self.amount.saturating_add(amount).clamp(-MOST, MOST);
        self.held = self.held.saturating_add(held).clamp(-MOST, MOST);
    }

    fn is_nothing(self) -> bool {
        (self.amount, self.held) == (0, 0)
    }
}

impl Deltas {
    /// Takes in what was charged.
    pub(super) fn charge(&mut self, charge: &Charge) {
        for (rate, bucket) in charge.rates() {
            self.rate(rate.counted, rate.span, bucket).add(signed(rate.amount), signed(rate.amount));
        }
        for (period, epoch, amount) in charge.budgets() {
            self.budget(period, epoch).add(signed(amount), signed(amount));
        }
    }

    /// Takes in how a charge ended.
    pub(super) fn conclude(&mut self, charge: &Charge, outcome: Outcome) {
        for (rate, bucket) in charge.rates() {
            let (reserved, used) = (signed(rate.amount), signed(outcome.counts(rate)));
            self.rate(rate.counted, rate.span, bucket).add(used - reserved, -reserved);
        }
        for (period, epoch, amount) in charge.budgets() {
            let (reserved, spent) = (signed(amount), signed(outcome.spends(amount)));
            self.budget(period, epoch).add(spent - reserved, -reserved);
        }
    }

    /// At most by how much these changes raised what counts against a rate: an earlier bucket may have faded since, so
    /// what was given back to it is left out.
    pub(super) fn drawn_from_rate(&self, counted: Counted, span: Span, now: Now) -> i64 {
        let current = now.mono / millis(span);
        let of_rate = self.rates.iter().filter(|(c, s, ..)| (*c, *s) == (counted, span));
        let parts = of_rate.map(|(_, _, bucket, change)| match current.saturating_sub(*bucket) {
            0 => change.amount,
            1 => change.amount.max(0),
            _ => 0,
        });
        parts.sum()
    }

    /// By how much these changes raised what is spent of a budget.
    pub(super) fn drawn_from_budget(&self, period: Period) -> i64 {
        let latest = self.budgets.iter().filter(|(known, ..)| *known == period).max_by_key(|(_, epoch, _)| *epoch);
        latest.map_or(0, |(.., change)| change.amount)
    }

    /// Makes the changes on a counter.
    pub(super) fn apply(&self, counter: &mut Counter, now: Now) {
        for (counted, span, bucket, change) in &self.rates {
            counter.shift_rate(*counted, *span, *bucket, change.amount, now);
        }
        for (period, epoch, change) in &self.budgets {
            counter.shift_budget(*period, *epoch, change.amount);
        }
    }

    /// Forgets changes of buckets and periods that are gone, and those that cancelled each other out.
    pub(super) fn tidy(&mut self, counter: &Counter, now: Now) {
        let is_kept = |span: Span, bucket: BucketIndex| bucket + 1 >= now.mono / millis(span);
        self.rates.retain(|(_, span, bucket, change)| !change.is_nothing() && is_kept(*span, *bucket));
        self.budgets
            .retain(|(period, epoch, change)| !change.is_nothing() && counter.bounds(*period, *epoch, now).is_some());
    }

    /// Takes in other changes that come on top.
    pub(super) fn absorb(&mut self, other: Self) {
        for (counted, span, bucket, Change { amount, held }) in other.rates {
            self.rate(counted, span, bucket).add(amount, held);
        }
        for (period, epoch, Change { amount, held }) in other.budgets {
            self.budget(period, epoch).add(amount, held);
        }
    }

    /// Whether any budget changed.
    pub(super) fn has_money(&self) -> bool {
        !self.budgets.is_empty()
    }

    /// Whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.budgets.is_empty()
    }

    /// As the script reads them.
    pub(super) fn written(&self, counter: &Counter, now: Now) -> (Vec<RateDelta>, Vec<BudgetDelta>) {
        let rates = self.rates.iter().map(|(counted, span, bucket, Change { amount, held })| {
            let name = Rule::Rate { counted: *counted, span: *span }.as_str();
            RateDelta(name, millis(*span), *bucket, *amount, *held)
        });
        let budgets = self.budgets.iter().filter_map(|(period, epoch, Change { amount, held })| {
            let bounds = counter.bounds(*period, *epoch, now)?;
            let start = u64::try_from(bounds.start.as_millisecond()).unwrap_or_default();
            let end = bounds.end.map_or(0, |end| u64::try_from(end.as_millisecond()).unwrap_or_default());
            Some(BudgetDelta(Rule::Budget(*period).as_str(), start, end, *amount, *held))
        });
        (rates.collect(), budgets.collect())
    }

    fn rate(&mut self, counted: Counted, span: Span, bucket: BucketIndex) -> &mut Change {
        let known = self.rates.iter().position(|(c, s, b, _)| (*c, *s, *b) == (counted, span, bucket));
        let place = known.unwrap_or_else(|| {
            self.rates.push((counted, span, bucket, Change::default()));
            self.rates.len() - 1
        });
        &mut self.rates[place].3
    }

    fn budget(&mut self, period: Period, epoch: Epoch) -> &mut Change {
        let known = self.budgets.iter().position(|(p, e, _)| (*p, *e) == (period, epoch));
        let place = known.unwrap_or_else(|| {
            self.budgets.push((period, epoch, Change::default()));
            self.budgets.len() - 1
        });
        &mut self.budgets[place].2
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(MOST).min(MOST)
}

fn millis(span: Span) -> Millis {
    u64::try_from(span.length().as_millis()).expect("a day has few milliseconds")
}
