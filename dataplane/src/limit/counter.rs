//! The counters of one scope: whether a claim fits, and what writing it changes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use smallvec::SmallVec;
use table::Period;

use super::{
    CONCURRENCY_RETRY, RuleUsage,
    budget::{Bounds, Epoch, Spending},
    claims::{BudgetClaim, RateClaim, ScopeClaim},
    reservation::{BudgetAlert, RuleStanding, Standing, Used},
    rule::{Counted, Rule, RuleRef, Scope, Span},
    window::{BucketIndex, Millis, Window},
};

/// Both clocks, read once for each decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) mono: Millis,
    pub(super) wall: Timestamp,
}

/// The counters of one scope. A rate or budget that nobody claimed has none: a new limit starts at zero.
#[derive(Debug, Default)]
pub(super) struct Counter {
    rates: SmallVec<[(Counted, Span, Window); 4]>,
    budgets: SmallVec<[(Period, Spending); 1]>,
    in_flight: u64,
}

/// A rule that refuses a claim.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) rule: RuleRef,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Absent: for good.
    pub(super) wait: Option<Millis>,
}

impl Verdict {
    /// The one of two that refuses longer.
    pub(super) fn longer(self, other: Self) -> Self {
        if other.ends() > self.ends() { other } else { self }
    }

    /// The one of two that refuses shorter.
    pub(super) fn shorter(self, other: Self) -> Self {
        if other.ends() < self.ends() { other } else { self }
    }

    fn ends(&self) -> Millis {
        self.wait.unwrap_or(Millis::MAX)
    }
}

/// What was written on one scope, to be replaced or given back later.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) scope: Arc<Scope>,
    rates: SmallVec<[(RateClaim, BucketIndex); 4]>,
    budgets: SmallVec<[(Period, Epoch, u64); 1]>,
}

impl Charge {
    /// Each rate that was charged: its claim, and the bucket.
    pub(super) fn rates(&self) -> impl Iterator<Item = (&RateClaim, BucketIndex)> {
        self.rates.iter().map(|(rate, bucket)| (rate, *bucket))
    }

    /// Each budget that was charged: its period, which of them, and how much.
    pub(super) fn budgets(&self) -> impl Iterator<Item = (Period, Epoch, u64)> {
        self.budgets.iter().copied()
    }
}

/// What is to become of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So much was used.
    Used(Used),
    /// It never ran: nothing stays.
    NeverRan,
    /// It ran, and nobody knows what it used: the request and the money stay.
    Unknown,
    /// Its holder died: the money stays.
    Expired,
}

impl Outcome {
    /// What stays of a rate's charge.
    pub(super) fn counts(self, rate: &RateClaim) -> u64 {
        match self {
            Outcome::Used(used) => rate.used(&used),
            Outcome::Unknown if rate.counted == Counted::Requests => rate.amount,
            Outcome::Unknown | Outcome::NeverRan | Outcome::Expired => 0,
        }
    }

    /// What stays of the money that was reserved.
    pub(super) fn spends(self, reserved: u64) -> u64 {
        match self {
            Outcome::Used(used) => used.cost.0,
            Outcome::NeverRan => 0,
            Outcome::Unknown | Outcome::Expired => reserved,
        }
    }
}

impl Counter {
    /// Counters as they were kept elsewhere.
    pub(super) fn restored(
        rates: impl IntoIterator<Item = (Counted, Span, Window)>,
        budgets: impl IntoIterator<Item = (Period, Spending)>,
        in_flight: u64,
    ) -> Self {
        Self { rates: rates.into_iter().collect(), budgets: budgets.into_iter().collect(), in_flight }
    }

    /// The rule that refuses the claim longest; none: it fits.
    pub(super) fn refusal(&mut self, claim: &ScopeClaim, now: Now) -> Option<Verdict> {
        let rates = claim.rates.iter().filter_map(|rate| self.refuse_rate(claim, rate, now));
        let mut worst = rates.reduce(Verdict::longer);
        let budgets = claim.budgets.iter().filter_map(|budget| self.refuse_budget(claim, budget, now));
        worst = worst.into_iter().chain(budgets).reduce(Verdict::longer);
        worst.into_iter().chain(self.refuse_slot(claim)).reduce(Verdict::longer)
    }

    fn refuse_rate(&mut self, claim: &ScopeClaim, rate: &RateClaim, now: Now) -> Option<Verdict> {
        let window = self.window(rate.counted, rate.span, now);
        let wait = window.wait(rate.span, now.mono, rate.ceiling, rate.amount);
        (wait != Some(0)).then(|| Verdict {
            rule: rule_of(claim, rate.rule()),
            limit: rate.ceiling.limit,
            remaining: window.room(rate.span, now.mono, rate.ceiling).min(rate.ceiling.limit),
            wait,
        })
    }

