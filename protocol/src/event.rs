//! A streamed answer in canonical form: what decoders give and encoders take.
//!
//! Per choice, blocks have dense indexes from 0 in the order of their start. Several tool calls may be open at once
//! (parallel deltas by index); an encoder whose shape cannot interleave holds the later ones back.

use serde_json::Value;

use crate::{
    answer::{Citation, Stop},
    error::WireError,
    request::{Issuer, ToolKind},
    usage::Usage,
};

/// One event of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer begins; exactly once, first.
    Start(Start),
    /// A block begins.
    BlockStart {
        /// The choice.
        choice: u32,
        /// The block.
        index: u32,
        /// What it is.
        block: BlockStart,
    },
    /// A block goes on.
    Delta {
        /// The choice.
        choice: u32,
        /// The block.
        index: u32,
        /// By what.
        delta: Delta,
    },
    /// A block is complete.
    BlockStop {
        /// The choice.
        choice: u32,
        /// The block.
        index: u32,
    },
    /// Log probabilities of a choice's text, as OpenAI's `logprobs` object.
    Logprobs {
        /// The choice.
        choice: u32,
        /// The object.
        value: Value,
    },
    /// Tokens so far: replaces what was said before, field by field.
    Usage(Usage),
    /// A choice is complete.
    Stop {
        /// The choice.
        choice: u32,
        /// Why.
        stop: Stop,
    },
    /// The answer is complete: the shape's own end marker was seen.
    End,
    /// The upstream failed; nothing follows.
    Error(WireError),
    /// A sign of life.
    Ping,
}

/// How an answer begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// The upstream's id; may be empty.
    pub id: String,
    /// The model that answers, as the upstream calls it; may be empty.
    pub model: String,
    /// Seconds since the epoch.
    pub created: Option<u64>,
    /// The tier that serves it.
    pub service_tier: Option<String>,
}

/// What a block is.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockStart {
    /// Text.
    Text,
    /// The model declines.
    Refusal,
    /// Reasoning in clear.
    Thinking,
    /// Reasoning that only its issuer can read; whole at once.
    RedactedThinking {
        /// Who made it.
        issuer: Issuer,
        /// It itself.
        data: String,
    },
    /// A call of a tool; the arguments follow.
    ToolCall {
        /// Ties the result to it.
        id: String,
        /// The tool.
        name: String,
        /// Which kind.
        kind: ToolKind,
    },
    /// A block that no other shape knows; whole at once, deltas of it are not decoded.
    Raw {
        /// Its type in the upstream's shape.
        name: String,
        /// The block as it stood at its start.
        value: Value,
    },
}

/// How a block goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// More text (of a text or refusal block).
    Text(String),
    /// More reasoning.
    Thinking(String),
    /// The proof of the reasoning so far; comes last in its block.
    Proof {
        /// Who made it.
        issuer: Issuer,
        /// It itself; pieces are appended.
        data: String,
    },
    /// More raw argument text.
    Arguments(String),
    /// A citation of the text so far.
    Citation(Citation),
}

impl Event {
    /// Whether this is content that commits an answer to its caller: the start of a block that is whole or opens a tool
    /// call, or a delta that is not empty. Starts, pings and usage are not.
    pub fn is_content(&self) -> bool {
        match self {
            Event::BlockStart { block, .. } => match block {
                BlockStart::ToolCall { .. } | BlockStart::RedactedThinking { .. } | BlockStart::Raw { .. } => true,
                BlockStart::Text | BlockStart::Refusal | BlockStart::Thinking => false,
            },
            Event::Delta { delta, .. } => match delta {
                Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text) => !text.is_empty(),
                Delta::Proof { data, .. } => !data.is_empty(),
                Delta::Citation(_) => true,
            },
            Event::Start(_)
            | Event::BlockStop { .. }
            | Event::Logprobs { .. }
            | Event::Usage(_)
            | Event::Stop { .. }
            | Event::End
            | Event::Error(_)
            | Event::Ping => false,
        }
    }
}
