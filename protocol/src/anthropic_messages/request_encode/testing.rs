//! Builders for the tests of this codec: a plain chat request, and targets that take more or less.

use serde_json::{Map, Value};

use super::encode_request;
use crate::{
    Dialect, Loss, LossKind, Refusal, Strictness, Target, Traits, WireShape,
    request::{CacheOptions, EndUser, Part, PartKind, Request, Role, Sampling, ToolCall, ToolKind, ToolResult, Turn},
    translate::Encoded,
};

/// A chat request that says `hi`.
pub(super) fn chat() -> Request {
    Request {
        source: WireShape::OpenaiChat,
        model: "asked".to_owned(),
        turns: vec![user("hi")],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        output_cap: Some(100),
        sampling: Sampling::default(),
        stop: Vec::new(),
        n: None,
        logprobs: None,
        top_logprobs: None,
        format: None,
        verbosity: None,
        reasoning: None,
        end_user: EndUser::default(),
        metadata: Map::new(),
        cache: CacheOptions::default(),
        service_tier: None,
        stream: false,
        include_usage: false,
        legacy_functions: false,
        other: Vec::new(),
    }
}

/// The traits of a model that takes everything and gives 64,000 tokens.
pub(super) fn traits() -> Traits {
    Traits { known: true, max_output_tokens: 64_000, ..Traits::default() }
}

pub(super) fn encode_for(request: &Request, traits: &Traits, strictness: Strictness) -> Result<Encoded, Refusal> {
    let target = Target {
        shape: WireShape::AnthropicMessages,
        model: "claude-test",
        max_output_tokens: None,
        traits,
        dialect: &Dialect::default(),
        strictness,
    };
    encode_request(request, &target)
}

/// The body for a model with these traits, and what was lost.
pub(super) fn encoded(request: &Request, traits: &Traits) -> (Value, Vec<Loss>) {
    let encoded = encode_for(request, traits, Strictness::Lenient).expect("a request that can be served");
    (serde_json::from_slice(&encoded.body).expect("JSON"), encoded.losses)
}

/// The refusal of a request for a model with these traits.
pub(super) fn refused(request: &Request, traits: &Traits) -> Refusal {
    encode_for(request, traits, Strictness::Lenient).expect_err("a request that cannot be served")
}

/// Losses as kind and field alone.
pub(super) fn named(losses: &[Loss]) -> Vec<(LossKind, &str)> {
    losses.iter().map(|loss| (loss.kind, loss.field.as_str())).collect()
}

pub(super) fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, name: None, parts }
}

pub(super) fn user(text: &str) -> Turn {
    turn(Role::User, vec![Part::text(text)])
}

pub(super) fn system(text: &str) -> Turn {
    turn(Role::System, vec![Part::text(text)])
}

pub(super) fn assistant(text: &str) -> Turn {
    turn(Role::Assistant, vec![Part::text(text)])
}

pub(super) fn call(id: &str, arguments: &str) -> Part {
    let (id, arguments) = (id.to_owned(), arguments.to_owned());
    Part::new(PartKind::ToolCall(ToolCall { id, name: "f".to_owned(), arguments, kind: ToolKind::Function }))
}

pub(super) fn result(id: &str, text: &str) -> Turn {
    let result = ToolResult { call_id: id.to_owned(), content: vec![Part::text(text)], is_error: None };
    turn(Role::Tool, vec![Part::new(PartKind::ToolResult(result))])
}