    fn refuse_budget(&mut self, claim: &ScopeClaim, budget: &BudgetClaim, now: Now) -> Option<Verdict> {
        let spending = self.spending(budget, now);
        let spent = spending.spent(now.wall);
        let over = budget.blocks && spent.saturating_add(budget.amount.0) > budget.limit.0;
        let ever = budget.amount <= budget.limit;
        over.then(|| Verdict {
            rule: rule_of(claim, budget.rule()),
            limit: budget.limit.0,
            remaining: budget.limit.0.saturating_sub(spent),
            wait: BudgetClaim::wait(spending.end(), now.wall).filter(|_| ever),
        })
    }

    fn refuse_slot(&self, claim: &ScopeClaim) -> Option<Verdict> {
        let limit = claim.concurrency.filter(|limit| self.in_flight >= *limit)?;
        let retry = u64::try_from(CONCURRENCY_RETRY.as_millis()).expect("a second is few milliseconds");
        Some(Verdict { rule: rule_of(claim, Rule::Concurrency), limit, remaining: 0, wait: Some(retry) })
    }

    /// Writes the claim, whether it fits or not.
    pub(super) fn charge(&mut self, claim: &ScopeClaim, now: Now) -> Charge {
        self.in_flight += 1;
        let rates = claim.rates.iter().map(|rate| {
            let window = self.window(rate.counted, rate.span, now);
            let bucket = window.roll(rate.span, now.mono);
            window.add(rate.amount);
            (*rate, bucket)
        });
        let rates = rates.collect();
        let budgets = claim.budgets.iter().map(|budget| {
            let spending = self.spending(budget, now);
            spending.add(budget.amount.0);
            (budget.period, spending.epoch(), budget.amount.0)
        });
        Charge { scope: claim.scope.clone(), budgets: budgets.collect(), rates }
    }

