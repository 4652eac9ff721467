//! The labels of metrics: closed sets, and names of the table.

use std::{fmt::Write, sync::Arc};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use table::{RedisOutage, WireShape};

/// A name of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) Arc<str>);

impl Name {
    /// There is none: the request did not come so far.
    pub(super) fn none() -> Self {
        Self("".into())
    }

    /// One of those beyond the bound.
    pub(super) fn other() -> Self {
        Self("other".into())
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) shape: &'static str,
    pub(super) model: Name,
    pub(super) host: Name,
    pub(super) status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DurationLabels {
    pub(super) shape: &'static str,
    pub(super) model: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) model: Name,
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CostLabels {
    pub(super) model: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KeyLabels {
    pub(super) relay_key: Name,
    pub(super) team: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KeyTokenLabels {
    pub(super) relay_key: Name,
    pub(super) team: Name,
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    pub(super) host: Name,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BreakerLabels {
    pub(super) host_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) scope: &'static str,
    pub(super) rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ErrorLabels {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LossLabels {
    pub(super) field: &'static str,
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TableLabels {
    pub(super) digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ObjectLabels {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) script: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ScriptLabels {
    pub(super) script: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModeLabels {
    pub(super) mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

pub(super) fn mode(mode: RedisOutage) -> &'static str {
    match mode {
        RedisOutage::LocalShare => "local_share",
        RedisOutage::Closed => "closed",
        RedisOutage::Open => "open",
    }
}

pub(super) fn shape(shape: Option<WireShape>) -> &'static str {
    match shape {
        Some(WireShape::OpenaiChat) => "openai-chat",
        Some(WireShape::AnthropicMessages) => "anthropic-messages",
        None => "",
    }
}

/// Shapes of callers, and that none was recognised.
pub(super) const SHAPES: usize = 3;

/// Which of them it is.
pub(super) fn shape_index(shape: Option<WireShape>) -> usize {
    match shape {
        None => 0,
        Some(WireShape::OpenaiChat) => 1,
        Some(WireShape::AnthropicMessages) => 2,
    }
}

/// Classes of statuses.
pub(super) const STATUSES: [&str; 6] = ["2xx", "3xx", "429", "4xx", "5xx", "other"];

/// Which of [`STATUSES`] a status is of.
pub(super) fn class(status: u16) -> usize {
    match status {
        200..=299 => 0,
        300..=399 => 1,
        429 => 2,
        400..=499 => 3,
        500..=599 => 4,
        _ => 5,
    }
}

/// The field of the shape that a path begins with, where it is one that the shapes are known to have.
pub(super) fn loss_field(path: &str) -> &'static str {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let known = LOSS_FIELDS.iter().find(|known| **known == &path[..end]);
    known.copied().unwrap_or("other")
}

/// Fields at the top of requests and answers, of both shapes.
const LOSS_FIELDS: &[&str] = &[
    "audio",
    "cache_control",
    "choices",
    "container",
    "content",
    "context_management",
    "error",
    "frequency_penalty",
    "function_call",
    "functions",
    "inference_geo",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "modalities",
    "n",
    "output_config",
    "output_format",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stop_details",
    "stop_sequences",
    "store",
    "stream_options",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "usage",
    "user",
    "verbosity",
    "web_search_options",
];
