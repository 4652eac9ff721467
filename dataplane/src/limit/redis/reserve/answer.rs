//! What an answer of the script means: a refusal in words, or a reservation.

use std::{mem, sync::Arc};

use tokio::time::Instant;
use tracing::error;

use super::{
    super::{
        Inner, clock,
        ledger::{Dated, Open},
        wire::{self, Answer, State},
    },
    Obstacle,
    pending::Pending,
    split::Split,
};
use crate::limit::{
    claims::{Claims, ScopeClaim},
    counter::{Outcome, Verdict},
    reservation::{BudgetAlert, Ledger, Pulse, Reservation, Standing},
};

/// The rule that keeps the request out longest, where one open candidate is enough.
pub(super) fn refusal(
    inner: &Inner,
    claims: &Claims,
    split: &Split,
    reachable: &[usize],
    answer: &Answer,
    sent: Instant,
    closed: Option<Verdict>,
) -> Obstacle {
    let (now, heard) = (clock::at(answer.now), Instant::now());
    let mut worst: Option<Verdict> = None;
    for (claim, state) in split.exact.iter().zip(&answer.scopes) {
        let Some(verdict) = state.counter(claim, false).refusal(claim, now) else { continue };
        if let Some(certain) = state.counter(claim, true).refusal(claim, now) {
            inner.denials.note(claim, &certain, &verdict, sent, heard);
        }
        worst = worst.into_iter().chain([verdict]).reduce(Verdict::longer);
    }
    if answer.open.is_empty() && !claims.candidates.is_empty() {
        let refusals = answer.candidates.iter().zip(reachable).filter_map(|(states, at)| {
            let scopes = split.here[*at].iter().zip(states);
            let refusals = scopes.filter_map(|(claim, state)| state.counter(claim, false).refusal(claim, now));
            refusals.reduce(Verdict::longer)
        });
        let closed = refusals.chain(closed).reduce(Verdict::shorter);
        worst = worst.into_iter().chain(closed).reduce(Verdict::longer);
    }
    match worst {
        Some(verdict) => Obstacle::Refused(verdict),
        None => {
            // The script refuses by the same arithmetic and shows what it refused by: another version's may not.
            error!(domain = &*claims.domain, "Redis refuses what nothing stands against");
            Obstacle::Missed
        }
    }
}

/// Makes a reservation of what was granted.
pub(super) fn grant(
    inner: &Arc<Inner>,
    claims: &Claims,
    split: Split,
    reachable: &[usize],
    answer: Option<Answer>,
    mut pending: Pending<'_>,
) -> Reservation {
    let open: Vec<usize> = match &answer {
        Some(answer) => answer.open.iter().filter_map(|at| reachable.get(*at).copied()).collect(),
        None => reachable.iter().take(claims.max_candidates.max(1)).copied().collect(),
    };
    let current = open.first().copied();
    if current != reachable.first().copied() {
        inner.ledger.shares.conclude(&mem::take(&mut pending.attempt), Outcome::NeverRan);
        pending.attempt = current.map(|at| inner.ledger.shares.take(&split.elsewhere[at])).unwrap_or_default();
    }
    let (standing, alerts) = standing(inner, &split, answer.as_ref());
    if let Some(answer) = &answer {
        heed(inner, claims, reachable, answer);
    }
    let (pulse, id) = (Pulse::default(), pending.id);
    let candidates = open.iter().map(|at| (*at, claims.candidates[*at].clone())).collect();
    let (domain, wire_id) = (pending.domain.clone(), pending.wire_id.clone());
    let (shared, attempt) = pending.granted();
    let born = answer.as_ref().map(|answer| Arc::from(&*answer.born));
    let budgets = answer.as_ref().map(|answer| budgets(&split.exact, &answer.scopes)).unwrap_or_default();
    let at = answer.as_ref().map_or_else(|| inner.clock.millis(), |answer| answer.now);
    let scopes = split.exact;
    let pulse_watch = pulse.watch();
    let reservation = Open {
        id: wire_id,
        domain,
        born,
        at,
        pulse: pulse_watch,
        renewed: at,
        earliest: at,
        scopes,
        budgets,
        shared,
        current,
        attempt,
        begun: false,
        candidates,
    };
    inner.ledger.insert(id, reservation);
    let ledger: Arc<dyn Ledger> = inner.ledger.clone();
    Reservation::new(id, ledger, pulse, open, standing, alerts)
}

/// How the caller stands after the request, and which of its budgets are nearly spent.
fn standing(inner: &Inner, split: &Split, answer: Option<&Answer>) -> (Standing, Vec<BudgetAlert>) {
    let (mut standing, mut alerts) = (Standing::default(), Vec::new());
    if let Some(answer) = answer {
        let now = clock::at(answer.now);
        for (claim, state) in split.exact.iter().zip(&answer.scopes) {
            let mut counter = state.counter(claim, false);
            counter.stand(claim, now, &mut standing);
            counter.alerts(claim, now, &mut alerts);
        }
    }
    inner.ledger.shares.stand(&split.leased, &mut standing, &mut alerts);
    (standing, alerts)
}

/// The periods in which budgets were charged.
fn budgets(claims: &[ScopeClaim], states: &[State]) -> Vec<Dated> {
    let of = |(claim, state): (&ScopeClaim, &State)| {
        let periods = claim.budgets.iter().zip(state.periods(claim));
        periods
            .map(|(budget, (start, end))| Dated { scope: claim.scope.clone(), period: budget.period, start, end })
            .collect::<Vec<_>>()
    };
    claims.iter().zip(states).flat_map(of).collect()
}

/// Takes in which breakers other replicas have opened.
fn heed(inner: &Inner, claims: &Claims, reachable: &[usize], answer: &Answer) {
    for wire::Broken(at, until, class) in &answer.broken {
        let candidate = reachable.get(*at).and_then(|at| claims.candidates.get(*at));
        if let Some(breaker) = candidate.and_then(|candidate| candidate.breaker.as_ref()) {
            inner.fleet.heard(breaker, class, *until);
        }
    }
}
