//! From table rows to claims: which counters a request touches, and how much it wants of each. Pure.
//!
//! Decides what is claimed of small buckets: an estimate may be wrong, so it is cut to what the bucket could ever hold,
//! and only a request whose input is out of all proportion is refused for good.

use std::sync::Arc;

use table::{
    Budget, BudgetAction, Glob, LimitMode, LimitScope, Limits, NanoUsd, ObjectRef, Policy, ProviderLimits, RedisOutage,
    RelayKey,
};

use super::{
    claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
    rule::{Counted, Scope, Sharer, Span},
    window::Ceiling,
};

/// An input that is estimated at more than this many times what a bucket holds can never fit: no estimate is that wrong.
const OUT_OF_PROPORTION: u64 = 2;

/// Who asks, for which model, under which rules.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The relay key's name.
    pub key: &'a ObjectRef,
    /// Its row.
    pub relay_key: &'a RelayKey,
    /// Every policy of the key.
    pub policies: &'a [PolicyTerms<'a>],
    /// The public id of the model; absent: limits of single models are left out.
    pub model: Option<&'a str>,
}

/// A policy of the key.
#[derive(Clone, Copy)]
pub struct PolicyTerms<'a> {
    /// Its name.
    pub name: &'a ObjectRef,
    /// Its row.
    pub policy: &'a Policy,
    /// The patterns of [`Policy::per_model`], compiled, in the same order.
    pub per_model: &'a [Glob],
}

/// A host key that could serve the request.
#[derive(Clone, Copy)]
pub struct CandidateTerms<'a> {
    /// Its host.
    pub host: (&'a ObjectRef, &'a ProviderLimits),
    /// The key itself; absent where the host needs none.
    pub key: Option<(&'a ObjectRef, &'a ProviderLimits)>,
}

/// How large a request is thought to be before its answer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Tokens of the input.
    pub input: u64,
    /// Tokens of the output.
    pub output: u64,
    /// Money; zero where no price is known.
    pub cost: NanoUsd,
}

