//! The ceilings of a `Policy`: over all models, and of single models.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::common::CallerLimits;
use crate::patterns;

choices! {
    /// Who shares a counter.
    LimitScope {
        /// Each RelayKey has its own.
        PerKey = "PerKey",
        /// All RelayKeys of the policy share one.
        Shared = "Shared",
    }
}

choices! {
    /// How exactly data planes count together.
    LimitMode {
        /// Every request is decided by the shared counters.
        Exact = "Exact",
        /// Each data plane takes a share of what is left and spends it by itself.
        Leased = "Leased",
    }
}

/// Ceilings on requests, tokens and concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLimits {
    /// Requests per minute. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpm: Option<u64>,
    /// Requests per day. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpd: Option<u64>,
    /// Tokens per minute: all input (cached included) plus all output (reasoning included). Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpm: Option<u64>,
    /// Tokens per day, counted as `tpm` counts them. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpd: Option<u64>,
    /// Input tokens per minute, cache reads and writes included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub input_tpm: Option<u64>,
    /// Output tokens per minute, reasoning included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub output_tpm: Option<u64>,
    /// Requests in flight at the same time. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
    /// How far a limit per minute may be exceeded for a moment, in percent of it; the next minute pays it back. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub burst_percent: Option<u32>,
    /// `PerKey`: each RelayKey has counters of its own. `Shared`: all RelayKeys of the policy share them, those of each
    /// namespace for themselves. Holds for budgets too. Absent: `PerKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<LimitScope>,
    /// How exactly several data planes count together, by their Redis; one without Redis counts by itself. `Exact`: every
    /// request is decided by the shared counters, and a limit is never exceeded by what is admitted. `Leased`: each data
    /// plane takes shares of what is left and spends them by itself, which spares Redis most calls for very busy
    /// policies; for a moment a limit may be exceeded, by at most 5 percent of it for each data plane. Holds for
    /// `perModel` and for budgets too. Absent: `Exact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
    /// Ceilings of single models, charged beside those above. Each model that a pattern matches has counters of its own.
    /// Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["match".into()]))]
    pub per_model: Option<Vec<ModelLimits>>,
}

/// Ceilings of single models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelLimits {
    /// Pattern (`*` any run, `?` any one character) of the model ids that this is for. The first that matches holds.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB))]
    pub pattern: String,
    /// Requests per minute. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpm: Option<u64>,
    /// Requests per day. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpd: Option<u64>,
    /// Tokens per minute: all input (cached included) plus all output (reasoning included). Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpm: Option<u64>,
    /// Tokens per day, counted as `tpm` counts them. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpd: Option<u64>,
    /// Input tokens per minute, cache reads and writes included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub input_tpm: Option<u64>,
    /// Output tokens per minute, reasoning included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub output_tpm: Option<u64>,
    /// Requests in flight at the same time. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
    /// How far a limit per minute may be exceeded for a moment, in percent of it; the next minute pays it back. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub burst_percent: Option<u32>,
}

impl PolicyLimits {
    /// The ceilings over all models, without scope, mode and `perModel`.
    pub fn dimensions(&self) -> CallerLimits {
        CallerLimits {
            rpm: self.rpm,
            rpd: self.rpd,
            tpm: self.tpm,
            tpd: self.tpd,
            input_tpm: self.input_tpm,
            output_tpm: self.output_tpm,
            concurrency: self.concurrency,
            burst_percent: self.burst_percent,
        }
    }
}

impl ModelLimits {
    /// The ceilings without the pattern.
    pub fn dimensions(&self) -> CallerLimits {
        CallerLimits {
            rpm: self.rpm,
            rpd: self.rpd,
            tpm: self.tpm,
            tpd: self.tpd,
            input_tpm: self.input_tpm,
            output_tpm: self.output_tpm,
            concurrency: self.concurrency,
            burst_percent: self.burst_percent,
        }
    }
}
