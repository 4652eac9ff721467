//! A reservation: the guard that gives back what was claimed, or replaces it by what was used.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use table::NanoUsd;

use super::rule::{Counted, RuleRef};

/// The number of a reservation; never used twice within a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId(pub u128);

/// What was really used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// All input, cache reads and writes included.
    pub input_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
    /// What it cost; zero where no price is known.
    pub cost: NanoUsd,
}

/// What a reservation says to its limiter later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An attempt on the candidate with this index begins, and the one before it, if any, has failed.
    Attempt(usize),
    /// The request is over and used so much.
    Settle(Used),
    /// The request is over and its holder does not know what it used.
    Release,
}

/// Where reservations are kept.
pub trait Ledger: Send + Sync + 'static {
    /// Takes note of `entry`. Never blocks: queues it, or holds a lock for a moment. An id that is unknown, settled,
    /// released or expired is ignored.
    fn post(&self, id: ReservationId, entry: Entry);
}

/// A sign of life: a lease whose holder is alive is renewed, without the holder's doing.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<()>);

impl Pulse {
    /// Feels it without keeping it alive.
    pub fn watch(&self) -> Weak<()> {
        Arc::downgrade(&self.0)
    }
}

/// What was claimed for one request. Settle it when the request is over; a dropped one is released.
///
/// A released reservation gives everything back if no attempt was begun. If one was, its requests stay counted and its
/// money stays charged, because it may have been spent.
#[must_use = "a dropped reservation is given back"]
pub struct Reservation {
    id: ReservationId,
    ledger: Arc<dyn Ledger>,
    pulse: Pulse,
    candidates: Vec<usize>,
    standing: Standing,
    alerts: Vec<BudgetAlert>,
    degraded: bool,
    open: bool,
}

impl Reservation {
    /// For limiters: a reservation that was just written.
    pub fn new(
        id: ReservationId,
        ledger: Arc<dyn Ledger>,
        pulse: Pulse,
        candidates: Vec<usize>,
        standing: Standing,
        alerts: Vec<BudgetAlert>,
    ) -> Self {
        Self { id, ledger, pulse, candidates, standing, alerts, degraded: false, open: true }
    }

    /// For limiters: it was made without the shared counters.
    pub fn degraded(mut self) -> Self {
        self.degraded = true;
        self
    }

    /// Its number.
    pub fn id(&self) -> ReservationId {
        self.id
    }

    /// For limiters: what shows that its holder lives.
    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// The limiter's side of it.
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    /// Indices into the claims' candidates of those that are open, in order of preference.
    pub fn candidates(&self) -> &[usize] {
        &self.candidates
    }

    /// Whether it was made without the counters that replicas share, because they could not be reached.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// How the caller stands after this request, for rate-limit headers.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Budgets of which, with this request, a share is spent at which somebody wants to know.
    pub fn alerts(&self) -> &[BudgetAlert] {
        &self.alerts
    }

    /// An attempt on an open candidate begins; to be called before each, the first too. What the attempt before it took
    /// in tokens and slots at its provider is given back, its request stays counted.
    pub fn charge(&self, candidate: usize) {
        self.ledger.post(self.id, Entry::Attempt(candidate));
    }

    /// The request is over: replaces what was reserved by what was used, in the windows and periods in which it was
    /// reserved.
    pub fn settle(mut self, used: Used) {
        self.open = false;
        self.ledger.post(self.id, Entry::Settle(used));
    }

    /// Lets go without a word, as the death of the process would: the lease runs out by itself.
    pub fn abandon(mut self) {
        self.open = false;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open {
            self.ledger.post(self.id, Entry::Release);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("id", &self.id)
            .field("candidates", &self.candidates)
            .field("pulse", &self.pulse)
            .finish_non_exhaustive()
    }
}

/// How the caller stands: of the rules that limit requests, and of those that limit tokens, the one with least left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Absent: requests are not limited.
    pub requests: Option<RuleStanding>,
    /// Absent: tokens are not limited.
    pub tokens: Option<RuleStanding>,
}

impl Standing {
    /// Takes `rule` in where less is left of it than of the one known so far.
    pub fn take(&mut self, counted: Counted, rule: RuleStanding) {
        let place = match counted {
            Counted::Requests => &mut self.requests,
            Counted::Tokens | Counted::InputTokens | Counted::OutputTokens => &mut self.tokens,
        };
        if place.as_ref().is_none_or(|known| rule.remaining < known.remaining) {
            *place = Some(rule);
        }
    }
}

/// How one rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStanding {
    /// The rule.
    pub rule: RuleRef,
    /// What it allows.
    pub limit: u64,
    /// What still fits; never above the limit.
    pub remaining: u64,
    /// When nothing will count against it any more if nothing else comes.
    pub resets_in: Duration,
}

/// A budget of which much is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetAlert {
    /// The budget.
    pub rule: RuleRef,
    /// The share that was reached, in percent.
    pub percent: u32,
}
