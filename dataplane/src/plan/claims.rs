//! What a plan claims of the limiter: the caller's scopes, and every key that could be tried, in order.

use super::{Candidate, Draw, Plan};
use crate::{
    admit::Grant,
    auth::Caller,
    limit::{
        claims::{BreakerClaim, Claims, ScopeClaim},
        terms::{self, CandidateTerms, Expected, PolicyTerms, Terms},
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

impl Plan {
    /// Every key of every candidate, in the order in which they are tried; never empty. Indices into the claims'
    /// candidates are indices into this.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let of = |candidate| move |draw| Step { candidate, draw };
        self.candidates.iter().flat_map(|candidate| candidate.draws.iter().map(of(candidate))).collect()
    }

    /// What the request wants to reserve; `at_most` candidates are wanted open.
    pub fn claims(&self, grant: &Grant, expected: Expected, at_most: usize) -> Claims {
        let steps = self.steps();
        let candidates: Vec<_> = steps.iter().map(candidate_terms).collect();
        let policies = policy_terms(grant.caller());
        let terms = of(grant.caller(), &policies, Some(grant.public_model()));
        let mut claims = terms::claims(&terms, &candidates, expected, at_most);
        for (claim, step) in claims.candidates.iter_mut().zip(&steps) {
            claim.breaker = breaker(step);
        }
        claims
    }
}

/// The scopes of a caller whatever it asks for, with nothing claimed: what `/v1/usage` tells of. Limits of single models
/// are not among them.
pub fn caller_scopes(caller: &Caller) -> Vec<ScopeClaim> {
    terms::caller_scopes(&of(caller, &policy_terms(caller), None), Expected::default())
}

fn candidate_terms<'a>(step: &Step<'a>) -> CandidateTerms<'a> {
    let host = &step.candidate.host;
    let key = step.draw.key.as_ref().map(|key| (&key.id, &key.row.limits));
    CandidateTerms { host: (&host.id, &host.row.limits), key }
}

/// Whose breaker has to be closed for other replicas too; none for a key that is tried although it is out.
fn breaker(step: &Step<'_>) -> Option<BreakerClaim> {
    let name = step.draw.key.as_ref().map_or(&step.candidate.host.id, |key| &key.id);
    (!step.draw.is_out).then(|| BreakerClaim { domain: name.namespace.clone(), key: step.draw.hash })
}

fn policy_terms(caller: &Caller) -> Vec<PolicyTerms<'_>> {
    let policies = caller.key.policies.iter();
    policies.map(|p| PolicyTerms { name: &p.id, policy: &p.row, per_model: &p.per_model }).collect()
}

fn of<'a>(caller: &'a Caller, policies: &'a [PolicyTerms<'a>], model: Option<&'a str>) -> Terms<'a> {
    Terms { key: &caller.key.id, relay_key: &caller.key.row, policies, model }
}
