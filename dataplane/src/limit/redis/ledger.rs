//! The open reservations of this process: what each may still turn to, and what becomes of it.

use std::{
    mem,
    sync::{Arc, Weak},
};

use foldhash::HashMap;
use parking_lot::Mutex;
use table::Period;

use super::{
    batches::{self, Batches, Ended, Posted},
    clock::RedisClock,
    phrases::Phrases,
    shares::Shares,
    wire::{self, Entry},
};
use crate::limit::{
    claims::{CandidateClaim, ScopeClaim},
    counter::{Charge, Outcome},
    reservation::{Entry as Posting, Ledger, ReservationId},
    rule::Scope,
    window::Millis,
};

/// The open reservations of this process.
pub(super) struct Reservations {
    pub(super) batches: Arc<Batches>,
    pub(super) shares: Arc<Shares>,
    pub(super) clock: Arc<RedisClock>,
    pub(super) phrases: Arc<Phrases>,
    open: Mutex<HashMap<ReservationId, Open>>,
}

/// A budget in one of its periods.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    pub(super) scope: Arc<Scope>,
    pub(super) period: Period,
    pub(super) start: Millis,
    /// `0`: never.
    pub(super) end: Millis,
}

/// An open reservation.
pub(super) struct Open {
    /// Its id in Redis.
    pub(super) id: Arc<str>,
    pub(super) domain: Arc<str>,
    /// When the data began in which it was written; absent: nothing of it is in Redis.
    pub(super) born: Option<Arc<str>>,
    /// When it was made, in Redis' time.
    pub(super) at: Millis,
    /// Whether its holder lives.
    pub(super) pulse: Weak<()>,
    /// When its lease was written or renewed last, in Redis' time.
    pub(super) renewed: Millis,
    /// The earliest of these times: where the clock of Redis has stepped back, leases run out before they would have.
    pub(super) earliest: Millis,
    /// What was claimed in Redis for the caller.
    pub(super) scopes: Vec<ScopeClaim>,
    /// The periods in which its budgets were charged.
    pub(super) budgets: Vec<Dated>,
    /// What was charged to shares for the caller.
    pub(super) shared: Vec<Charge>,
    /// The candidate that is charged; absent: none is needed.
    pub(super) current: Option<usize>,
    /// What was charged to shares for it.
    pub(super) attempt: Vec<Charge>,
    /// Whether an attempt was begun.
    pub(super) begun: bool,
    /// The open candidates, by their index in the claims.
    pub(super) candidates: Vec<(usize, CandidateClaim)>,
}

impl Reservations {
    pub(super) fn new(
        batches: Arc<Batches>,
        shares: Arc<Shares>,
        clock: Arc<RedisClock>,
        phrases: Arc<Phrases>,
    ) -> Self {
        Self { batches, shares, clock, phrases, open: Mutex::default() }
    }

    pub(super) fn insert(&self, id: ReservationId, open: Open) {
        self.open.lock().insert(id, open);
    }

    /// Says of all whose holders live that they do, for so long. Forgets the others: nobody can post anything for them,
    /// and their leases run out.
    pub(super) fn renew_for(&self, lease: Millis) {
        let now = self.clock.millis();
        let mut renewed = Vec::new();
        self.open.lock().retain(|_, open| {
            let is_alive = open.pulse.strong_count() > 0;
            if is_alive && open.born.is_some() {
                open.renewed = now;
                open.earliest = open.earliest.min(now);
                renewed.push((open.domain.clone(), open.id.clone()));
            }
            let stays = is_alive || now.saturating_sub(open.renewed) < batches::lease();
            if !stays {
                self.shares.conclude(&open.shared, Outcome::Expired);
                self.shares.conclude(&open.attempt, Outcome::Expired);
            }
            stays
        });
        for (domain, id) in renewed {
            self.batches.push(&domain, Entry::Renew { id, lease });
        }
    }

    /// Those that are open.
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }

    fn attempt(&self, id: ReservationId, candidate: usize) {
        let mut all = self.open.lock();
        let Some(open) = all.get_mut(&id) else { return };
        let first = !mem::replace(&mut open.begun, true);
        if first && open.current == Some(candidate) {
            // Charged when it was reserved.
            return;
        }
        let Some((_, claim)) = open.candidates.iter().find(|(index, _)| *index == candidate) else { return };
        open.current = Some(candidate);
        let outcome = if first { Outcome::NeverRan } else { Outcome::Unknown };
        self.shares.conclude(&mem::take(&mut open.attempt), outcome);
        let (here, elsewhere) = split(claim, &open.domain);
        open.attempt = self.shares.take(&elsewhere);
        if open.born.is_some() {
            let now = self.clock.now();
            let scopes = here.iter().map(|claim| wire::Scope::charged(&self.phrases, claim, now)).collect();
            self.batches.push(&open.domain, Entry::Attempt { id: open.id.clone(), begun: !first, scopes });
        }
    }

    fn close(&self, id: ReservationId, posting: Posting) {
        let Some(open) = self.open.lock().remove(&id) else { return };
        let outcome = match posting {
            Posting::Settle(used) => Outcome::Used(used),
            Posting::Attempt(_) | Posting::Release if open.begun => Outcome::Unknown,
            Posting::Attempt(_) | Posting::Release => Outcome::NeverRan,
        };
        self.shares.conclude(&open.shared, outcome);
        self.shares.conclude(&open.attempt, outcome);
        let Some(born) = open.born else { return };
        let entry = match posting {
            Posting::Settle(used) => Entry::Settle { id: open.id, used },
            Posting::Attempt(_) | Posting::Release => {
                Entry::Release { id: open.id, begun: open.begun, doubtful: false }
            }
        };
        let Open { at, earliest, scopes, budgets, .. } = open;
        let ended = Some(Box::new(Ended { born, at, earliest, scopes, budgets, outcome }));
        self.batches.push(&open.domain, Posted { entry, ended });
    }
}

impl Ledger for Reservations {
    fn post(&self, id: ReservationId, entry: Posting) {
        match entry {
            Posting::Attempt(candidate) => self.attempt(id, candidate),
            Posting::Settle(_) | Posting::Release => self.close(id, entry),
        }
    }
}

/// A candidate's scopes that the domain's script can reach, and those of other domains.
pub(super) fn split(claim: &CandidateClaim, domain: &str) -> (Vec<ScopeClaim>, Vec<ScopeClaim>) {
    claim.scopes.iter().cloned().partition(|claim| claim.scope.domain() == domain)
}
