//! Refusals that are certain to last: whoever asks for as much again is refused without asking Redis.
//!
//! A refusal is certain for as long as it would hold if every open reservation gave back everything. It is believed for
//! a second at most, so that a counter that somebody resets by hand is seen.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::limit::{
    claims::ScopeClaim,
    counter::Verdict,
    rule::{Rule, Scope},
    window::Millis,
};

/// How long a refusal is believed.
const BELIEVED: Millis = 1_000;

/// Refusals that are remembered at most; beyond, all are forgotten.
const MOST: usize = 10_000;

/// Refusals that are certain to last.
#[derive(Debug, Default)]
pub(super) struct Denials(RwLock<HashMap<(Arc<Scope>, Rule), Denial>>);

#[derive(Clone, Debug)]
struct Denial {
    /// Another limit makes it void.
    limit: u64,
    /// As much, or more, is refused.
    amount: u64,
    /// Until then, in Redis' time.
    until: Millis,
    verdict: Verdict,
    /// When the verdict was given.
    at: Millis,
}

impl Denials {
    /// This scope's claim was refused at `at` by `verdict`; by `certain` it would be even if open reservations gave back
    /// everything.
    pub(super) fn note(&self, claim: &ScopeClaim, certain: &Verdict, verdict: &Verdict, at: Millis) {
        let Some((limit, amount)) = asked(claim, certain.rule.rule) else { return };
        let until = at.saturating_add(certain.wait.unwrap_or(Millis::MAX).min(BELIEVED));
        let mut known = self.0.write();
        if known.len() >= MOST {
            known.clear();
        }
        let denial = Denial { limit, amount, until, verdict: verdict.clone(), at };
        known.insert((claim.scope.clone(), certain.rule.rule), denial);
    }

    /// The refusal that still holds for one of the claims.
    pub(super) fn verdict(&self, claims: &[ScopeClaim], now: Millis) -> Option<Verdict> {
        let known = self.0.read();
        if known.is_empty() {
            return None;
        }
        let held = claims.iter().flat_map(|claim| rules(claim).map(move |rule| (claim, rule)));
        let verdicts = held.filter_map(|(claim, rule)| {
            // From before it was said nothing is known: the clock of Redis may step back.
            let holds = |denial: &&Denial| denial.at <= now && now < denial.until;
            let denial = known.get(&(claim.scope.clone(), rule)).filter(holds)?;
            let (limit, amount) = asked(claim, rule)?;
            let wait = denial.verdict.wait.map(|wait| (denial.at + wait).saturating_sub(now));
            let verdict = || Verdict { wait, ..denial.verdict.clone() };
            (limit == denial.limit && amount >= denial.amount).then(verdict)
        });
        verdicts.reduce(Verdict::longer)
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
        ScopeClaim { rates: vec![rate], ..ScopeClaim::new(scope) }
    }

    fn denied(certain: Millis) -> Denials {
        let (denials, claim) = (Denials::default(), claim(100, 30));
        let rule = RuleRef { scope: claim.scope.clone(), rule: claim.rates[0].rule() };
        let verdict = |wait| Verdict { rule: rule.clone(), limit: 100, remaining: 20, wait: Some(wait) };
        denials.note(&claim, &verdict(certain), &verdict(5_000), 1_000);
        denials
    }

    fn wait(denials: &Denials, claim: ScopeClaim, now: Millis) -> Option<Option<Millis>> {
        denials.verdict(&[claim], now).map(|verdict| verdict.wait)
    }

    #[test]
    fn as_much_is_refused_and_told_what_is_left_of_the_wait() {
        assert_eq!(wait(&denied(300), claim(100, 30), 1_200), Some(Some(4_800)));
        assert_eq!(wait(&denied(300), claim(100, 31), 1_200), Some(Some(4_800)));
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_refusal_last_longer() {
        assert_eq!(wait(&denied(300), claim(100, 30), 999), None);
    }

    #[test]
    fn less_another_limit_and_a_later_time_have_to_be_asked() {
        assert_eq!(wait(&denied(300), claim(100, 29), 1_200), None);
        assert_eq!(wait(&denied(300), claim(101, 30), 1_200), None);
        assert_eq!(wait(&denied(300), claim(100, 30), 1_300), None);
        assert_eq!(wait(&denied(900_000), claim(100, 30), 1_000 + BELIEVED), None);
    }
}
