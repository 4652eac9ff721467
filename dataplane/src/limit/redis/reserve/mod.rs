//! One reservation: who is asked what, in which order, and what is given back when it comes to nothing.

mod answer;
mod pending;
mod split;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::error;

use self::{pending::Pending, split::Split};
use super::{
    Inner,
    batches::lease,
    link::Missed,
    shares::Short,
    wire::{Answer, Asking, Call, status},
};
use crate::limit::{
    LimitError, Limiter, Refused,
    claims::{BreakerClaim, CandidateClaim, Claims, ScopeClaim},
    counter::{Charge, Verdict},
    reservation::Reservation,
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
        let retry_after = wait.map(Duration::from_millis);
        LimitError::Refused(Refused { rule, limit, remaining, retry_after, degraded: false })
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
    if let Some(verdict) = inner.denials.verdict(&split.exact, Instant::now()) {
        return Err(Obstacle::Refused(verdict));
    }
    let all: Vec<_> = (0..claims.candidates.len()).collect();
    if split.needs_redis(&all) && !inner.link.is_up(&claims.domain) {
        return Err(Obstacle::Missed);
    }
    let mut pending = Pending::new(inner, &claims.domain);
    if !split.leased.is_empty() {
        pending.shared = Box::pin(lease_shares(inner, &split.leased)).await?;
    }
    let (reachable, closed) = reachable(inner, &split, claims.max_candidates);
    if let Some(verdict) = closed.clone().filter(|_| reachable.is_empty()) {
        return Err(Obstacle::Refused(verdict));
    }
    let likely = reachable.first().copied();
    pending.attempt = likely.map(|at| inner.ledger.shares.take(&split.elsewhere[at])).unwrap_or_default();
    let said = if split.needs_redis(&reachable) {
        let said = ask(inner, claims, &split, &reachable, &mut pending).await?;
        if said.status == status::REFUSED {
            return Err(answer::refusal(inner, claims, &split, &reachable, &said, pending.sent, closed));
        }
        Some(said)
    } else {
        None
    };
    Ok(answer::grant(inner, claims, split, &reachable, said, pending))
}

/// Takes what the caller's leased scopes need from the shares of this process.
async fn lease_shares(inner: &Inner, leased: &[ScopeClaim]) -> Result<Vec<Charge>, Obstacle> {
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
        let heard = inner.births.heard(domain);
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
        (pending.sent, pending.is_sent) = (Instant::now(), true);
        let answer = said(inner, domain, &call, &asking).await?;
        match answer.status {
            status::REBORN => Box::pin(inner.births.register(domain, &answer.born, heard.as_ref())).await?,
            status::TAKEN => pending.renumber(),
            status::CLOCK => {}
            _ => {
                inner.births.registered(domain, &answer.born, heard.as_ref());
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
    let mut call = Call::new(&inner.phrases, &claims.domain);
    for scope in &split.exact {
        call.scope(&inner.phrases, scope, now);
    }
    for at in reachable {
        let breaker = shared_breaker(&claims.candidates[*at], &claims.domain);
        call.candidate(&inner.phrases, breaker.map(|breaker| &breaker.key), &split.here[*at], now);
    }
    call
}

fn shared_breaker<'a>(candidate: &'a CandidateClaim, domain: &str) -> Option<&'a BreakerClaim> {
    candidate.breaker.as_ref().filter(|breaker| *breaker.domain == *domain)
}

/// One call of the script.
pub(super) async fn said(inner: &Inner, domain: &str, call: &Call, asking: &Asking<'_>) -> Result<Answer, Missed> {
    let bytes = inner.link.call(domain, &inner.scripts.reserve, &call.keys(), &call.argument(asking)).await?;
    let answer = Answer::read(&bytes).map_err(|reason| {
        error!(%reason, "an answer of Redis cannot be read");
        Missed::Unreadable
    })?;
    inner.clock.heard(answer.now);
    Ok(answer)
}
