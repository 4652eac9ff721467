//! Writes the tools that may be called and which of them must be.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{cache_marks::marked, names, request_encode::Scope};
use crate::{
    Loss, Refusal,
    request::{Tool, ToolChoice, ToolInput},
    translate::Back,
};

/// Writes `tools` and `tool_choice`.
pub(super) fn tools(
    scope: Scope,
    thinks: bool,
    body: &mut Map<String, Value>,
    back: &mut Back,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    let mut sent = Vec::new();
    for tool in &scope.request.tools {
        if is_allowed(scope, tool) {
            sent.extend(encode(scope, tool, back, losses)?);
        }
    }
    if sent.is_empty() {
        if matches!(scope.request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            losses.push(Loss::dropped("tool_choice", "there are no tools to choose from"));
        }
        return Ok(());
    }
    if let Some(choice) = choice(scope, thinks, losses) {
        body.insert("tool_choice".to_owned(), choice);
    }
    body.insert("tools".to_owned(), Value::Array(sent));
    Ok(())
}

/// Whether an `allowed_tools` choice lets a tool through. One that names an unknown tool lets all through.
fn is_allowed(scope: Scope, tool: &Tool) -> bool {
    let Some(ToolChoice::Allowed { names, .. }) = &scope.request.tool_choice else { return true };
    let is_known = |name: &String| scope.request.tools.iter().any(|tool| tool.name == *name);
    !names.iter().all(is_known) || names.contains(&tool.name)
}

fn encode(scope: Scope, tool: &Tool, back: &mut Back, losses: &mut Vec<Loss>) -> Result<Option<Value>, Refusal> {
    let name = names::wire_name(&tool.name);
    if let Cow::Owned(sent) = &name {
        back.tool_names.insert(sent.clone(), tool.name.clone());
    }
    let schema = match &tool.input {
        ToolInput::Hosted(value) if scope.native() => {
            return Ok(Some(marked(value.clone(), tool.cache.as_ref(), scope, losses)));
        }
        ToolInput::Hosted(_) => return hosted(scope, tool, losses).map(|()| None),
        ToolInput::Schema(schema) => input_schema(schema.as_ref()),
        ToolInput::Custom(format) => {
            back.custom_tools.insert(name.clone().into_owned());
            if format.as_ref().is_some_and(|format| format["type"] != "text") {
                losses.push(Loss::dropped("tools.custom.format", "free input is not bound to a grammar"));
            }
            free_input()
        }
    };
    let mut sent = json!({"name": name});
    if let Some(description) = tool.description.as_deref().filter(|description| !description.is_empty()) {
        sent["description"] = json!(description);
    }
    sent["input_schema"] = schema;
    if let Some(strict) = tool.strict {
        sent["strict"] = json!(strict);
    }
    other_fields(scope, tool, &mut sent, losses)?;
    Ok(Some(marked(sent, tool.cache.as_ref(), scope, losses)))
}

/// A tool that another provider runs.
fn hosted(scope: Scope, tool: &Tool, losses: &mut Vec<Loss>) -> Result<(), Refusal> {
    if tool.other.is_empty() {
        return Err(scope.refuse("tools", &format!("`{}` is run by the provider of another shape", tool.name)));
    }
    tool.other.iter().try_for_each(|field| scope.other(field, losses))
}

fn other_fields(scope: Scope, tool: &Tool, sent: &mut Value, losses: &mut Vec<Loss>) -> Result<(), Refusal> {
    for field in &tool.other {
        match (scope.native(), field.path.rsplit('.').next()) {
            (true, Some(name)) => sent[name] = field.value.clone(),
            (true, None) => {}
            (false, _) => scope.other(field, losses)?,
        }
    }
    Ok(())
}

/// A schema with the `type` that is required here.
pub(super) fn input_schema(schema: Option<&Value>) -> Value {
    match schema {
        Some(Value::Object(schema)) if schema.contains_key("type") => Value::Object(schema.clone()),
        Some(Value::Object(schema)) => {
            let mut typed = Map::new();
            typed.insert("type".to_owned(), json!("object"));
            typed.extend(schema.clone());
            Value::Object(typed)
        }
        _ => json!({"type": "object", "properties": {}}),
    }
}

/// The schema of a tool that takes free text: its answers are unwrapped again.
fn free_input() -> Value {
    json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]})
}

fn choice(scope: Scope, thinks: bool, losses: &mut Vec<Loss>) -> Option<Value> {
    let alone = scope.request.parallel_tool_calls == Some(false);
    let mut choice = match &scope.request.tool_choice {
        None if !alone => return None,
        None | Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            forced(scope, thinks, json!({"type": "any"}), losses)
        }
        Some(ToolChoice::Named(name)) => {
            forced(scope, thinks, json!({"type": "tool", "name": names::wire_name(name)}), losses)
        }
    };
    if alone {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    Some(choice)
}

/// A choice that forces a call, where the model can be forced.
fn forced(scope: Scope, thinks: bool, choice: Value, losses: &mut Vec<Loss>) -> Value {
    let why = match (scope.native(), scope.target.traits.forced_tool_choice, thinks) {
        (true, _, _) | (false, true, false) => return choice,
        (false, false, _) => "the model cannot be made to call a tool: it decides",
        (false, true, true) => "the model cannot be made to call a tool while it thinks: it decides",
    };
    losses.push(Loss::approximated("tool_choice", why));
    json!({"type": "auto"})
}
