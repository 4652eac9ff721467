//! One reservation: who is asked what, in which order, and what is given back when it comes to nothing.

use std::{mem, sync::Arc};

use table::LimitMode;
use tracing::error;

use super::{
    Inner,
    batches::lease,
    clock,
    ledger::{Dated, Open, split},
    link::Missed,
    shares::Short,
    wire::{self, Answer, Asking, Call, Entry, State, status},
};
use crate::limit::{
    LimitError, Limiter, Refused,
    claims::{BreakerClaim, CandidateClaim, Claims, ScopeClaim},
    counter::{Charge, Outcome, Verdict},
    reservation::{BudgetAlert, Ledger, Pulse, Reservation, ReservationId, Standing},
};

/// How often a call is made anew whose answer says that something has to be put right first.
const MOST_CALLS: usize = 4;

/// How often a share that is used up is renewed for one request, which others may have used up again meanwhile.
/// Each lets in a share of those who wait, one of them at least, until the limit is reached and refuses the rest: of many
/// who wait at once, some see as many as it takes to fill a limit by shares.
const MOST_REFRESHES: usize = 1_000;

/// What stands in the way of a reservation.
enum Obstacle {
    /// A rule refuses.
    Refused(Verdict),
    /// Redis cannot be asked.
    Missed,
}

impl From<Missed> for Obstacle {
    fn from(_: Missed) -> Self {
        Self::Missed
    }
}

impl From<Verdict> for LimitError {
    fn from(Verdict { rule, limit, remaining, wait }: Verdict) -> Self {
        let retry_after = wait.map(std::time::Duration::from_millis);
        LimitError::Refused(Refused { rule, limit, remaining, retry_after, degraded: false })
    }
}

/// What was granted so far; given back when dropped.
struct Pending<'a> {
    inner: &'a Arc<Inner>,
    domain: Arc<str>,
    id: ReservationId,
    wire_id: Arc<str>,
    /// Whether Redis may have it.
    is_sent: bool,
    shared: Vec<Charge>,
    attempt: Vec<Charge>,
}

impl<'a> Pending<'a> {
    fn new(inner: &'a Arc<Inner>, domain: &str) -> Self {
        let (id, wire_id) = inner.next_id();
        let (shared, attempt) = (Vec::new(), Vec::new());
        Self { inner, domain: domain.into(), id, wire_id, is_sent: false, shared, attempt }
    }

    /// Gives the id up for another: Redis has seen it.
    fn renumber(&mut self) {
        self.release();
        (self.id, self.wire_id) = self.inner.next_id();
    }

    fn release(&mut self) {
        if mem::take(&mut self.is_sent) {
            // It may come to Redis after this: then it must not be taken any more.
            let entry = Entry::Release { id: self.wire_id.clone(), begun: false, doubtful: true };
            self.inner.ledger.batches.push(&self.domain, entry);
        }
    }

    /// Nothing is to be given back: it is granted.
    fn granted(mut self) -> (Vec<Charge>, Vec<Charge>) {
        self.is_sent = false;
        (mem::take(&mut self.shared), mem::take(&mut self.attempt))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.release();
        self.inner.ledger.shares.conclude(&self.shared, Outcome::NeverRan);
        self.inner.ledger.shares.conclude(&self.attempt, Outcome::NeverRan);
    }
}

/// The claims of a request by where they are decided.
struct Split {
    /// In Redis, by the script.
    exact: Vec<ScopeClaim>,
    /// By shares of this process.
    leased: Vec<ScopeClaim>,
    /// By candidate: what the script can reach.
    here: Vec<Vec<ScopeClaim>>,
    /// By candidate: what lives elsewhere.
    elsewhere: Vec<Vec<ScopeClaim>>,
}

impl Split {
    fn of(claims: &Claims) -> Self {
        let is_exact = |claim: &ScopeClaim| claim.mode == LimitMode::Exact && claim.scope.domain() == claims.domain;
        let (exact, leased) = claims.scopes.iter().cloned().partition(is_exact);
        let (here, elsewhere) = claims.candidates.iter().map(|candidate| split(candidate, &claims.domain)).unzip();
        Self { exact, leased, here, elsewhere }
    }

    /// Whether Redis has to be asked about these candidates.
    fn needs_redis(&self, candidates: &[usize]) -> bool {
        !self.exact.is_empty() || candidates.iter().any(|at| !self.here[*at].is_empty())
    }
}

/// Claims everything of `claims`, or says why not.
pub(super) async fn reserve(inner: &Arc<Inner>, claims: Claims) -> Result<Reservation, LimitError> {
    match attempt(inner, &claims).await {
        Ok(reservation) => Ok(reservation),
        Err(Obstacle::Refused(verdict)) => Err(verdict.into()),
        Err(Obstacle::Missed) => inner.degraded.reserve(claims).await,
    }
}

async fn attempt(inner: &Arc<Inner>, claims: &Claims) -> Result<Reservation, Obstacle> {
    let split = Split::of(claims);
    let all: Vec<_> = (0..claims.candidates.len()).collect();
    if split.needs_redis(&all) && !inner.link.is_up(&claims.domain) {
        return Err(Obstacle::Missed);
    }
    if let Some(verdict) = inner.denials.verdict(&split.exact, inner.clock.millis()) {
        return Err(Obstacle::Refused(verdict));
    }
    let mut pending = Pending::new(inner, &claims.domain);
    pending.shared = lease_shares(inner, &split.leased).await?;
    let (reachable, closed) = reachable(inner, &split, claims.max_candidates);
    if let Some(verdict) = closed.clone().filter(|_| reachable.is_empty()) {
        return Err(Obstacle::Refused(verdict));
    }
    let likely = reachable.first().copied();
    pending.attempt = likely.map(|at| inner.ledger.shares.take(&split.elsewhere[at])).unwrap_or_default();
    let answer = if split.needs_redis(&reachable) {
        let answer = ask(inner, claims, &split, &reachable, &mut pending).await?;
        if answer.status == status::REFUSED {
            return Err(refusal(inner, claims, &split, &reachable, &answer, closed));
        }
        Some(answer)
    } else {
        None
    };
    Ok(grant(inner, claims, &split, &reachable, answer, pending))
}

