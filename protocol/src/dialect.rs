//! What a host's surface takes and gives beside the published shape. Data of a host, read by codecs on cross-shape only.

use serde::{Deserialize, Serialize};

/// How a host's OpenAI-like surface differs from OpenAI's own. The default is OpenAI's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dialect {
    /// The name of the output cap.
    pub max_tokens_field: MaxTokensField,
    /// How usage of a stream is asked for.
    pub stream_usage: StreamUsage,
    /// Where reasoning stands in answers.
    pub reasoning_field: ReasoningField,
    /// The role of operator instructions.
    pub system_role: SystemRole,
    /// Whether `response_format: json_schema` is taken.
    pub json_schema: bool,
    /// Whether `strict` on a tool is taken.
    pub tool_strict: bool,
    /// Whether `parallel_tool_calls` is taken.
    pub parallel_tool_calls: bool,
    /// Whether images may be given by URL; data URLs always may.
    pub image_urls: bool,
    /// What wraps an error.
    pub error_envelope: ErrorEnvelope,
    /// What tool call ids may look like.
    pub tool_call_ids: ToolCallIds,
    /// Whether reasoning of earlier turns is sent back, in the field where the host gives it.
    pub replays_reasoning: bool,
    /// Whether the fields that name the caller and its cache are taken (`safety_identifier`, `prompt_cache_key`,
    /// `metadata`); they are bookkeeping and are left out silently elsewhere.
    pub caller_fields: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            stream_usage: StreamUsage::Options,
            reasoning_field: ReasoningField::ReasoningContent,
            system_role: SystemRole::ByModel,
            json_schema: true,
            tool_strict: true,
            parallel_tool_calls: true,
            image_urls: true,
            error_envelope: ErrorEnvelope::Enveloped,
            tool_call_ids: ToolCallIds::Any,
            replays_reasoning: false,
            caller_fields: true,
        }
    }
}

/// The name of the output cap in chat requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxTokensField {
    /// `max_completion_tokens`.
    MaxCompletionTokens,
    /// `max_tokens`.
    MaxTokens,
}

/// How usage of a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamUsage {
    /// By `stream_options.include_usage`.
    Options,
    /// It always comes; the option is refused.
    Always,
    /// It never comes.
    Never,
}

/// Where reasoning stands in messages. Decoders of answers take every one of them; encoders of answers send
/// `ReasoningContent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasoningField {
    /// `reasoning_content`.
    ReasoningContent,
    /// `reasoning`.
    Reasoning,
    /// `reasoning_details`.
    ReasoningDetails,
    /// `thinking` parts within `content`.
    ContentParts,
}

/// The role of operator instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemRole {
    /// `developer` where the model's traits say so, else `system`.
    ByModel,
    /// Always `system`.
    System,
}

/// What wraps an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorEnvelope {
    /// `{"error": {...}}`.
    Enveloped,
    /// The error's fields at the top.
    Bare,
    /// `{"detail": ...}`.
    Detail,
}

/// What tool call ids may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolCallIds {
    /// Anything.
    Any,
    /// Nine letters and digits; others are mapped there and back.
    Alnum9,
}
