//! A failure in canonical form: what an upstream said, or what Relay says.

use std::time::Duration;

use serde_json::Value;

/// A failure, to be rendered in the caller's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct WireError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The HTTP status: the upstream's where it is known, else the kind's own.
    pub status: u16,
    /// For people; safe to show to the caller.
    pub message: String,
    /// The stable code of the source (`context_length_exceeded`, `invalid_api_key`).
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
    /// The `type` of the source.
    pub source_type: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// The `details` object of the source.
    pub details: Option<Value>,
}

impl WireError {
    /// A failure of a kind with that kind's own status.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: kind.status(),
            message: message.into(),
            code: None,
            param: None,
            source_type: None,
            retry_after: None,
            details: None,
        }
    }
}

/// A kind of failure; SDKs raise a typed error for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong.
    InvalidRequest,
    /// The conversation does not fit the model.
    ContextTooLong,
    /// A policy of the provider forbids the content.
    ContentPolicy,
    /// The key is not accepted.
    Authentication,
    /// The key may not do this.
    Permission,
    /// The model or path does not exist.
    NotFound,
    /// The body is too large.
    TooLarge,
    /// Too many requests or tokens.
    RateLimited,
    /// The money is spent.
    QuotaExhausted,
    /// The provider has no capacity.
    Overloaded,
    /// The provider failed.
    ServerError,
    /// No answer in time.
    Timeout,
    /// The provider cannot be reached, or broke off.
    Unreachable,
    /// The endpoint or feature is not offered.
    NotSupported,
}

impl ErrorKind {
    /// The status of this kind where no upstream gave one.
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::InvalidRequest | ErrorKind::ContextTooLong | ErrorKind::ContentPolicy => 400,
            ErrorKind::Authentication => 401,
            ErrorKind::Permission => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::TooLarge => 413,
            ErrorKind::RateLimited | ErrorKind::QuotaExhausted => 429,
            ErrorKind::ServerError => 500,
            ErrorKind::NotSupported => 501,
            ErrorKind::Unreachable => 502,
            ErrorKind::Overloaded => 503,
            ErrorKind::Timeout => 504,
        }
    }
}