/// Takes what the caller's leased scopes need from the shares of this process.
async fn lease_shares(inner: &Inner, leased: &[ScopeClaim]) -> Result<Vec<Charge>, Obstacle> {
    if leased.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..MOST_REFRESHES {
        match inner.ledger.shares.admit(leased) {
            Ok(charges) => return Ok(charges),
            Err(Short::Refused(verdict)) => return Err(Obstacle::Refused(verdict)),
            Err(Short::Stale(domains)) => {
                for domain in domains {
                    inner.ledger.shares.refresh(&domain).await?;
                }
            }
        }
    }
    Err(Obstacle::Missed)
}

/// The candidates that no counter elsewhere keeps out, and, of the others, the rule that does so shortest.
fn reachable(inner: &Inner, split: &Split, wanted: usize) -> (Vec<usize>, Option<Verdict>) {
    let (mut reachable, mut closed) = (Vec::new(), None::<Verdict>);
    for (at, scopes) in split.elsewhere.iter().enumerate() {
        // The script may close some of them, where it knows anything about them.
        if reachable.len() >= wanted.max(1) && split.here.iter().all(Vec::is_empty) {
            break;
        }
        match inner.ledger.shares.verdict(scopes) {
            None => reachable.push(at),
            Some(verdict) => closed = closed.into_iter().chain([verdict]).reduce(Verdict::shorter),
        }
    }
    (reachable, closed)
}

/// Calls the script until it has decided.
async fn ask(
    inner: &Arc<Inner>,
    claims: &Claims,
    split: &Split,
    reachable: &[usize],
    pending: &mut Pending<'_>,
) -> Result<Answer, Obstacle> {
    let domain = &*claims.domain;
    inner.learned.ask(domain);
    for _ in 0..MOST_CALLS {
        let call = call(inner, claims, split, reachable);
        let (born, fresh) = (inner.births.of(domain), inner.clock.fresh_birth(&inner.process));
        let asking = Asking {
            id: &pending.wire_id,
            born: born.as_deref().unwrap_or_default(),
            fresh: &fresh,
            process: inner.births.process(),
            must_seed: inner.births.has_seeds(domain),
            lease: lease(),
            peek: false,
            candidates: claims.max_candidates.max(1),
        };
        pending.is_sent = true;
        let answer = said(inner, domain, &call, &asking).await?;
        match answer.status {
            status::REBORN => inner.births.register(domain, &answer.born).await?,
            status::TAKEN => pending.renumber(),
            status::CLOCK => {}
            _ => {
                inner.births.registered(domain, &answer.born);
                pending.is_sent = answer.status == status::GRANTED;
                return Ok(answer);
            }
        }
    }
    error!(domain, "Redis does not come to a decision for namespace `{domain}`");
    Err(Obstacle::Missed)
}

fn call(inner: &Inner, claims: &Claims, split: &Split, reachable: &[usize]) -> Call {
    let now = inner.clock.now();
    let mut call = Call::new(&inner.keys, &claims.domain);
    for scope in &split.exact {
        call.scope(&inner.keys, scope, now);
    }
    for at in reachable {
        let breaker = shared_breaker(&claims.candidates[*at], &claims.domain);
        let breaker = breaker.map(|breaker| hex::encode(breaker.key.as_bytes())).unwrap_or_default();
        call.candidate(&inner.keys, breaker, &split.here[*at], now);
    }
    call
}

fn shared_breaker<'a>(candidate: &'a CandidateClaim, domain: &str) -> Option<&'a BreakerClaim> {
    candidate.breaker.as_ref().filter(|breaker| breaker.domain == domain)
}

/// One call of the script.
pub(super) async fn said(inner: &Inner, domain: &str, call: &Call, asking: &Asking<'_>) -> Result<Answer, Missed> {
    let bytes = inner.link.call(domain, &inner.scripts.reserve, &call.keys, &call.argument(asking)).await?;
    let answer: Answer = wire::decoded(&bytes).map_err(|reason| {
        error!(%reason, "an answer of Redis cannot be read");
        Missed::Unreadable
    })?;
    inner.clock.heard(answer.now);
    Ok(answer)
}

/// The rule that keeps the request out longest, where one open candidate is enough.
fn refusal(
    inner: &Inner,
    claims: &Claims,
    split: &Split,
    reachable: &[usize],
    answer: &Answer,
    closed: Option<Verdict>,
) -> Obstacle {
    let now = clock::at(answer.now);
    let mut worst: Option<Verdict> = None;
    for (claim, state) in split.exact.iter().zip(&answer.scopes) {
        let Some(verdict) = state.counter(claim, false).refusal(claim, now) else { continue };
        if let Some(certain) = state.counter(claim, true).refusal(claim, now) {
            inner.denials.note(claim, &certain, &verdict, answer.now);
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
            error!(domain = claims.domain, "Redis refuses what nothing stands against");
            Obstacle::Missed
        }
    }
}

fn grant(
    inner: &Arc<Inner>,
    claims: &Claims,
    split: &Split,
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
    let (standing, alerts) = standing(inner, split, answer.as_ref());
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
    let scopes = split.exact.clone();
    let pulse_watch = pulse.watch();
    let reservation = Open {
        id: wire_id,
        domain,
        born,
        at,
        pulse: pulse_watch,
        renewed: at,
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
