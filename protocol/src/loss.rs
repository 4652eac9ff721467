//! What a target cannot carry, said aloud.

use std::fmt;

use crate::{Dialect, Traits, WireShape};

/// A field that was approximated or dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// What happened to it.
    pub kind: LossKind,
    /// Its name in the caller's shape, as a path where it is nested: `top_k`, `tools.cache_control`.
    pub field: String,
    /// Why; for people.
    pub reason: String,
}

/// What happened to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossKind {
    /// Its value was moved to the nearest that the target takes.
    Clamped,
    /// It was replaced by something close.
    Approximated,
    /// It was left out.
    Dropped,
}

impl Loss {
    /// A field that was left out.
    pub fn dropped(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind: LossKind::Dropped, field: field.into(), reason: reason.into() }
    }

    /// A field that was replaced by something close.
    pub fn approximated(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind: LossKind::Approximated, field: field.into(), reason: reason.into() }
    }

    /// A field whose value was moved to the nearest that the target takes.
    pub fn clamped(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind: LossKind::Clamped, field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossKind::Clamped => "clamped",
            LossKind::Approximated => "approximated",
            LossKind::Dropped => "dropped",
        })
    }
}

/// A request that a target cannot serve, or that is malformed. The caller sees it as a 400 in its own shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The path of the field in the caller's shape, as `messages[2].tool_calls[0].function.arguments`; none: the body.
    pub param: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
    /// Whether the body is malformed for every target (then no other target is tried).
    pub malformed: bool,
}

impl Refusal {
    /// The body is wrong whatever the target is.
    pub fn malformed(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), message: message.into(), malformed: true }
    }

    /// This target cannot serve it; another might.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), message: message.into(), malformed: false }
    }
}

/// Whether approximations and drops are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Allowed, and named.
    #[default]
    Lenient,
    /// Refused.
    Strict,
}

/// What a request is encoded for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The wire shape of the host.
    pub shape: WireShape,
    /// The model as the host calls it.
    pub model: &'a str,
    /// The most tokens of one answer where the Model says so; absent: that of the traits.
    pub max_output_tokens: Option<u64>,
    /// What the model takes.
    pub traits: &'a Traits,
    /// What the host takes.
    pub dialect: &'a Dialect,
    /// Whether losses are allowed.
    pub strictness: Strictness,
}
