//! Writes turns as messages: instructions, user, assistant, and results of tools with what they attach.

use serde_json::Value;

use super::{
    ledger::{Field, Ledger},
    names,
    parts::{self, Marks},
    replay::Replay,
};
use crate::{
    Refusal, SystemRole,
    json::{Json, Object, json},
    request::{FieldClass, Part, PartKind, Role, ToolCall, ToolKind, ToolResult, Turn},
};

/// The text by which Claude Code's first system block is known. It changes with every build and would break the
/// prefix caches of any other family.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// All turns as messages.
pub(super) fn encode<'a>(ledger: &mut Ledger<'a>) -> Result<Vec<Json<'a>>, Refusal> {
    let request = ledger.request;
    refuse_prefill(ledger)?;
    let mut marks = Marks::new(ledger);
    let mut messages = Vec::new();
    for turn in &request.turns {
        match turn.role {
            Role::System | Role::Developer => messages.extend(instructions(ledger, turn, &mut marks)?),
            Role::User => messages.push(user(ledger, turn, &mut marks)?),
            Role::Assistant => messages.push(assistant(ledger, turn, &mut marks)?),
            Role::Tool => results(ledger, turn, &mut marks, &mut messages)?,
        }
    }
    Ok(messages)
}

/// A trailing assistant turn asks for its continuation, which chat models do not give.
fn refuse_prefill(ledger: &Ledger<'_>) -> Result<(), Refusal> {
    let Some(last) = ledger.request.turns.last() else { return Ok(()) };
    let calls = last.parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    if ledger.is_native() || ledger.target.traits.prefill || last.role != Role::Assistant || calls {
        return Ok(());
    }
    Err(ledger.refuse(Field::Messages, "the model does not continue a trailing assistant message"))
}

fn instructions<'a>(ledger: &mut Ledger<'a>, turn: &'a Turn, marks: &mut Marks) -> Result<Option<Json<'a>>, Refusal> {
    let is_billing =
        |part: &&Part| matches!(&part.kind, PartKind::Text { text, .. } if text.starts_with(BILLING_HEADER));
    let mut content = Vec::new();
    for part in turn.parts.iter().filter(|part| !is_billing(part)) {
        content.extend(parts::user_part(ledger, part, marks)?);
    }
    if content.is_empty() && !turn.parts.is_empty() {
        return Ok(None);
    }
    let dialect = ledger.target.dialect;
    let developer = dialect.system_role == SystemRole::ByModel && ledger.target.traits.developer_role;
    Ok(Some(message(if developer { "developer" } else { "system" }, turn, parts::content(content)).into()))
}

fn user<'a>(ledger: &mut Ledger<'a>, turn: &'a Turn, marks: &mut Marks) -> Result<Json<'a>, Refusal> {
    let mut content = Vec::new();
    for part in &turn.parts {
        content.extend(parts::user_part(ledger, part, marks)?);
    }
    Ok(message("user", turn, parts::content(content)).into())
}

fn message<'a>(role: &'static str, turn: &'a Turn, content: Json<'a>) -> Object<'a> {
    let mut message = Object::of([("role", role.into()), ("content", content)]);
    message.put("name", turn.name.as_ref());
    message
}

fn assistant<'a>(ledger: &mut Ledger<'a>, turn: &'a Turn, marks: &mut Marks) -> Result<Json<'a>, Refusal> {
    let (mut content, mut calls, mut extra) = (Vec::new(), Vec::new(), Object::default());
    let mut reasoning = Replay::default();
    for part in &turn.parts {
        match &part.kind {
            PartKind::Text { .. } => {
                if !calls.is_empty() {
                    ledger.approximated(Field::Messages, "text after a tool call is moved before it")?;
                }
                content.push(parts::assistant_text(ledger, part, marks)?);
            }
            PartKind::Refusal(text) => extra.insert("refusal", text),
            PartKind::Thinking { text, proof } => reasoning.thinking(text, proof.as_ref()),
            PartKind::RedactedThinking(data) => reasoning.redacted(data),
            PartKind::ToolCall(call) => {
                marks.unused(ledger, part)?;
                calls.push(tool_call(ledger, call));
            }
            PartKind::Raw { name, value, class } => raw(ledger, (name, value, *class), &mut content, &mut extra)?,
            _ => return Err(ledger.refuse(Field::Messages, "assistant messages take text and tool calls alone")),
        }
    }
    if ledger.target.dialect.replays_reasoning {
        reasoning.put(ledger.target.dialect.reasoning_field, &mut content, &mut extra);
    }
    let content = match content.is_empty() && !(calls.is_empty() && extra.get("refusal").is_none()) {
        true => Json::Null,
        false => parts::content(content),
    };
    let mut message = message("assistant", turn, content);
    if !calls.is_empty() {
        extra.insert("tool_calls", calls);
    }
    extra.into_iter().for_each(|(name, value)| message.insert(name, value));
    Ok(message.into())
}