/// Everything that a request wants to reserve. Scopes without any limit are left out.
pub fn claims(
    terms: &Terms<'_>,
    candidates: &[CandidateTerms<'_>],
    expected: Expected,
    max_candidates: usize,
) -> Claims {
    Claims {
        domain: terms.key.namespace.clone(),
        scopes: caller_scopes(terms, expected),
        candidates: candidates.iter().map(|candidate| candidate_claim(candidate, expected)).collect(),
        max_candidates,
    }
}

/// The caller's own scopes: of the key, of each policy, and of the model within each policy.
pub fn caller_scopes(terms: &Terms<'_>, expected: Expected) -> Vec<ScopeClaim> {
    let mut scopes = vec![own_scope(terms, expected)];
    for of in terms.policies {
        let Policy { limits, budgets, limit_mode: mode, redis_outage: outage, .. } = of.policy;
        let sharer = sharer(of.policy.limit_scope, terms.key);
        let name = Scope::Policy { policy: of.name.clone(), sharer: sharer.clone() };
        let (mode, outage) = (*mode, *outage);
        scopes.push(ScopeClaim { mode, outage, ..scope(name, limits, budgets, expected) });
        let limited = terms.model.and_then(|model| Some((model, model_limits(of, model)?)));
        if let Some((model, limits)) = limited {
            let name = Scope::Model { policy: of.name.clone(), sharer, model: model.to_owned() };
            scopes.push(ScopeClaim { mode, outage, ..scope(name, &limits, &[], expected) });
        }
    }
    scopes.retain(ScopeClaim::limits_something);
    scopes
}

/// The relay key's own scope. A key says nothing of outages itself: of what its policies say, the strictest holds.
fn own_scope(terms: &Terms<'_>, expected: Expected) -> ScopeClaim {
    let RelayKey { limits, budget, .. } = terms.relay_key;
    let outage = terms.policies.iter().map(|of| of.policy.redis_outage).max();
    let name = Scope::RelayKey(terms.key.clone());
    let claim = scope(name, limits, budget.as_slice(), expected);
    ScopeClaim { mode: LimitMode::Exact, outage: outage.unwrap_or(RedisOutage::LocalShare), ..claim }
}

fn candidate_claim(candidate: &CandidateTerms<'_>, expected: Expected) -> CandidateClaim {
    let key = candidate.key.map(|(name, limits)| (Scope::HostKey(name.clone()), limits));
    let host = (Scope::Host(candidate.host.0.clone()), candidate.host.1);
    let scopes = key.into_iter().chain([host]).map(|(name, limits)| scope(name, &caller_like(limits), &[], expected));
    CandidateClaim { breaker: None, scopes: scopes.filter(ScopeClaim::limits_something).collect() }
}

fn sharer(scope: LimitScope, key: &ObjectRef) -> Sharer {
    match scope {
        LimitScope::PerKey => Sharer::Key(key.clone()),
        LimitScope::Shared => Sharer::Namespace(key.namespace.clone()),
    }
}

/// The limits of one model: of every pattern that matches it, the lowest of each kind.
fn model_limits(of: &PolicyTerms<'_>, model: &str) -> Option<Limits> {
    let matching = of.policy.per_model.iter().zip(of.per_model).filter(|(_, glob)| glob.matches(model));
    matching.map(|(row, _)| row.limits.clone()).reduce(|one, other| tightest(&one, &other))
}

fn tightest(one: &Limits, other: &Limits) -> Limits {
    let lower = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    Limits {
        rpm: lower(one.rpm, other.rpm),
        rpd: lower(one.rpd, other.rpd),
        tpm: lower(one.tpm, other.tpm),
        tpd: lower(one.tpd, other.tpd),
        input_tpm: lower(one.input_tpm, other.input_tpm),
        output_tpm: lower(one.output_tpm, other.output_tpm),
        concurrency: lower(one.concurrency, other.concurrency),
        burst_percent: one.burst_percent.min(other.burst_percent),
    }
}

fn caller_like(limits: &ProviderLimits) -> Limits {
    let ProviderLimits { rpm, rpd, tpm, tpd, concurrency } = *limits;
    Limits { rpm, rpd, tpm, tpd, concurrency, ..Limits::default() }
}

fn scope(name: Scope, limits: &Limits, budgets: &[Budget], expected: Expected) -> ScopeClaim {
    let kinds = [
        (Counted::Requests, Span::Minute, limits.rpm),
        (Counted::Requests, Span::Day, limits.rpd),
        (Counted::Tokens, Span::Minute, limits.tpm),
        (Counted::Tokens, Span::Day, limits.tpd),
        (Counted::InputTokens, Span::Minute, limits.input_tpm),
        (Counted::OutputTokens, Span::Minute, limits.output_tpm),
    ];
    let rates = kinds.into_iter().filter_map(|(counted, span, limit)| {
        let ceiling = ceiling(span, limit?, limits.burst_percent);
        Some(RateClaim { counted, span, ceiling, amount: rate_amount(counted, ceiling.capacity(), expected) })
    });
    ScopeClaim {
        rates: rates.collect(),
        concurrency: limits.concurrency,
        budgets: budgets.iter().map(|budget| budget_claim(budget, expected.cost)).collect(),
        ..ScopeClaim::new(Arc::new(name))
    }
}

fn ceiling(span: Span, limit: u64, burst_percent: u32) -> Ceiling {
    match span {
        Span::Minute => Ceiling { limit, burst_percent },
        Span::Day => Ceiling::flat(limit),
    }
}

fn rate_amount(counted: Counted, capacity: u64, expected: Expected) -> u64 {
    match counted {
        Counted::Requests => 1,
        Counted::Tokens => proportionate(expected.input, expected.input.saturating_add(expected.output), capacity),
        Counted::InputTokens => proportionate(expected.input, expected.input, capacity),
        // At least one, so that a limit of zero lets nothing in.
        Counted::OutputTokens => expected.output.clamp(1, capacity.max(1)),
    }
}

/// What is claimed of a bucket: the whole bucket at most, unless the part that is known is out of proportion.
fn proportionate(known: u64, wanted: u64, capacity: u64) -> u64 {
    if known > capacity.saturating_mul(OUT_OF_PROPORTION) { wanted } else { wanted.min(capacity) }
}

fn budget_claim(budget: &Budget, cost: NanoUsd) -> BudgetClaim {
    BudgetClaim {
        period: budget.period,
        timezone: budget.timezone.clone(),
        limit: budget.amount,
        amount: NanoUsd(proportionate(cost.0, cost.0, budget.amount.0)),
        blocks: budget.on_exceeded == BudgetAction::Block,
        alert_at_percent: budget.alert_at_percent.clone(),
    }
}

#[cfg(test)]
mod tests;
