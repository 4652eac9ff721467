//! Names of the headers that Relay puts, ready to be put.

use http::HeaderName;
use protocol::WireShape;

pub(super) const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const RELAY_REQUEST_ID: HeaderName = HeaderName::from_static("x-relay-request-id");

pub(super) const MODEL: HeaderName = HeaderName::from_static("x-relay-model");
pub(super) const HOST: HeaderName = HeaderName::from_static("x-relay-host");
pub(super) const ATTEMPTS: HeaderName = HeaderName::from_static("x-relay-attempts");
pub(super) const OVERHEAD: HeaderName = HeaderName::from_static("x-relay-overhead-ms");
pub(super) const WARNINGS: HeaderName = HeaderName::from_static("x-relay-warnings");
pub(super) const DEBUG: HeaderName = HeaderName::from_static("x-relay-debug");
pub(super) const LIMITS: HeaderName = HeaderName::from_static("x-relay-limits");
pub(super) const UPSTREAM_ID: HeaderName = HeaderName::from_static("x-relay-upstream-id");

/// The names that tell of one kind of limit: the limit, what remains, and when it is whole again.
pub(super) struct Limit {
    pub(super) limit: HeaderName,
    pub(super) remaining: HeaderName,
    pub(super) reset: HeaderName,
}

impl Limit {
    const OPENAI_REQUESTS: Self =
        Self::new("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests");
    const OPENAI_TOKENS: Self =
        Self::new("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
    const ANTHROPIC_REQUESTS: Self = Self::new(
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    );
    const ANTHROPIC_TOKENS: Self = Self::new(
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    );

    const fn new(limit: &'static str, remaining: &'static str, reset: &'static str) -> Self {
        Self {
            limit: HeaderName::from_static(limit),
            remaining: HeaderName::from_static(remaining),
            reset: HeaderName::from_static(reset),
        }
    }

    /// What limits of requests are told by.
    pub(super) fn of_requests(shape: WireShape) -> Self {
        match shape {
            WireShape::OpenaiChat => Self::OPENAI_REQUESTS,
            WireShape::AnthropicMessages => Self::ANTHROPIC_REQUESTS,
        }
    }

    /// What limits of tokens are told by.
    pub(super) fn of_tokens(shape: WireShape) -> Self {
        match shape {
            WireShape::OpenaiChat => Self::OPENAI_TOKENS,
            WireShape::AnthropicMessages => Self::ANTHROPIC_TOKENS,
        }
    }
}
