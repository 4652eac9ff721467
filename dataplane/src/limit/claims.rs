//! What a request wants to reserve, as one value: all scopes, all amounts, and the host keys that could serve it.
//!
//! Complete in itself, so that one call to a store can decide it. How it is made from table rows is in `terms`.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;
use table::{LimitMode, NanoUsd, Period, RedisOutage};

use super::{
    reservation::Used,
    rule::{Counted, Rule, Scope, Span},
    window::Ceiling,
};
use crate::upstream::credentials::KeyHash;

/// What a request wants to reserve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// The namespace of the relay key: what counters of one request have in common.
    pub domain: Arc<str>,
    /// The caller's scopes; every rule of each must let it in.
    pub scopes: Vec<ScopeClaim>,
    /// Host keys that could serve it, in order of preference; one of them at least must be open. Empty: none is needed.
    pub candidates: Vec<CandidateClaim>,
    /// How many open candidates are wanted at most.
    pub max_candidates: usize,
}

impl Claims {
    /// Whether no counter has a say.
    pub(super) fn limit_nothing(&self) -> bool {
        self.scopes.is_empty() && self.candidates.iter().all(|candidate| candidate.scopes.is_empty())
    }
}

/// What is claimed of a candidate: the scopes of its host key and of its host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CandidateClaim {
    /// Its breaker, which other replicas may have opened; absent: whether it is open does not matter.
    pub breaker: Option<BreakerClaim>,
    /// They open and close together.
    pub scopes: Vec<ScopeClaim>,
}

/// The breaker of a host key, as all replicas know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BreakerClaim {
    /// The namespace of the host key, or of the host where it needs none.
    pub domain: Arc<str>,
    /// Under which its health is kept.
    pub key: KeyHash,
}

/// Rates of one scope: as many as people set are kept without an allocation.
pub type Rates = SmallVec<[RateClaim; 4]>;

/// Budgets of one scope, likewise.
pub type Budgets = SmallVec<[BudgetClaim; 1]>;

/// What is claimed of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeClaim {
    /// Whose counters. No scope appears twice among the caller's, nor within one candidate.
    pub scope: Arc<Scope>,
    /// One for each rate that is limited; none twice.
    pub rates: Rates,
    /// Most requests in flight; absent: not limited.
    pub concurrency: Option<u64>,
    /// One a period.
    pub budgets: Budgets,
    /// How exactly replicas count together.
    pub mode: LimitMode,
    /// What holds while they cannot.
    pub outage: RedisOutage,
}

impl ScopeClaim {
    /// Nothing is claimed yet.
    pub fn new(scope: Arc<Scope>) -> Self {
        Self {
            scope,
            rates: Rates::new(),
            concurrency: None,
            budgets: Budgets::new(),
            mode: LimitMode::default(),
            outage: RedisOutage::default(),
        }
    }

    /// Whether it has any rule.
    pub fn limits_something(&self) -> bool {
        !self.rates.is_empty() || self.concurrency.is_some() || !self.budgets.is_empty()
    }
}

/// What is claimed of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateClaim {
    /// What it counts.
    pub counted: Counted,
    /// In which time.
    pub span: Span,
    /// What it lets in.
    pub ceiling: Ceiling,
    /// How much is wanted; more than the ceiling's capacity is refused for good.
    pub amount: u64,
}

impl RateClaim {
    /// Which rule this is.
    pub fn rule(&self) -> Rule {
        Rule::Rate { counted: self.counted, span: self.span }
    }

    /// What really counts against it.
    pub fn used(&self, used: &Used) -> u64 {
        match self.counted {
            Counted::Requests => 1,
            Counted::Tokens => used.input_tokens.saturating_add(used.output_tokens),
            Counted::InputTokens => used.input_tokens,
            Counted::OutputTokens => used.output_tokens,
        }
    }
}

/// What is claimed of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetClaim {
    /// Its calendar period.
    pub period: Period,
    /// The IANA time zone in which periods begin.
    pub timezone: Arc<str>,
    /// What may be spent.
    pub limit: NanoUsd,
    /// What the request is expected to cost; more than the limit is refused for good.
    pub amount: NanoUsd,
    /// Whether a spent budget refuses; otherwise it only alerts.
    pub blocks: bool,
    /// Shares of the limit at which an alert is raised, in percent.
    pub alert_at_percent: Arc<[u32]>,
}

impl BudgetClaim {
    /// Which rule this is.
    pub fn rule(&self) -> Rule {
        Rule::Budget(self.period)
    }

    /// The highest share of the limit that `spent` has reached and that deserves an alert: one of those listed, or 100
    /// where the budget is spent.
    pub fn alert(&self, spent: u64) -> Option<u32> {
        let reached = |percent: &u32| u128::from(spent) * 100 >= u128::from(self.limit.0) * u128::from(*percent);
        let listed = self.alert_at_percent.iter().copied().filter(reached).max();
        listed.max((spent > self.limit.0).then_some(100))
    }

    /// Milliseconds until the period's end; absent: it never ends.
    pub(crate) fn wait(end: Option<Timestamp>, now: Timestamp) -> Option<u64> {
        // Rounded up: a budget must not be said to be open before it is.
        end.map(|end| u64::try_from(end.duration_since(now).as_nanos().max(0)).unwrap_or(u64::MAX).div_ceil(1_000_000))
    }
}
