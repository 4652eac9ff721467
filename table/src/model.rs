//! A public model id: where it is served, what it can do, what it costs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{NamespaceGrant, NanoUsd, ObjectRef, PicoUsdPerToken, Traits};

/// A public model id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// The id that callers send.
    pub model_name: String,
    /// Other ids that mean the same, sorted.
    pub aliases: Vec<String>,
    /// Where it is served.
    pub route: Route,
    /// What it can do; empty: not known, nothing is checked.
    pub capabilities: BTreeSet<Capability>,
    /// Tokens of input and output together; absent: not known.
    pub context_window: Option<u64>,
    /// Most tokens of one answer; absent: that of the traits.
    pub max_output_tokens: Option<u64>,
    /// What it costs where the binding does not say.
    pub pricing: Option<Pricing>,
    /// Who sees it.
    pub visibility: Visibility,
    /// Suspended: known, but no candidate.
    pub suspended: bool,
    /// The namespaces whose relay keys and virtual models may name it.
    pub allowed: NamespaceGrant,
}

/// Where a model is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Route {
    /// At hosts.
    Bindings(Vec<Binding>),
    /// By other models.
    Virtual {
        /// How a target is chosen.
        strategy: VirtualStrategy,
        /// In the order of the manifest.
        targets: Vec<Target>,
    },
}

/// A model at a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Its name within the model.
    pub name: String,
    /// The host.
    pub host: ObjectRef,
    /// What the host calls the model.
    pub upstream_model: String,
    /// Its share among bindings of equal priority, 1 to 1000; default 100.
    pub weight: u32,
    /// Lower goes first, 0 to 100; default 0.
    pub priority: u32,
    /// Suspended: no candidate.
    pub suspended: bool,
    /// What it costs here, where that differs from the model.
    pub pricing: Option<Pricing>,
    /// The context window here, where that differs from the model.
    pub context_window: Option<u64>,
    /// What the model takes here.
    pub traits: Traits,
    /// Why this binding cannot be used, where it cannot (its host is missing, not permitted or invalid).
    pub unusable: Option<String>,
}

/// A target of a virtual model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The model.
    pub model: ObjectRef,
    /// Its share where the strategy is weighted, 1 to 1000; default 100.
    pub weight: u32,
    /// Lower goes first, 0 to 100; default 0.
    pub priority: u32,
    /// Why this target cannot be used, where it cannot.
    pub unusable: Option<String>,
}

/// How a virtual model chooses its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VirtualStrategy {
    /// At random by weight; the others follow as fallbacks.
    Weighted,
    /// In order of priority, then as listed.
    Failover,
}

/// Who sees a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// Callers.
    #[default]
    Public,
    /// Virtual models alone.
    Internal,
}

/// Something that a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Capability {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Rerank,
    Tools,
    ParallelTools,
    JsonSchema,
    Vision,
    AudioIn,
    AudioOut,
    Reasoning,
    PromptCache,
    Batch,
    Streaming,
}

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pricing {
    /// The rates that hold below every tier.
    pub rates: Rates,
    /// Spoken audio in.
    pub audio_in: Option<PicoUsdPerToken>,
    /// Spoken audio out.
    pub audio_out: Option<PicoUsdPerToken>,
    /// One image of the input.
    pub per_image: Option<NanoUsd>,
    /// One request, whatever its size.
    pub per_request: Option<NanoUsd>,
    /// Rates for long inputs, ascending by their bound; the last whose bound is exceeded holds for the whole request.
    pub tiers: Vec<Tier>,
    /// From when on the prices hold.
    pub effective_from: Option<Timestamp>,
    /// Where they come from, for the usage record; absent: the object itself.
    pub source: Option<String>,
}

/// Prices of tokens. Absent: not known, or where a doc says so, the price of another kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Input that was neither read from nor written to a cache.
    pub input: Option<PicoUsdPerToken>,
    /// Output; reasoning too unless it has its own.
    pub output: Option<PicoUsdPerToken>,
    /// Input read from a cache; absent: as `input`.
    pub cached_input: Option<PicoUsdPerToken>,
    /// Input written to a cache for five minutes; absent: as `input`.
    pub cache_write_5m: Option<PicoUsdPerToken>,
    /// Input written to a cache for an hour; absent: as `cache_write_5m`.
    pub cache_write_1h: Option<PicoUsdPerToken>,
    /// Reasoning within the output; absent: as `output`.
    pub reasoning: Option<PicoUsdPerToken>,
}

/// Rates for inputs above a size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// Holds when all input together is more tokens than this.
    pub above_input_tokens: u64,
    /// The rates; absent ones stay as below.
    pub rates: Rates,
}
