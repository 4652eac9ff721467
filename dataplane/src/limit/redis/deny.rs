//! Refusals that are certain to last: whoever asks for as much again is refused without asking Redis. Whoever asks for
//! more has to wait longer, and only Redis knows how long.
//!
//! A refusal is certain for as long as it would hold if every open reservation gave back everything. It is believed for
//! a second at most, so that a counter that somebody resets by hand is seen. Time is this process' own: a clock of Redis
//! that steps makes no refusal last longer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::limit::{
    claims::ScopeClaim,
    counter::Verdict,
    rule::{Rule, Scope},
};

/// How long a refusal is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// Refusals that are remembered at most; beyond, all are forgotten.
const MOST: usize = 10_000;

/// Refusals that are certain to last.
#[derive(Debug, Default)]
pub(super) struct Denials(RwLock<HashMap<(Arc<Scope>, Rule), Denial>>);

#[derive(Clone, Debug)]
struct Denial {
    /// Another limit makes it void.
    limit: u64,
    /// As much is refused.
    amount: u64,
    /// Until then it is certain.
    until: Instant,
    verdict: Verdict,
    /// When the verdict was heard.
    heard: Instant,
}

impl Denials {
    /// This scope's claim was refused by `verdict`, which was asked for at `sent` and heard of at `heard`; by `certain` it
    /// would be refused even if open reservations gave back everything.
    pub(super) fn note(&self, claim: &ScopeClaim, certain: &Verdict, verdict: &Verdict, sent: Instant, heard: Instant) {
        let Some((limit, amount)) = asked(claim, certain.rule.rule) else { return };
        let until = sent + certain.wait.map_or(BELIEVED, |wait| Duration::from_millis(wait).min(BELIEVED));
        let mut known = self.0.write();
        if known.len() >= MOST {
            known.clear();
        }
        let denial = Denial { limit, amount, until, verdict: verdict.clone(), heard };
        known.insert((claim.scope.clone(), certain.rule.rule), denial);
    }

    /// The refusal that still holds for one of the claims.
    pub(super) fn verdict(&self, claims: &[ScopeClaim], now: Instant) -> Option<Verdict> {
        let known = self.0.read();
        if known.is_empty() {
            return None;
        }
        let held = claims.iter().flat_map(|claim| rules(claim).map(move |rule| (claim, rule)));
        let verdicts = held.filter_map(|(claim, rule)| {
            let denial = known.get(&(claim.scope.clone(), rule)).filter(|denial| now < denial.until)?;
            let (limit, amount) = asked(claim, rule)?;
            let passed = u64::try_from(now.saturating_duration_since(denial.heard).as_millis()).unwrap_or(u64::MAX);
            let wait = denial.verdict.wait.map(|wait| wait.saturating_sub(passed));
            let verdict = || Verdict { wait, ..denial.verdict.clone() };
            ((limit, amount) == (denial.limit, denial.amount)).then(verdict)
        });
        verdicts.reduce(Verdict::longer)
    }
}

#[cfg(test)]
impl Denials {
    /// For tests that move the clock of Redis: nothing is certain any more.
    pub(super) fn forget(&self) {
        self.0.write().clear();
    }
}

fn rules(claim: &ScopeClaim) -> impl Iterator<Item = Rule> {
    let budgets = claim.budgets.iter().filter(|budget| budget.blocks).map(|budget| budget.rule());
    claim.rates.iter().map(|rate| rate.rule()).chain(budgets)
}

/// What a rule allows, and how much is wanted of it. Requests in flight may end at any moment: nothing is certain there.
fn asked(claim: &ScopeClaim, rule: Rule) -> Option<(u64, u64)> {
    match rule {
        Rule::Rate { .. } => {
            let rate = claim.rates.iter().find(|rate| rate.rule() == rule)?;
            Some((rate.ceiling.capacity(), rate.amount))
        }
        Rule::Budget(_) => {
            let budget = claim.budgets.iter().find(|budget| budget.rule() == rule)?;
            Some((budget.limit.0, budget.amount.0))
        }
        Rule::Concurrency => None,
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use table::ObjectRef;

    use super::*;
    use crate::limit::{
        claims::RateClaim,
        rule::{Counted, RuleRef, Span},
        window::Ceiling,
    };

    fn claim(limit: u64, amount: u64) -> ScopeClaim {
        let ceiling = Ceiling::flat(limit);
        let rate = RateClaim { counted: Counted::Tokens, span: Span::Minute, ceiling, amount };
        let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")));
        ScopeClaim { rates: smallvec![rate], ..ScopeClaim::new(scope) }
    }

    /// A refusal that is certain for so many milliseconds, of a request that was asked for at `start`.
    fn denied(start: Instant, certain: u64) -> Denials {
        let (denials, claim) = (Denials::default(), claim(100, 30));
        let rule = RuleRef { scope: claim.scope.clone(), rule: claim.rates[0].rule() };
        let verdict = |wait| Verdict { rule: rule.clone(), limit: 100, remaining: 20, wait: Some(wait) };
        denials.note(&claim, &verdict(certain), &verdict(5_000), start, after(start, 10));
        denials
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// What is left to wait for somebody who asks so many milliseconds after the start.
    fn wait(certain: u64, claim: ScopeClaim, millis: u64) -> Option<Option<u64>> {
        let start = Instant::now();
        denied(start, certain).verdict(&[claim], after(start, millis)).map(|verdict| verdict.wait)
    }

    #[test]
    fn as_much_is_refused_and_told_what_is_left_of_the_wait() {
        assert_eq!(wait(300, claim(100, 30), 210), Some(Some(4_800)));
    }

    #[test]
    fn another_amount_another_limit_and_a_later_time_have_to_be_asked() {
        // Of more, this wait would be too short.
        assert_eq!(wait(300, claim(100, 31), 200), None);
        assert_eq!(wait(300, claim(100, 29), 200), None);
        assert_eq!(wait(300, claim(101, 30), 200), None);
        assert_eq!(wait(300, claim(100, 30), 300), None);
        assert_eq!(wait(900_000, claim(100, 30), 1_000), None);
    }
}
