//! What a model takes, by glob of its upstream name. The data is in `data/traits.json`; a Model's own `traits` win.

use serde::{Deserialize, Serialize};

/// What a model takes. Absent knowledge is a trait too: [`Traits::for_model`] says what is assumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Traits {
    /// Whether the model is in the data at all.
    pub known: bool,
    /// `temperature`, `top_p`, `top_k`.
    pub sampling: bool,
    /// `temperature` and `top_p` in one request.
    pub temperature_with_top_p: bool,
    /// Stop sequences.
    pub stop: bool,
    /// How reasoning is asked for.
    pub reasoning: ReasoningStyle,
    /// The efforts that it takes, lowest first; empty: it takes none.
    pub efforts: Vec<String>,
    /// Function tools together with an effort other than `none` on Chat Completions.
    pub chat_tools_with_reasoning: bool,
    /// The role `developer`.
    pub developer_role: bool,
    /// A tool choice that forces a call.
    pub forced_tool_choice: bool,
    /// A trailing assistant message that the answer continues.
    pub prefill: bool,
    /// Operator messages after the first turn.
    pub mid_conversation_system: bool,
    /// A schema for the answer, natively.
    pub json_schema: bool,
    /// Explicit prompt-cache breakpoints (OpenAI).
    pub prompt_cache_breakpoints: bool,
    /// Most tokens of one answer.
    pub max_output_tokens: u64,
}

/// How a model is asked to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasoningStyle {
    /// Not at all.
    None,
    /// By a word of effort (OpenAI).
    Effort,
    /// Adaptive thinking and an effort (Claude 4.6 and later).
    AdaptiveThinking,
    /// Thinking with a budget of tokens (Claude up to 4.5).
    BudgetThinking,
}

impl Default for Traits {
    /// A model that nothing is known of: no reasoning fields, answers of 4,096 tokens, all else allowed.
    fn default() -> Self {
        Self {
            known: false,
            sampling: true,
            temperature_with_top_p: true,
            stop: true,
            reasoning: ReasoningStyle::None,
            efforts: Vec::new(),
            chat_tools_with_reasoning: true,
            developer_role: false,
            forced_tool_choice: true,
            prefill: true,
            mid_conversation_system: false,
            json_schema: true,
            prompt_cache_breakpoints: false,
            max_output_tokens: 4_096,
        }
    }
}
