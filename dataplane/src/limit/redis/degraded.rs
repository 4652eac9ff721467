//! What holds while Redis cannot be asked: each scope's `redisOutage`.
//!
//! `LocalShare` counts in this process against the limits' parts, `Closed` refuses, `Open` lets pass. What is used in
//! the meantime goes to the [`Spends`]. Whether Redis can be asked is decided by others.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use table::{NanoUsd, RedisOutage};
use tokio::time::Instant;
use tracing::warn;

use super::spends::Spends;
use crate::{
    limit::{
        LEASE, LimitError, Limiter, Refused, RuleUsage,
        claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
        clock::Clock,
        counter::{Now, Outcome},
        memory::Memory,
        reservation::{Entry, Ledger, Reservation, ReservationId, RuleStanding, Standing},
        rule::{Rule, RuleRef},
        window::{Ceiling, Millis},
    },
    metrics::Metrics,
};

/// How often it is said at most that requests are decided without Redis.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How many data planes are alive, this one included; never less than 1.
pub type LivePods = Arc<dyn Fn() -> u32 + Send + Sync>;

/// Decides without Redis. Its counters outlive an outage, so that a second one grants no second share of the same time.
pub struct Degraded {
    memory: Memory,
    pods: LivePods,
    metrics: Arc<Metrics>,
    books: Arc<Books>,
    /// When it was last said that requests are decided so.
    told: Mutex<HashMap<RedisOutage, Instant>>,
}

/// What open reservations will have spent.
struct Books {
    clock: Arc<dyn Clock>,
    spends: Arc<Spends>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    holds: HashMap<ReservationId, Hold>,
    swept: Millis,
}

struct Hold {
    /// The counters of this process, where the same reservation is open.
    memory: Arc<dyn Ledger>,
    pulse: Weak<()>,
    at: Now,
    caller: Vec<ScopeClaim>,
    candidates: Vec<(usize, CandidateClaim)>,
    current: Option<usize>,
    /// When the current attempt was charged.
    attempted: Now,
    begun: bool,
}

impl Degraded {
    /// Nothing is counted yet. The clock's monotonic time is that of Redis since the epoch, as far as it is known, so
    /// that buckets are the same here and there.
    pub fn new(clock: Arc<dyn Clock>, pods: LivePods, spends: Arc<Spends>, metrics: Arc<Metrics>) -> Self {
        let memory = Memory::with_clock(clock.clone());
        let books = Arc::new(Books { clock, spends, open: Mutex::default() });
        Self { memory, pods, metrics, books, told: Mutex::default() }
    }

    /// Reservations that are neither settled nor released.
    pub fn live(&self) -> usize {
        self.books.open.lock().holds.len()
    }

    /// The claims on this process' counters.
    fn local(&self, claims: &Claims) -> Claims {
        let pods = self.pods();
        let scopes = claims.scopes.iter().filter(|claim| claim.outage == RedisOutage::LocalShare);
        let candidates = claims.candidates.iter().map(|candidate| CandidateClaim {
            breaker: None,
            scopes: candidate.scopes.iter().map(|claim| part_of_scope(claim, pods)).collect(),
        });
        Claims {
            domain: claims.domain.clone(),
            scopes: scopes.map(|claim| part_of_scope(claim, pods)).collect(),
            candidates: candidates.collect(),
            max_candidates: claims.max_candidates,
        }
    }

    /// What the caller's policies declare, of several the strictest. Where only hosts and their keys are limited, those
    /// hold locally in every mode. Absent: nothing limits the request.
    fn mode(&self, claims: &Claims) -> Option<RedisOutage> {
        let caller = claims.scopes.iter().filter(|claim| claim.limits_something()).map(|claim| claim.outage).max();
        let mut candidates = claims.candidates.iter().flat_map(|candidate| &candidate.scopes);
        caller.or_else(|| candidates.any(ScopeClaim::limits_something).then_some(RedisOutage::LocalShare))
    }

    /// Says how requests are decided, not for each of them.
    fn tell(&self, mode: RedisOutage) {
        let (now, mut told) = (Instant::now(), self.told.lock());
        if told.get(&mode).is_none_or(|last| now.duration_since(*last) >= TELL_EVERY) {
            told.insert(mode, now);
            warn!(?mode, "requests are decided without Redis, as `redisOutage.mode` of their policies says: {mode:?}");
        }
    }

