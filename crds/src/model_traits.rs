//! What a model can do and what it takes in a request.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;

choices! {
    /// Something that a request can need of a model.
    Capability {
        /// Messages in, a message out.
        Chat = "Chat",
        /// Text in, vectors out.
        Embeddings = "Embeddings",
        /// Answers by streaming.
        Streaming = "Streaming",
        /// Calls tools.
        Tools = "Tools",
        /// Calls several tools in one answer.
        ParallelTools = "ParallelTools",
        /// Keeps to a JSON schema.
        JsonSchema = "JsonSchema",
        /// Sees images.
        Vision = "Vision",
        /// Hears audio.
        AudioIn = "AudioIn",
        /// Speaks.
        AudioOut = "AudioOut",
        /// Thinks before it answers.
        Reasoning = "Reasoning",
        /// Caches prompts.
        PromptCache = "PromptCache",
    }
}

choices! {
    /// How a model is told how much to think.
    ReasoningTrait {
        /// Not at all: it gets no such field.
        None = "None",
        /// By a word of effort.
        Effort = "Effort",
        /// By letting it choose, with effort beside.
        AdaptiveThinking = "AdaptiveThinking",
        /// By a number of tokens.
        BudgetThinking = "BudgetThinking",
    }
}

/// What a model takes in a request. Unset fields come from what Relay knows of models of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traits {
    /// Whether temperature, top_p and top_k are taken. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<bool>,
    /// Whether stop sequences are taken. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
    /// How the model is told how much to think: `None` not at all, `Effort` by a word, `AdaptiveThinking` by letting it
    /// choose, `BudgetThinking` by a number of tokens. Absent: as known of the model; of an unknown model `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningTrait>,
    /// Words of effort that are taken, from the least to the most, such as `low`, `medium`, `high`. Absent: as known of the
    /// model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 16), regex(pattern = patterns::WORD)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub efforts: Option<Vec<String>>,
    /// Whether tools may be given together with reasoning in Chat Completions. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_tools_with_reasoning: Option<bool>,
    /// Whether instructions are taken with the role `developer`. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub developer_role: Option<bool>,
    /// Whether the model may be made to call a certain tool. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_tool_choice: Option<bool>,
    /// Whether the last message may be the beginning of the answer. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<bool>,
    /// Whether instructions are taken between other messages. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid_conversation_system: Option<bool>,
    /// Whether an answer can be held to a JSON schema. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<bool>,
    /// Whether the end of what is to be cached can be marked in a prompt. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_cache_breakpoints: Option<bool>,
    /// Whether temperature and top_p may be given together. Absent: as known of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_with_top_p: Option<bool>,
}
