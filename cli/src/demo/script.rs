//! What the demo upstream answers: a pure function of the request, so that every run says the same.
//!
//! Tools are called when the last user text names one of the cities it knows, or says `read the file PATH` where a tool
//! takes a `file_path`; a schema is filled with plain values; anything else is said back.

use protocol::{
    answer::{Answer, Block, Choice, Stop, StopReason},
    request::{
        Issuer, Opaque, OutputFormat, Part, PartKind, Request, Role, ThinkingMode, Tool, ToolCall, ToolChoice,
        ToolInput, ToolKind, Turn,
    },
    usage::Usage,
};
use serde_json::{Value, json};

const CITIES: [&str; 4] = ["Paris", "Rome", "Oslo", "Lima"];

/// The whole answer to `request`.
pub(crate) fn answer(request: &Request) -> Answer {
    let mut blocks = thinking(request);
    let calls = tool_calls(request);
    let stop = if calls.is_empty() {
        blocks.push(text(request));
        StopReason::EndTurn
    } else {
        blocks.extend(calls);
        StopReason::ToolUse
    };
    let usage = usage(request, &blocks);
    let choice = Choice { blocks, stop: Some(Stop::new(stop)), logprobs: None };
    Answer {
        id: String::new(),
        model: request.model.clone(),
        created: None,
        choices: vec![choice],
        usage: Some(usage),
        service_tier: None,
    }
}

/// Tokens of the input as this upstream counts them: one for every four bytes of text, begun ones included.
pub(crate) fn input_tokens(request: &Request) -> u64 {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    tokens(parts.map(part_bytes).sum::<usize>()) + 3 * request.turns.len() as u64
}

fn tokens(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

fn part_bytes(part: &Part) -> usize {
    match &part.kind {
        PartKind::Text { text, .. } | PartKind::Refusal(text) | PartKind::Thinking { text, .. } => text.len(),
        PartKind::ToolCall(call) => call.name.len() + call.arguments.len(),
        PartKind::ToolResult(result) => result.content.iter().map(part_bytes).sum(),
        PartKind::SearchResult { texts, .. } => texts.iter().map(String::len).sum(),
        // Pictures and files cost a flat rate, as if they were a few hundred words.
        PartKind::Image { .. } | PartKind::Audio { .. } | PartKind::Document { .. } => 1_200,
        PartKind::RedactedThinking(_) | PartKind::Raw { .. } => 0,
    }
}

fn usage(request: &Request, blocks: &[Block]) -> Usage {
    let (mut output, mut reasoning) = (0, 0);
    for block in blocks {
        match block {
            Block::Text { text, .. } | Block::Refusal(text) => output += tokens(text.len()),
            Block::ToolCall(call) => output += tokens(call.name.len() + call.arguments.len()),
            Block::Thinking { text, .. } => reasoning += tokens(text.len()),
            Block::RedactedThinking(_) | Block::Raw { .. } => {}
        }
    }
    Usage { input: input_tokens(request), output: output + reasoning, reasoning, ..Usage::default() }
}

fn thinking(request: &Request) -> Vec<Block> {
    let Some(reasoning) = &request.reasoning else { return Vec::new() };
    let is_off = reasoning.mode == Some(ThinkingMode::Disabled) || reasoning.effort.as_deref() == Some("none");
    if is_off {
        return Vec::new();
    }
    let text = "The demo upstream thinks for a moment.".to_owned();
    let proof = Some(Opaque { issuer: Issuer::Anthropic, data: "ZGVtby1zaWduYXR1cmU=".to_owned() });
    vec![Block::Thinking { text, proof }]
}

fn tool_calls(request: &Request) -> Vec<Block> {
    if asked(request).any(|turn| turn.role == Role::Tool) {
        return Vec::new();
    }
    let said = said(request);
    if let Some(read) = file_read(request, &said) {
        return vec![read];
    }
    let Some(tool) = chosen_tool(request) else { return Vec::new() };
    let named: Vec<&str> = CITIES.into_iter().filter(|city| said.contains(city)).collect();
    let is_forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    let arguments: Vec<Value> = match (named.as_slice(), is_forced) {
        ([], false) => return Vec::new(),
        ([], true) => vec![filled(tool, &said)],
        (named, _) if request.parallel_tool_calls == Some(false) => vec![filled(tool, named[0])],
        (named, _) => named.iter().map(|city| filled(tool, city)).collect(),
    };
    let call = |(place, arguments): (usize, Value)| {
        let id = format!("call_demo{place}");
        let (arguments, kind) = match &tool.input {
            ToolInput::Custom(_) => (said.clone(), ToolKind::Custom),
            ToolInput::Schema(_) | ToolInput::Hosted(_) => (arguments.to_string(), ToolKind::Function),
        };
        Block::ToolCall(ToolCall { id, name: tool.name.clone(), arguments, kind })
    };
    arguments.into_iter().enumerate().map(call).collect()
}

/// A call that reads the file which `said` names, where a tool for that is on offer.
fn file_read(request: &Request, said: &str) -> Option<Block> {
    let path = said.split_once("read the file ")?.1.split_whitespace().next()?;
    let takes_path = |tool: &&Tool| match &tool.input {
        ToolInput::Schema(Some(schema)) => schema.pointer("/properties/file_path").is_some() && tool.name == "Read",
        ToolInput::Schema(None) | ToolInput::Custom(_) | ToolInput::Hosted(_) => false,
    };
    let tool = request.tools.iter().find(takes_path)?;
    Some(Block::ToolCall(ToolCall {
        id: "call_demo0".to_owned(),
        name: tool.name.clone(),
        arguments: json!({ "file_path": path }).to_string(),
        kind: ToolKind::Function,
    }))
}

fn chosen_tool(request: &Request) -> Option<&Tool> {
    let callable = || request.tools.iter().filter(|tool| !matches!(tool.input, ToolInput::Hosted(_)));
    match &request.tool_choice {
        Some(ToolChoice::None) => None,
        Some(ToolChoice::Named(name)) => callable().find(|tool| tool.name == *name),
        Some(ToolChoice::Allowed { names, .. }) => callable().find(|tool| names.contains(&tool.name)),
        Some(ToolChoice::Auto | ToolChoice::Required) | None => callable().next(),
    }
}

/// Arguments for `tool` in which every required string is `word`.
fn filled(tool: &Tool, word: &str) -> Value {
    match &tool.input {
        ToolInput::Schema(Some(schema)) => instance(schema, word),
        ToolInput::Schema(None) | ToolInput::Custom(_) | ToolInput::Hosted(_) => json!({}),
    }
}

/// The plainest value that `schema` describes; strings are `word`.
fn instance(schema: &Value, word: &str) -> Value {
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => json!(word),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => json!([instance(schema.get("items").unwrap_or(&Value::Null), word)]),
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let named = |(name, of): (&String, &Value)| (name.clone(), instance(of, word));
            Value::Object(properties.map(|properties| properties.iter().map(named).collect()).unwrap_or_default())
        }
    }
}