    fn pods(&self) -> u64 {
        u64::from((self.pods)().max(1))
    }
}

impl Limiter for Degraded {
    /// Errs with [`LimitError::Unavailable`] when a scope that limits something is closed.
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>> {
        async move {
            let mode = self.mode(&claims);
            if let Some(mode) = mode {
                self.metrics.degraded_request(mode);
                self.tell(mode);
            }
            if mode == Some(RedisOutage::Closed) {
                return Err(LimitError::Unavailable);
            }
            let reserved = self.memory.reserve(self.local(&claims)).await;
            let reservation = reserved.map_err(|error| as_allowed(error, &claims))?;
            // What nothing limits is what it would be with Redis.
            Ok(if mode.is_some() { self.books.clone().keep(reservation, claims) } else { reservation })
        }
        .boxed()
    }

    /// What this process counts, against the whole of what is allowed; what remains is of this process' part.
    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>> {
        async move {
            let pods = self.pods();
            let mut usage = self.memory.usage(scopes.iter().map(|claim| part_of_scope(claim, pods)).collect()).await?;
            for rule in &mut usage {
                rule.limit = allowed(scopes.iter(), &rule.rule).unwrap_or(rule.limit);
            }
            Ok(usage)
        }
        .boxed()
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        // What is posted is among the spends when `post` returns.
        ready(()).boxed()
    }
}

impl Books {
    /// Takes over a reservation that was written in memory.
    fn keep(self: Arc<Self>, written: Reservation, claims: Claims) -> Reservation {
        let now = self.now();
        let (id, pulse) = (written.id(), written.pulse());
        let open = written.candidates().to_vec();
        let standing = standing_as_allowed(written.standing(), &claims);
        let alerts = written.alerts().to_vec();
        let candidates = claims.candidates.into_iter().enumerate();
        let hold = Hold {
            memory: written.ledger(),
            pulse: pulse.watch(),
            at: now,
            caller: claims.scopes,
            candidates: candidates.filter(|(index, _)| open.contains(index)).collect(),
            current: open.first().copied(),
            attempted: now,
            begun: false,
        };
        {
            let mut holds = self.open.lock();
            holds.holds.insert(id, hold);
            self.sweep(&mut holds, now);
        }
        // The new guard has the pulse from here on.
        written.abandon();
        Reservation::new(id, self, pulse, open, standing, alerts).degraded()
    }

    /// Ends what was abandoned, as memory does by itself.
    fn sweep(&self, open: &mut Open, now: Now) {
        let lease = Millis::try_from(LEASE.as_millis()).unwrap_or(Millis::MAX);
        if now.mono < open.swept.saturating_add(lease) {
            return;
        }
        open.swept = now.mono;
        for (_, hold) in open.holds.extract_if(|_, hold| hold.pulse.strong_count() == 0) {
            self.conclude(&hold, Outcome::Expired);
        }
    }

    fn begin(&self, hold: &mut Hold, candidate: usize) {
        let first = !mem::replace(&mut hold.begun, true);
        if first && hold.current == Some(candidate) || !hold.candidates.iter().any(|(index, _)| *index == candidate) {
            return;
        }
        let failed = if first { Outcome::NeverRan } else { Outcome::Unknown };
        self.conclude_attempt(hold, failed);
        (hold.current, hold.attempted) = (Some(candidate), self.now());
    }

    fn conclude(&self, hold: &Hold, outcome: Outcome) {
        for claim in &hold.caller {
            self.spends.add(claim, outcome, hold.at);
        }
        self.conclude_attempt(hold, outcome);
    }

    fn conclude_attempt(&self, hold: &Hold, outcome: Outcome) {
        let current = hold.candidates.iter().filter(|(index, _)| hold.current == Some(*index));
        for claim in current.flat_map(|(_, candidate)| &candidate.scopes) {
            self.spends.add(claim, outcome, hold.attempted);
        }
    }

