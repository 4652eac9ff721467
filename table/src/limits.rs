//! What can be limited, as numbers. How it is counted is the limiter's business.

use serde::{Deserialize, Serialize};

use crate::NanoUsd;

/// Limits on callers. Absent: not limited. Tokens are all input (cache reads and writes included) plus all output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Requests a day.
    pub rpd: Option<u64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Tokens a day.
    pub tpd: Option<u64>,
    /// Input tokens a minute.
    pub input_tpm: Option<u64>,
    /// Output tokens a minute.
    pub output_tpm: Option<u64>,
    /// Requests in flight.
    pub concurrency: Option<u64>,
    /// How far a minute's limit may be exceeded for a moment, in percent of it; 0: not at all.
    #[serde(default)]
    pub burst_percent: u32,
}

/// Limits that a provider sets on a host or an account. Absent: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderLimits {
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Requests a day.
    pub rpd: Option<u64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Tokens a day.
    pub tpd: Option<u64>,
    /// Requests in flight.
    pub concurrency: Option<u64>,
}

/// Who shares the counters of a policy's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitScope {
    /// Each relay key has its own.
    #[default]
    PerKey,
    /// All relay keys of one namespace that the policy serves share one set.
    Shared,
}

/// How exactly the counters of a policy's limits are kept where several data planes count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitMode {
    /// Every request is decided by the shared counters.
    #[default]
    Exact,
    /// Each data plane takes a share of what is left and spends it by itself: fewer round trips, and for a moment the
    /// limit may be exceeded by the shares in flight.
    Leased,
}

/// What limits and budgets do while the shared counters cannot be reached. Ordered: the later one is the stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RedisOutage {
    /// Everything passes.
    Open,
    /// Each data plane holds to its part of the limits: the limit divided by the data planes that were alive last.
    #[default]
    LocalShare,
    /// Nothing passes that has a limit or budget.
    Closed,
}

/// Limits on the models that a glob matches; each model has its own counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelLimits {
    /// A glob over public model ids.
    #[serde(rename = "match")]
    pub matches: String,
    /// The limits of each model.
    pub limits: Limits,
}

/// An amount that may be spent in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// How much.
    pub amount: NanoUsd,
    /// In which period.
    pub period: Period,
    /// The IANA time zone in which periods begin, as `Europe/Berlin`; default `UTC`.
    pub timezone: String,
    /// What happens when it is spent.
    pub on_exceeded: BudgetAction,
    /// Shares of the amount at which an alert is raised, in percent, ascending.
    pub alert_at_percent: Vec<u32>,
}

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday (ISO 8601).
    Week,
    /// A calendar month.
    Month,
    /// Never begins anew.
    Total,
}

/// What happens when a budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BudgetAction {
    /// Requests are refused.
    #[default]
    Block,
    /// Requests go on; the record and a metric say so.
    Alert,
}
