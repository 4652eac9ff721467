//! The wire shapes that Relay speaks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A wire format of requests, answers, streams and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireShape {
    /// OpenAI Chat Completions.
    OpenaiChat,
    /// Anthropic Messages.
    AnthropicMessages,
}

impl WireShape {
    /// All of them.
    pub const ALL: [WireShape; 2] = [WireShape::OpenaiChat, WireShape::AnthropicMessages];

    /// The provider whose shape it is, as callers write it before a model: `openai:gpt-5`.
    pub fn provider(self) -> &'static str {
        match self {
            WireShape::OpenaiChat => "openai",
            WireShape::AnthropicMessages => "anthropic",
        }
    }
}

impl fmt::Display for WireShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireShape::OpenaiChat => "openai-chat",
            WireShape::AnthropicMessages => "anthropic-messages",
        })
    }
}