/// A block that only its own shape knows: to callers of this shape it goes back as it stood.
fn raw<'a>(
    ledger: &mut Ledger<'_>,
    (name, value, class): (&'a str, &'a Value, FieldClass),
    content: &mut Vec<Json<'a>>,
    extra: &mut Object<'a>,
) -> Result<(), Refusal> {
    match (ledger.is_native(), name) {
        (true, "audio") => extra.insert(name, value),
        (true, _) => content.push(value.into()),
        (false, _) => {
            ledger.leave_out(class, &format!("messages.content.{name}"), "is known to its own provider alone")?
        }
    }
    Ok(())
}

fn tool_call<'a>(ledger: &mut Ledger<'_>, call: &'a ToolCall) -> Json<'a> {
    let id = names::call_id(ledger.target.dialect.tool_call_ids, &call.id);
    let name = names::tool_name(ledger, &call.name);
    match call.kind {
        ToolKind::Custom => json!({"id": id, "type": "custom", "custom": {"name": name, "input": &call.arguments}}),
        ToolKind::Function => {
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        }
    }
}

/// One message a result, then one user message with everything that tool messages cannot hold.
fn results<'a>(
    ledger: &mut Ledger<'a>,
    turn: &'a Turn,
    marks: &mut Marks,
    messages: &mut Vec<Json<'a>>,
) -> Result<(), Refusal> {
    let mut attached = Vec::new();
    for part in &turn.parts {
        let PartKind::ToolResult(result) = &part.kind else {
            return Err(ledger.refuse(Field::Messages, "a turn of tool results holds results alone"));
        };
        messages.push(tool_message(ledger, part, result, marks, &mut attached)?);
    }
    if !attached.is_empty() {
        messages.push(json!({"role": "user", "content": attached}));
    }
    Ok(())
}

fn tool_message<'a>(
    ledger: &mut Ledger<'a>,
    part: &'a Part,
    result: &'a ToolResult,
    marks: &mut Marks,
    attached: &mut Vec<Json<'a>>,
) -> Result<Json<'a>, Refusal> {
    let mut content = Vec::new();
    for inner in &result.content {
        match &inner.kind {
            PartKind::Image { .. } | PartKind::Audio { .. } => {
                attach(ledger, inner, marks, &mut content, attached)?;
            }
            _ => {
                for value in parts::user_part(ledger, inner, marks)? {
                    if value["type"] == *"text" { content.push(value) } else { attached.push(value) }
                }
            }
        }
    }
    if result.is_error == Some(true) {
        ledger.approximated(Field::ToolError, "the result says `Error: ` instead")?;
        say_error(&mut content);
    }
    marks.put(ledger, part, content.last_mut())?;
    let id = names::call_id(ledger.target.dialect.tool_call_ids, &result.call_id);
    Ok(json!({"role": "tool", "tool_call_id": id, "content": parts::content(content)}))
}

fn attach<'a>(
    ledger: &mut Ledger<'a>,
    part: &'a Part,
    marks: &mut Marks,
    content: &mut Vec<Json<'a>>,
    attached: &mut Vec<Json<'a>>,
) -> Result<(), Refusal> {
    ledger.approximated(Field::ToolResult, "images of tool results follow in a user message")?;
    content.push(json!({"type": "text", "text": "[image attached below]"}));
    attached.extend(parts::user_part(ledger, part, marks)?);
    Ok(())
}

fn say_error(content: &mut Vec<Json<'_>>) {
    match content.first_mut() {
        Some(first) => {
            let text = first["text"].as_str().unwrap_or_default();
            if !text.starts_with("Error: ") {
                let said = format!("Error: {text}");
                first.set("text", said);
            }
        }
        None => content.push(json!({"type": "text", "text": "Error: the tool gave no text"})),
    }
}