    fn now(&self) -> Now {
        let mono = Millis::try_from(self.clock.monotonic().as_millis()).unwrap_or(Millis::MAX);
        Now { mono, wall: self.clock.wall() }
    }
}

impl Ledger for Books {
    fn post(&self, id: ReservationId, entry: Entry) {
        let memory = {
            let mut open = self.open.lock();
            let Some(hold) = open.holds.get_mut(&id) else { return };
            let memory = hold.memory.clone();
            match entry {
                Entry::Attempt(candidate) => self.begin(hold, candidate),
                Entry::Settle(used) => self.end(&mut open, id, |_| Outcome::Used(used)),
                Entry::Release => self.end(&mut open, id, |hold| match hold.begun {
                    true => Outcome::Unknown,
                    false => Outcome::NeverRan,
                }),
            }
            memory
        };
        memory.post(id, entry);
    }
}

impl Books {
    /// Ends a reservation.
    fn end(&self, open: &mut Open, id: ReservationId, outcome: impl FnOnce(&Hold) -> Outcome) {
        if let Some(hold) = open.holds.remove(&id) {
            let outcome = outcome(&hold);
            self.conclude(&hold, outcome);
        }
    }
}

/// One data plane's part of what a scope allows. What is claimed is cut to what the part can hold, unless the whole
/// could not hold it either.
fn part_of_scope(claim: &ScopeClaim, pods: u64) -> ScopeClaim {
    ScopeClaim {
        scope: claim.scope.clone(),
        rates: claim.rates.iter().map(|rate| part_of_rate(rate, pods)).collect(),
        concurrency: claim.concurrency.map(|limit| limit.div_ceil(pods)),
        budgets: claim.budgets.iter().map(|budget| part_of_budget(budget, pods)).collect(),
        mode: claim.mode,
        outage: claim.outage,
    }
}

fn part_of_rate(rate: &RateClaim, pods: u64) -> RateClaim {
    let ceiling = Ceiling { limit: rate.ceiling.limit.div_ceil(pods), ..rate.ceiling };
    let fits = rate.amount <= rate.ceiling.capacity();
    RateClaim { ceiling, amount: if fits { rate.amount.min(ceiling.capacity()) } else { rate.amount }, ..*rate }
}

fn part_of_budget(budget: &BudgetClaim, pods: u64) -> BudgetClaim {
    let limit = NanoUsd(budget.limit.0.div_ceil(pods));
    let fits = budget.amount <= budget.limit;
    BudgetClaim { limit, amount: if fits { budget.amount.min(limit) } else { budget.amount }, ..budget.clone() }
}

/// A refusal that names the limit that was set, not this process' part of it, and says that only the part holds.
fn as_allowed(error: LimitError, claims: &Claims) -> LimitError {
    match error {
        LimitError::Refused(refused) => {
            let candidates = claims.candidates.iter().flat_map(|candidate| &candidate.scopes);
            let limit = allowed(claims.scopes.iter().chain(candidates), &refused.rule).unwrap_or(refused.limit);
            LimitError::Refused(Refused { limit, degraded: true, ..refused })
        }
        LimitError::Unavailable => LimitError::Unavailable,
    }
}

fn standing_as_allowed(standing: &Standing, claims: &Claims) -> Standing {
    let restored = |known: &RuleStanding| {
        let limit = allowed(claims.scopes.iter(), &known.rule).unwrap_or(known.limit);
        RuleStanding { limit, ..known.clone() }
    };
    Standing { requests: standing.requests.as_ref().map(restored), tokens: standing.tokens.as_ref().map(restored) }
}

/// What a rule allows in all data planes together.
fn allowed<'a>(mut scopes: impl Iterator<Item = &'a ScopeClaim>, of: &RuleRef) -> Option<u64> {
    let claim = scopes.find(|claim| claim.scope == of.scope)?;
    match of.rule {
        rule @ Rule::Rate { .. } => claim.rates.iter().find(|rate| rate.rule() == rule).map(|rate| rate.ceiling.limit),
        Rule::Concurrency => claim.concurrency,
        rule @ Rule::Budget(_) => claim.budgets.iter().find(|budget| budget.rule() == rule).map(|it| it.limit.0),
    }
}

#[cfg(test)]
mod tests;
