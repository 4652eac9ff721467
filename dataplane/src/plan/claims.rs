//! What a plan claims of the limiter: the caller's scopes, and every key that could be tried, in order.

use smallvec::SmallVec;

use super::{Candidate, Draw, Plan};
use crate::{
    admit::Grant,
    auth::Caller,
    limit::{
        claims::{BreakerClaim, CandidateClaim, Claims, ScopeClaim},
        terms::{Expected, wanting},
    },
};

/// One key of one candidate: what one attempt uses.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// Its key.
    pub draw: &'a Draw,
}

/// All of a plan.
pub type Steps<'a> = SmallVec<[Step<'a>; 4]>;

impl Plan {
    /// Every key of every candidate, in the order in which they are tried; never empty. Indices into the claims'
    /// candidates are indices into this.
    pub fn steps(&self) -> Steps<'_> {
        self.each_step().collect()
    }

    fn each_step(&self) -> impl Iterator<Item = Step<'_>> {
        let of = |candidate| move |draw| Step { candidate, draw };
        self.candidates.iter().flat_map(move |candidate| candidate.draws.iter().map(of(candidate)))
    }

    /// The candidate and the key of one of its steps; absent: it has not so many.
    pub fn into_step(self, step: usize) -> Option<(Candidate, Draw)> {
        let mut before = step;
        for mut candidate in self.candidates {
            match before.checked_sub(candidate.draws.len()) {
                Some(less) => before = less,
                None => {
                    let draw = candidate.draws.swap_remove(before);
                    return Some((candidate, draw));
                }
            }
        }
        None
    }

    /// What the request wants to reserve; `at_most` candidates are wanted open.
    pub fn claims(&self, grant: &Grant, expected: Expected, at_most: usize) -> Claims {
        let key = &grant.caller().key;
        Claims {
            domain: key.domain.clone(),
            scopes: wanting(&key.scopes(Some(grant.public_model())), expected),
            candidates: self.each_step().map(|step| candidate(&step, expected)).collect(),
            max_candidates: at_most,
        }
    }
}

/// The scopes of a caller whatever it asks for, with nothing claimed: what `/v1/usage` tells of. Limits of single models
/// are not among them.
pub fn caller_scopes(caller: &Caller) -> Vec<ScopeClaim> {
    wanting(&caller.key.scopes(None), Expected::default())
}

/// What is claimed of a key and of its host, in this order.
fn candidate(step: &Step<'_>, expected: Expected) -> CandidateClaim {
    let own = step.draw.key.as_ref().and_then(|key| key.scope.as_ref());
    let scopes = own.into_iter().chain(&step.candidate.host.scope).map(|scope| scope.wanting(expected));
    CandidateClaim { breaker: breaker(step), scopes: scopes.collect() }
}

/// Whose breaker has to be closed for other replicas too; none for a key that is tried although it is out.
fn breaker(step: &Step<'_>) -> Option<BreakerClaim> {
    let domain = step.draw.key.as_ref().map_or(&step.candidate.host.domain, |key| &key.domain);
    (!step.draw.is_out).then(|| BreakerClaim { domain: domain.clone(), key: step.draw.hash })
}
