//! All counters and all open reservations: decides everything first, then writes all or nothing. Time is an argument.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use foldhash::HashMap;

use super::hold::Hold;
use crate::limit::{
    LEASE, Refused, RuleUsage,
    claims::{CandidateClaim, Claims, ScopeClaim},
    counter::{Charge, Counter, Now, Outcome, Verdict},
    reservation::{BudgetAlert, Entry, Pulse, ReservationId, Standing},
    rule::Scope,
    window::Millis,
};

/// How often counters at rest are looked for.
const PRUNE_EVERY: Millis = 60_000;

/// How often they are looked for beyond [`MOST_COUNTERS`]: those that must stay can be that many.
const CROWDED_PRUNE_EVERY: Millis = 1_000;

/// Beyond this many scopes, counters without money or open requests are dropped, whatever they hold: ids that callers
/// invent must not fill the memory.
const MOST_COUNTERS: usize = 200_000;

/// All counters and all open reservations.
#[derive(Debug, Default)]
pub(super) struct State {
    counters: HashMap<Arc<Scope>, Counter>,
    holds: HashMap<ReservationId, Hold>,
    leases: BTreeSet<(Millis, ReservationId)>,
    last_id: u128,
    pruned: Millis,
}

/// What [`State::reserve`] wrote.
pub(super) struct Granted {
    pub(super) id: ReservationId,
    pub(super) pulse: Pulse,
    pub(super) candidates: Vec<usize>,
    pub(super) standing: Standing,
    pub(super) alerts: Vec<BudgetAlert>,
}

impl State {
    pub(super) fn reserve(&mut self, claims: Claims, now: Now) -> Result<Granted, Refused> {
        self.expire(now);
        self.prune(now);
        let open = self.decide(&claims, now)?;
        Ok(self.write(claims, open, now))
    }

    pub(super) fn post(&mut self, id: ReservationId, entry: Entry, now: Now) {
        self.expire(now);
        match entry {
            Entry::Attempt(candidate) => self.attempt(id, candidate, now),
            Entry::Settle(used) => self.close(id, Outcome::Used(used), now),
            Entry::Release => {
                let begun = self.holds.get(&id).is_some_and(|hold| hold.begun);
                self.close(id, if begun { Outcome::Unknown } else { Outcome::NeverRan }, now);
            }
        }
    }

    pub(super) fn usage(&mut self, scopes: &[ScopeClaim], now: Now) -> Vec<RuleUsage> {
        self.expire(now);
        let mut none = Counter::default();
        let usage = scopes.iter().flat_map(|claim| match self.counters.get_mut(&claim.scope) {
            Some(counter) => counter.usage(claim, now),
            None => none.usage(claim, now),
        });
        usage.collect()
    }

    pub(super) fn live(&self) -> usize {
        self.holds.len()
    }

    pub(super) fn counters(&self) -> usize {
        self.counters.len()
    }

    /// The open candidates in order, or the rule that keeps the request out longest.
    fn decide(&mut self, claims: &Claims, now: Now) -> Result<Vec<usize>, Refused> {
        let caller = self.refusal(&claims.scopes, now);
        let mut open = Vec::new();
        let mut closed: Option<Verdict> = None;
        for (index, candidate) in claims.candidates.iter().enumerate() {
            if open.len() == claims.max_candidates.max(1) {
                break;
            }
            match self.refusal(&candidate.scopes, now) {
                None => open.push(index),
                Some(verdict) => closed = closed.into_iter().chain([verdict]).reduce(Verdict::shorter),
            }
        }
        // One open candidate is enough.
        let closed = closed.filter(|_| open.is_empty());
        match caller.into_iter().chain(closed).reduce(Verdict::longer) {
            None => Ok(open),
            Some(Verdict { rule, limit, remaining, wait }) => {
                Err(Refused { rule, limit, remaining, retry_after: wait.map(Duration::from_millis), degraded: false })
            }
        }
    }

    fn refusal(&mut self, scopes: &[ScopeClaim], now: Now) -> Option<Verdict> {
        let refusals = scopes.iter().filter_map(|claim| self.counter(&claim.scope).refusal(claim, now));
        refusals.reduce(Verdict::longer)
    }

