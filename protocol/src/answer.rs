//! A whole answer in canonical form.

use serde_json::Value;

use crate::{
    request::{Opaque, ToolCall},
    usage::Usage,
};

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The upstream's id; empty where it gave none.
    pub id: String,
    /// The model that answered, as the upstream calls it; empty where it did not say.
    pub model: String,
    /// Seconds since the epoch, where the shape says.
    pub created: Option<u64>,
    /// One a choice; every shape but Chat and Gemini has exactly one.
    pub choices: Vec<Choice>,
    /// Tokens; absent: the upstream did not say.
    pub usage: Option<Usage>,
    /// The tier that served it, in the upstream's word.
    pub service_tier: Option<String>,
}

/// One choice of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Its content in order.
    pub blocks: Vec<Block>,
    /// Why it ended; absent: the upstream did not say.
    pub stop: Option<Stop>,
    /// Log probabilities of the text, as OpenAI's `logprobs` object.
    pub logprobs: Option<Value>,
}

/// A block of content.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// What it rests on.
        citations: Vec<Citation>,
    },
    /// The model declined, in its own words.
    Refusal(String),
    /// Reasoning in clear.
    Thinking {
        /// The text; may be empty.
        text: String,
        /// What proves it to its issuer.
        proof: Option<Opaque>,
    },
    /// Reasoning that only its issuer can read.
    RedactedThinking(Opaque),
    /// A call of a tool.
    ToolCall(ToolCall),
    /// A block that no other shape knows, as it stood.
    Raw {
        /// Its type in the upstream's shape.
        name: String,
        /// The block.
        value: Value,
    },
}

/// What a text rests on.
#[derive(Clone, Debug, PartialEq)]
pub enum Citation {
    /// A page on the web.
    Url {
        /// Its address.
        url: String,
        /// Its title.
        title: Option<String>,
        /// The cited words.
        cited_text: Option<String>,
        /// Where in the text it is used, in characters, where the shape says.
        span: Option<(u64, u64)>,
        /// The citation as it stood.
        raw: Value,
    },
    /// Something else (a place in a document, a file), as it stood.
    Other(Value),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// The reason.
    pub reason: StopReason,
    /// The stop sequence that was met.
    pub sequence: Option<String>,
    /// Anthropic's `stop_details`: category and explanation of a refusal.
    pub details: Option<Value>,
}

impl Stop {
    /// A reason without details.
    pub fn new(reason: StopReason) -> Self {
        Self { reason, sequence: None, details: None }
    }
}

/// A reason why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done.
    EndTurn,
    /// A stop sequence was met.
    StopSequence,
    /// The output cap was reached.
    MaxTokens,
    /// A tool shall be called.
    ToolUse,
    /// The model declined.
    Refusal,
    /// A filter of the provider stopped it.
    ContentFilter,
    /// The provider paused a long turn; the caller shall send it back to go on.
    PauseTurn,
    /// The context window was full.
    ContextWindow,
    /// The conversation was compacted.
    Compaction,
    /// A word that this codec does not know.
    Unknown(String),
}