fn text(request: &Request) -> Block {
    let said = match &request.format {
        Some(OutputFormat::JsonSchema { schema, .. }) => instance(schema, "demo").to_string(),
        Some(OutputFormat::JsonObject) => json!({ "answer": reply(request) }).to_string(),
        Some(OutputFormat::Text) | None => reply(request),
    };
    Block::Text { text: said, citations: Vec::new() }
}

/// What came since the model spoke last: the user's words and the results of tools.
fn asked(request: &Request) -> impl Iterator<Item = &Turn> {
    let spoken = request.turns.iter().rposition(|turn| turn.role == Role::Assistant).map_or(0, |at| at + 1);
    request.turns[spoken..].iter().filter(|turn| matches!(turn.role, Role::User | Role::Tool))
}

fn said(request: &Request) -> String {
    asked(request).map(|turn| words(&turn.parts)).collect::<Vec<_>>().join(" ")
}

fn reply(request: &Request) -> String {
    let results: Vec<String> =
        asked(request).filter(|turn| turn.role == Role::Tool).map(|turn| words(&turn.parts)).collect();
    if !results.is_empty() {
        return format!("The tools said: {}.", results.join(" "));
    }
    let parts = asked(request).flat_map(|turn| &turn.parts);
    let images = parts.filter(|part| matches!(part.kind, PartKind::Image { .. })).count();
    let seen = if images > 0 { format!(" I see {images} image(s).") } else { String::new() };
    format!("You said: \"{}\".{seen} This is {} of the demo upstream, at your service.", said(request), request.model)
}

fn words(parts: &[Part]) -> String {
    let mut said = Vec::new();
    for part in parts {
        match &part.kind {
            PartKind::Text { text, .. } => said.push(text.clone()),
            PartKind::ToolResult(result) => said.push(words(&result.content)),
            _ => {}
        }
    }
    said.join(" ")
}
