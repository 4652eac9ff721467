//! From table rows to claims: which counters a request touches, and how much it wants of each. Pure. Which they are
//! depends on the table alone, so that is found out once; how much is said for each request by [`wanting`].
//!
//! Decides what is claimed of small buckets: an estimate may be wrong, so it is cut to what the bucket could ever hold,
//! and only a request whose input is out of all proportion is refused for good.

use std::sync::Arc;

use table::{
    Budget, BudgetAction, Glob, LimitMode, LimitScope, Limits, NanoUsd, ObjectRef, Policy, ProviderLimits, RedisOutage,
    RelayKey,
};

use super::{
    claims::{BudgetClaim, RateClaim, ScopeClaim},
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

/// The caller's own scopes, with nothing claimed: of the key, of each policy, and of the model within each policy.
/// Scopes without any limit are left out.
pub fn caller_scopes(terms: &Terms<'_>) -> Vec<ScopeClaim> {
    let mut scopes = vec![own_scope(terms)];
    for of in terms.policies {
        let Policy { limits, budgets, limit_mode: mode, redis_outage: outage, .. } = of.policy;
        let sharer = sharer(of.policy.limit_scope, terms.key);
        let name = Scope::Policy { policy: of.name.clone(), sharer: sharer.clone() };
        let (mode, outage) = (*mode, *outage);
        scopes.push(ScopeClaim { mode, outage, ..scope(name, limits, budgets) });
        let limited = terms.model.and_then(|model| Some((model, model_limits(of, model)?)));
        if let Some((model, limits)) = limited {
            let name = Scope::Model { policy: of.name.clone(), sharer, model: model.to_owned() };
            scopes.push(ScopeClaim { mode, outage, ..scope(name, &limits, &[]) });
        }
    }
    scopes.retain(ScopeClaim::limits_something);
    scopes
}

/// The relay key's own scope. A key says nothing of outages itself: of what its policies say, the strictest holds.
fn own_scope(terms: &Terms<'_>) -> ScopeClaim {
    let RelayKey { limits, budget, .. } = terms.relay_key;
    let outage = terms.policies.iter().map(|of| of.policy.redis_outage).max();
    let name = Scope::RelayKey(terms.key.clone());
    let claim = scope(name, limits, budget.as_slice());
    ScopeClaim { mode: LimitMode::Exact, outage: outage.unwrap_or(RedisOutage::LocalShare), ..claim }
}

/// What a provider allows, with nothing claimed; absent: nothing is limited.
pub fn provider_scope(name: Scope, limits: &ProviderLimits) -> Option<ScopeClaim> {
    let scope = scope(name, &caller_like(limits), &[]);
    scope.limits_something().then_some(scope)
}

/// What a request of this size claims of these scopes.
pub fn wanting(scopes: &[ScopeClaim], expected: Expected) -> Vec<ScopeClaim> {
    scopes.iter().map(|scope| scope.wanting(expected)).collect()
}

impl ScopeClaim {
    /// What a request of this size claims of the scope, whatever was claimed here before.
    pub fn wanting(&self, expected: Expected) -> Self {
        let rates = self
            .rates
            .iter()
            .map(|rate| RateClaim { amount: rate_amount(rate.counted, rate.ceiling.capacity(), expected), ..*rate });
        let budgets = self
            .budgets
            .iter()
            .map(|budget| BudgetClaim { amount: budget_amount(budget.limit, expected.cost), ..budget.clone() });
        Self {
            scope: self.scope.clone(),
            rates: rates.collect(),
            concurrency: self.concurrency,
            budgets: budgets.collect(),
            mode: self.mode,
            outage: self.outage,
        }
    }
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

fn scope(name: Scope, limits: &Limits, budgets: &[Budget]) -> ScopeClaim {
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
        Some(RateClaim { counted, span, ceiling, amount: 0 })
    });
    ScopeClaim {
        rates: rates.collect(),
        concurrency: limits.concurrency,
        budgets: budgets.iter().map(budget_claim).collect(),
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

fn budget_amount(limit: NanoUsd, cost: NanoUsd) -> NanoUsd {
    NanoUsd(proportionate(cost.0, cost.0, limit.0))
}

fn budget_claim(budget: &Budget) -> BudgetClaim {
    BudgetClaim {
        period: budget.period,
        timezone: budget.timezone.as_str().into(),
        limit: budget.amount,
        amount: NanoUsd(0),
        blocks: budget.on_exceeded == BudgetAction::Block,
        alert_at_percent: budget.alert_at_percent.as_slice().into(),
    }
}

#[cfg(test)]
mod tests;
