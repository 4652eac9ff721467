//! Prices of tokens. All are US dollars for a million tokens, as decimal strings.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::text::Price;

/// What a model costs, in US dollars for a million tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pricing {
    /// Input that was neither read from nor written to a cache, such as `"3"` or `"0.075"`.
    #[serde(rename = "inputPerMTok")]
    pub input_per_mtok: Price,
    /// Output. `"0"` for models without, such as those that make embeddings.
    #[serde(rename = "outputPerMTok")]
    pub output_per_mtok: Price,
    /// Input that was read from a cache. Absent: as `inputPerMTok`.
    #[serde(rename = "cachedInputPerMTok", skip_serializing_if = "Option::is_none")]
    pub cached_input_per_mtok: Option<Price>,
    /// Input that was written to a cache for five minutes. Absent: as `inputPerMTok`.
    #[serde(rename = "cacheWrite5mPerMTok", skip_serializing_if = "Option::is_none")]
    pub cache_write_5m_per_mtok: Option<Price>,
    /// Input that was written to a cache for an hour. Absent: as `cacheWrite5mPerMTok`.
    #[serde(rename = "cacheWrite1hPerMTok", skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_per_mtok: Option<Price>,
    /// Output that is reasoning. Absent: as `outputPerMTok`.
    #[serde(rename = "reasoningPerMTok", skip_serializing_if = "Option::is_none")]
    pub reasoning_per_mtok: Option<Price>,
    /// Other prices for requests with much input. The tier with the highest `aboveInputTokens` that the input exceeds
    /// holds for the whole request. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["aboveInputTokens".into()]))]
    pub tiers: Option<Vec<PriceTier>>,
}

/// Prices for requests with much input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceTier {
    /// The tier holds when the input, cached or not, has more tokens than this.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub above_input_tokens: u64,
    /// Input that was neither read from nor written to a cache. Absent: as below the tier.
    #[serde(rename = "inputPerMTok", skip_serializing_if = "Option::is_none")]
    pub input_per_mtok: Option<Price>,
    /// Output. Absent: as below the tier.
    #[serde(rename = "outputPerMTok", skip_serializing_if = "Option::is_none")]
    pub output_per_mtok: Option<Price>,
    /// Input that was read from a cache. Absent: as below the tier.
    #[serde(rename = "cachedInputPerMTok", skip_serializing_if = "Option::is_none")]
    pub cached_input_per_mtok: Option<Price>,
    /// Input that was written to a cache for five minutes. Absent: as below the tier.
    #[serde(rename = "cacheWrite5mPerMTok", skip_serializing_if = "Option::is_none")]
    pub cache_write_5m_per_mtok: Option<Price>,
    /// Input that was written to a cache for an hour. Absent: as below the tier.
    #[serde(rename = "cacheWrite1hPerMTok", skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_per_mtok: Option<Price>,
    /// Output that is reasoning. Absent: as below the tier.
    #[serde(rename = "reasoningPerMTok", skip_serializing_if = "Option::is_none")]
    pub reasoning_per_mtok: Option<Price>,
}
