//! What requests of either shape become on chat hosts of every kind: builders, and a target that each test changes.

mod options;
mod turns;

use serde_json::{Map, Value, json};

use super::encode_request;
use crate::{
    Dialect, Loss, MaxTokensField, Refusal, StreamUsage, Strictness, SystemRole, Target, ToolCallIds, Traits,
    WireShape,
    openai_chat::decode_request,
    request::{
        CacheMark, CacheOptions, DocumentSource, EndUser, FieldClass, Issuer, Media, Opaque, OtherField, OutputFormat,
        Part, PartKind, Reasoning, Request, Role, Sampling, ThinkingMode, Tool, ToolCall, ToolChoice, ToolInput,
        ToolKind, ToolResult, Turn,
    },
    translate::Encoded,
};

fn request(turns: Vec<Turn>) -> Request {
    Request {
        source: WireShape::AnthropicMessages,
        model: "claude-x".into(),
        turns,
        tools: vec![],
        tool_choice: None,
        parallel_tool_calls: None,
        output_cap: None,
        sampling: Sampling::default(),
        stop: vec![],
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
        include_usage: true,
        legacy_functions: false,
        other: vec![],
    }
}

fn hi() -> Request {
    request(vec![turn(Role::User, vec![Part::text("hi")])])
}

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, name: None, parts }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let kind = ToolKind::Function;
    Part::new(PartKind::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind }))
}

fn result(call_id: &str, content: Vec<Part>, is_error: Option<bool>) -> Part {
    Part::new(PartKind::ToolResult(ToolResult { call_id: call_id.into(), content, is_error }))
}

fn tool(name: &str, schema: Value) -> Tool {
    let input = ToolInput::Schema(Some(schema));
    Tool { name: name.into(), description: None, input, strict: None, cache: None, other: vec![] }
}

fn hosted(kind: &str) -> Tool {
    Tool { input: ToolInput::Hosted(json!({"type": kind, "name": "x"})), ..tool("x", json!({})) }
}

fn image() -> Part {
    let source = Media::Inline { media_type: "image/png".into(), data: "aGk=".into() };
    Part::new(PartKind::Image { source, detail: None })
}

/// A target that each test changes where it matters.
#[derive(Clone, Default)]
struct Host {
    traits: Traits,
    dialect: Dialect,
    strictness: Strictness,
}

impl Host {
    fn reasoning(efforts: &[&str]) -> Self {
        let efforts = efforts.iter().map(|effort| (*effort).to_owned()).collect();
        Self { traits: Traits { efforts, ..Traits::default() }, ..Self::default() }
    }

    fn strict(self) -> Self {
        Self { strictness: Strictness::Strict, ..self }
    }

    fn encode(&self, request: &Request) -> Result<Encoded, Refusal> {
        let (traits, dialect, strictness) = (&self.traits, &self.dialect, self.strictness);
        let shape = WireShape::OpenaiChat;
        encode_request(request, &Target { shape, model: "gpt", max_output_tokens: None, traits, dialect, strictness })
    }

    fn body(&self, request: &Request) -> Value {
        serde_json::from_slice(&self.encode(request).unwrap().body).unwrap()
    }

    fn losses(&self, request: &Request) -> Vec<String> {
        let name = |loss: &Loss| format!("{}={}", loss.kind, loss.field);
        self.encode(request).unwrap().losses.iter().map(name).collect()
    }
}

fn body(request: &Request) -> Value {
    Host::default().body(request)
}

fn losses(request: &Request) -> Vec<String> {
    Host::default().losses(request)
}

fn refused(request: &Request) -> Refusal {
    Host::default().encode(request).unwrap_err()
}