    fn write(&mut self, claims: Claims, open: Vec<usize>, now: Now) -> Granted {
        let (mut standing, mut alerts) = (Standing::default(), Vec::new());
        let charge = |claim: &ScopeClaim| {
            let counter = self.counter(&claim.scope);
            let charge = counter.charge(claim, now);
            counter.stand(claim, now, &mut standing);
            counter.alerts(claim, now, &mut alerts);
            charge
        };
        let caller = claims.scopes.iter().map(charge).collect();
        let current = open.first().copied();
        let attempt = current.map(|index| self.charge(&claims.candidates[index].scopes, now)).unwrap_or_default();
        let candidates = claims.candidates;
        let closed = (0..candidates.len()).filter(|index| open.binary_search(index).is_err()).collect();
        let pulse = Pulse::default();
        let expires = now.mono + lease();
        let hold = Hold { pulse: pulse.watch(), expires, caller, attempt, current, begun: false, candidates, closed };
        self.last_id += 1;
        let id = ReservationId(self.last_id);
        self.leases.insert((expires, id));
        self.holds.insert(id, hold);
        Granted { id, pulse, candidates: open, standing, alerts }
    }

    fn charge(&mut self, scopes: &[ScopeClaim], now: Now) -> Vec<Charge> {
        scopes.iter().map(|claim| self.counter(&claim.scope).charge(claim, now)).collect()
    }

    /// Begins the first attempt of a reservation, where that is on the candidate that was charged when it was reserved.
    pub(super) fn begins(&mut self, id: ReservationId, candidate: usize) -> bool {
        let hold = self.holds.get_mut(&id).filter(|hold| !hold.begun && hold.current == Some(candidate));
        hold.map(|hold| hold.begun = true).is_some()
    }

    /// Begins an attempt that was not charged yet.
    fn attempt(&mut self, id: ReservationId, candidate: usize, now: Now) {
        let Some(hold) = self.holds.get_mut(&id) else { return };
        let first = !mem::replace(&mut hold.begun, true);
        let Some(CandidateClaim { scopes, .. }) = hold.claim(candidate) else { return };
        hold.current = Some(candidate);
        let before = mem::take(&mut hold.attempt);
        self.conclude(&before, if first { Outcome::NeverRan } else { Outcome::Unknown }, now);
        let attempt = self.charge(&scopes, now);
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.attempt = attempt;
        }
    }

    fn close(&mut self, id: ReservationId, outcome: Outcome, now: Now) {
        let Some(hold) = self.holds.remove(&id) else { return };
        self.leases.remove(&(hold.expires, id));
        self.conclude(&hold.caller, outcome, now);
        self.conclude(&hold.attempt, outcome, now);
    }

    fn conclude(&mut self, charges: &[Charge], outcome: Outcome, now: Now) {
        for charge in charges {
            if let Some(counter) = self.counters.get_mut(&charge.scope) {
                counter.conclude(charge, outcome, now);
            }
        }
    }

    /// Ends the reservations whose holders are gone, and renews those whose holders live.
    fn expire(&mut self, now: Now) {
        while let Some(&(expires, id)) = self.leases.first() {
            if expires > now.mono {
                return;
            }
            self.leases.pop_first();
            let Some(hold) = self.holds.get_mut(&id) else { continue };
            if hold.pulse.strong_count() > 0 {
                hold.expires = now.mono + lease();
                self.leases.insert((hold.expires, id));
            } else {
                self.close(id, Outcome::Expired, now);
            }
        }
    }

    fn prune(&mut self, now: Now) {
        if self.counters.len() > MOST_COUNTERS && now.mono >= self.pruned + CROWDED_PRUNE_EVERY {
            self.pruned = now.mono;
            self.counters.retain(|_, counter| counter.must_stay(now));
        } else if now.mono >= self.pruned + PRUNE_EVERY {
            self.pruned = now.mono;
            self.counters.retain(|_, counter| !counter.at_rest(now));
        }
    }

    fn counter(&mut self, scope: &Arc<Scope>) -> &mut Counter {
        if !self.counters.contains_key(scope) {
            self.counters.insert(scope.clone(), Counter::default());
        }
        self.counters.get_mut(scope).expect("it was inserted above")
    }
}

fn lease() -> Millis {
    u64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds")
}
