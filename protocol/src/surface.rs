//! What a shape's surface offers beside messages, as data: where its models are listed, what every request to it
//! carries, and the names of the headers in which it tells what is left of a quota.

use crate::WireShape;

/// The facts of one shape's surface.
#[derive(Debug, PartialEq, Eq)]
pub struct Surface {
    /// Where it lists its models, below the base URL.
    pub models: &'static str,
    /// Where it takes messages, below the base URL.
    pub messages: &'static str,
    /// Where it counts tokens, below the base URL; absent: it does not.
    pub count_tokens: Option<&'static str>,
    /// Where it embeds texts, below the base URL; absent: it does not.
    pub embeddings: Option<&'static str>,
    /// Headers without which it answers no request of Relay's own; lower case.
    pub headers: &'static [(&'static str, &'static str)],
    /// The headers that tell what is left.
    pub quotas: &'static [QuotaHeaders],
}

/// The headers of one counter of a provider; lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct QuotaHeaders {
    /// The most that the counter takes; empty: not told.
    pub limit: &'static str,
    /// What is left of it; empty: not told.
    pub remaining: &'static str,
    /// When it is full again: a duration, a time of day or a count of seconds.
    pub reset: &'static str,
    /// Whether the counter runs over hours or days, so that its reset is believed however far off.
    pub long: bool,
}

const fn counter(limit: &'static str, remaining: &'static str, reset: &'static str) -> QuotaHeaders {
    QuotaHeaders { limit, remaining, reset, long: false }
}

const fn long(reset: &'static str) -> QuotaHeaders {
    QuotaHeaders { limit: "", remaining: "", reset, long: true }
}

static OPENAI_CHAT: Surface = Surface {
    models: "/models",
    messages: "/chat/completions",
    count_tokens: None,
    embeddings: Some("/embeddings"),
    headers: &[],
    quotas: &[
        counter("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        counter("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        counter("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    ],
};

static ANTHROPIC_MESSAGES: Surface = Surface {
    models: "/models",
    messages: "/messages",
    count_tokens: Some("/messages/count_tokens"),
    embeddings: None,
    headers: &[("anthropic-version", "2023-06-01")],
    quotas: &[
        counter(
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ),
        counter(
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ),
        counter(
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ),
        counter(
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ),
        long("anthropic-ratelimit-unified-reset"),
    ],
};

impl WireShape {
    /// The facts of this shape's surface.
    pub fn surface(self) -> &'static Surface {
        match self {
            WireShape::OpenaiChat => &OPENAI_CHAT,
            WireShape::AnthropicMessages => &ANTHROPIC_MESSAGES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_name_is_lower_case_and_every_path_absolute() {
        for shape in [WireShape::OpenaiChat, WireShape::AnthropicMessages] {
            let surface = shape.surface();
            assert!(surface.models.starts_with('/') && surface.messages.starts_with('/'));
            let quotas = surface.quotas.iter().flat_map(|quota| [quota.limit, quota.remaining, quota.reset]);
            let names = surface.headers.iter().map(|(name, _)| *name).chain(quotas);
            for name in names {
                assert_eq!(name, name.to_ascii_lowercase());
            }
        }
    }
}