    /// Ends a charge.
    pub(super) fn conclude(&mut self, charge: &Charge, outcome: Outcome, now: Now) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for (rate, bucket) in &charge.rates {
            self.window(rate.counted, rate.span, now).correct(*bucket, rate.amount, outcome.counts(rate));
        }
        for (period, epoch, reserved) in &charge.budgets {
            if let Some((_, spending)) = self.budgets.iter_mut().find(|(known, _)| known == period) {
                spending.correct(*epoch, *reserved, outcome.spends(*reserved));
            }
        }
    }

    /// Takes the rates of a claim into what the caller is told.
    pub(super) fn stand(&mut self, claim: &ScopeClaim, now: Now, standing: &mut Standing) {
        for rate in &claim.rates {
            let window = self.window(rate.counted, rate.span, now);
            let rule = RuleStanding {
                rule: rule_of(claim, rate.rule()),
                limit: rate.ceiling.limit,
                remaining: window.room(rate.span, now.mono, rate.ceiling).min(rate.ceiling.limit),
                resets_in: Duration::from_millis(window.wait_for_empty(rate.span, now.mono)),
            };
            standing.take(rate.counted, rule);
        }
    }

    /// Budgets of the claim of which much is spent.
    pub(super) fn alerts(&mut self, claim: &ScopeClaim, now: Now, alerts: &mut Vec<BudgetAlert>) {
        for budget in &claim.budgets {
            let spent = self.spending(budget, now).spent(now.wall);
            if let Some(percent) = budget.alert(spent) {
                alerts.push(BudgetAlert { rule: rule_of(claim, budget.rule()), percent });
            }
        }
    }

    /// How each rule of the claim stands.
    pub(super) fn usage(&mut self, claim: &ScopeClaim, now: Now) -> Vec<RuleUsage> {
        let rates = claim.rates.iter().map(|rate| {
            let window = self.window(rate.counted, rate.span, now);
            RuleUsage {
                rule: rule_of(claim, rate.rule()),
                limit: rate.ceiling.limit,
                used: window.used(rate.span, now.mono),
                remaining: window.room(rate.span, now.mono, rate.ceiling).min(rate.ceiling.limit),
                resets_in: Some(Duration::from_millis(window.wait_for_empty(rate.span, now.mono))),
            }
        });
        let mut usage: Vec<_> = rates.collect();
        usage.extend(claim.concurrency.map(|limit| RuleUsage {
            rule: rule_of(claim, Rule::Concurrency),
            limit,
            used: self.in_flight,
            remaining: limit.saturating_sub(self.in_flight),
            resets_in: None,
        }));
        usage.extend(claim.budgets.iter().map(|budget| self.budget_usage(claim, budget, now)));
        usage
    }

    fn budget_usage(&mut self, claim: &ScopeClaim, budget: &BudgetClaim, now: Now) -> RuleUsage {
        let spending = self.spending(budget, now);
        let spent = spending.spent(now.wall);
        RuleUsage {
            rule: rule_of(claim, budget.rule()),
            limit: budget.limit.0,
            used: spent,
            remaining: budget.limit.0.saturating_sub(spent),
            resets_in: BudgetClaim::wait(spending.end(), now.wall).map(Duration::from_millis),
        }
    }

    /// Whether forgetting it would change nothing.
    pub(super) fn at_rest(&self, now: Now) -> bool {
        let empty = |(_, span, window): &(Counted, Span, Window)| {
            let mut window = *window;
            window.roll(*span, now.mono);
            window.used(*span, now.mono) == 0
        };
        self.in_flight == 0
            && self.rates.iter().all(empty)
            && self.budgets.iter().all(|(_, spending)| spending.spent(now.wall) == 0)
    }

    /// Whether it holds money or open requests, which must not be forgotten.
    pub(super) fn must_stay(&self, now: Now) -> bool {
        self.in_flight > 0 || self.budgets.iter().any(|(_, spending)| spending.spent(now.wall) > 0)
    }

    /// Takes over what was counted elsewhere, in place of all that it held. Charges of a budget's period that goes on
    /// can still be ended.
    pub(super) fn adopt(&mut self, total: Counter, in_flight: u64, now: Now) {
        self.in_flight = in_flight;
        self.rates = total.rates;
        for (_, span, window) in &mut self.rates {
            window.roll(*span, now.mono);
        }
        for (period, spending) in &mut self.budgets {
            let found = total.budgets.iter().find(|(known, _)| known == period);
            spending.adopt(found.map(|(_, spending)| spending), now.wall);
        }
        for (period, spending) in total.budgets {
            if self.budgets.iter().all(|(known, _)| *known != period) {
                self.budgets.push((period, spending));
            }
        }
    }

    /// Adds to a bucket, or takes from it. Nothing happens when that bucket is gone.
    pub(super) fn shift_rate(&mut self, counted: Counted, span: Span, bucket: BucketIndex, by: i64, now: Now) {
        self.window(counted, span, now).shift(bucket, by);
    }

    /// Adds to a period's spending, or takes from it. Nothing happens when that period is over.
    pub(super) fn shift_budget(&mut self, period: Period, epoch: Epoch, by: i64) {
        if let Some((_, spending)) = self.budgets.iter_mut().find(|(known, _)| *known == period) {
            spending.shift(epoch, by);
        }
    }

    /// Where the period with that number begins and ends, as long as it is the present one.
    pub(super) fn bounds(&self, period: Period, epoch: Epoch, now: Now) -> Option<Bounds> {
        let (_, spending) = self.budgets.iter().find(|(known, _)| *known == period)?;
        (spending.epoch() == epoch && !spending.ended(now.wall)).then(|| spending.bounds())
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What still fits of a rate.
    pub(super) fn room_of_rate(&mut self, rate: &RateClaim, now: Now) -> u64 {
        self.window(rate.counted, rate.span, now).room(rate.span, now.mono, rate.ceiling)
    }

    /// What is left of a budget.
    pub(super) fn room_of_budget(&mut self, budget: &BudgetClaim, now: Now) -> u64 {
        budget.limit.0.saturating_sub(self.spending(budget, now).spent(now.wall))
    }

    fn window(&mut self, counted: Counted, span: Span, now: Now) -> &mut Window {
        let known = self.rates.iter().position(|(c, s, _)| (*c, *s) == (counted, span));
        let place = known.unwrap_or_else(|| {
            self.rates.push((counted, span, Window::default()));
            self.rates.len() - 1
        });
        let window = &mut self.rates[place].2;
        window.roll(span, now.mono);
        window
    }

    fn spending(&mut self, budget: &BudgetClaim, now: Now) -> &mut Spending {
        let known = self.budgets.iter().position(|(period, _)| *period == budget.period);
        let place = known.unwrap_or_else(|| {
            self.budgets.push((budget.period, Spending::new(now.wall, budget.period, &budget.timezone)));
            self.budgets.len() - 1
        });
        let spending = &mut self.budgets[place].1;
        spending.roll(now.wall, budget.period, &budget.timezone);
        spending
    }
}

fn rule_of(claim: &ScopeClaim, rule: Rule) -> RuleRef {
    RuleRef { scope: claim.scope.clone(), rule }
}
