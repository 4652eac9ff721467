//! Writes tools and which of them may be called.

use serde_json::Value;

use super::{
    ledger::{Field, Ledger},
    names, schema,
};
use crate::{
    Loss, Refusal,
    json::{Json, Object, json},
    request::{Tool, ToolChoice, ToolInput},
};

/// Writes `tools`, `tool_choice` and `parallel_tool_calls`; none of them where there is no tool.
pub(super) fn encode<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let request = ledger.request;
    let mut tools = Vec::new();
    for tool in &request.tools {
        tools.extend(encode_tool(ledger, tool)?);
    }
    if tools.is_empty() {
        return Ok(());
    }
    body.push("tools", tools);
    if let Some(choice) = &request.tool_choice {
        body.push("tool_choice", encode_choice(ledger, choice)?);
    }
    parallel(ledger, body)
}

/// That calls may come together is the default everywhere and need not be said to hosts that may not know the field.
fn parallel(ledger: &mut Ledger<'_>, body: &mut Object<'_>) -> Result<(), Refusal> {
    let Some(parallel) = ledger.request.parallel_tool_calls else { return Ok(()) };
    if ledger.target.dialect.parallel_tool_calls {
        if !parallel || ledger.is_native() {
            body.push("parallel_tool_calls", parallel);
        }
        return Ok(());
    }
    match parallel {
        true => Ok(()),
        false => ledger.dropped(Field::Parallel, "the host cannot hold back parallel calls"),
    }
}

fn encode_tool<'a>(ledger: &mut Ledger<'a>, tool: &'a Tool) -> Result<Option<Json<'a>>, Refusal> {
    if tool.cache.is_some() && ledger.target.traits.prompt_cache_breakpoints {
        ledger.dropped(Field::ToolCache, "tools take no cache mark")?;
    }
    let value = match &tool.input {
        ToolInput::Schema(schema) => function(ledger, tool, schema.as_ref())?,
        ToolInput::Custom(format) => custom(ledger, tool, format.as_ref()),
        ToolInput::Hosted(value) if ledger.is_native() => value.into(),
        ToolInput::Hosted(value) => return hosted(ledger, tool, value).map(|()| None),
    };
    Ok(Some(value))
}

fn function<'a>(ledger: &mut Ledger<'a>, tool: &'a Tool, schema: Option<&'a Value>) -> Result<Json<'a>, Refusal> {
    let mut function = Object::of([("name", names::tool_name(ledger, &tool.name).into())]);
    function.put("description", tool.description.as_ref());
    let parameters = parameters(schema);
    let strict = strict(ledger, tool, &parameters)?;
    function.push("parameters", parameters);
    function.put("strict", strict);
    for other in &tool.other {
        match ledger.is_native() {
            true => function.insert(&other.path, &other.value),
            false => ledger.leave_out_other(other, "tools.")?,
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

/// Hosts want an object that says so.
fn parameters(schema: Option<&Value>) -> Json<'_> {
    let Some(Value::Object(fields)) = schema else { return json!({"type": "object", "properties": {}}) };
    if fields.contains_key("type") {
        return Object::from(fields).into();
    }
    let mut typed = Object::of([("type", "object".into())]);
    Object::from(fields).into_iter().for_each(|(name, value)| typed.push(name, value));
    typed.into()
}

/// `strict` where the host takes it and, for callers of another shape, where the schema keeps to OpenAI's rules for it:
/// they mean their own provider's rules, and OpenAI refuses the request over the difference.
fn strict(ledger: &mut Ledger<'_>, tool: &Tool, parameters: &Json<'_>) -> Result<Option<bool>, Refusal> {
    let Some(strict) = tool.strict else { return Ok(None) };
    if !ledger.target.dialect.tool_strict {
        if strict {
            ledger.dropped(Field::ToolStrict, "the host does not take it")?;
        }
        return Ok(None);
    }
    if strict && !ledger.is_native() && !schema::is_strict(&parameters.to_value()) {
        ledger.dropped(Field::ToolStrict, "a schema does not keep to the rules of strict mode")?;
        return Ok(None);
    }
    Ok(Some(strict))
}

fn custom<'a>(ledger: &mut Ledger<'a>, tool: &'a Tool, format: Option<&'a Value>) -> Json<'a> {
    let mut custom = Object::of([("name", names::tool_name(ledger, &tool.name).into())]);
    custom.put("description", tool.description.as_ref());
    custom.put("format", format);
    json!({"type": "custom", "custom": custom})
}

/// A tool that another provider runs or trained in. One that searches among the tools themselves is not needed where all
/// are sent; a web search may be missing where there are other tools and none of it is forced; every other one would
/// silently change the answer.
fn hosted(ledger: &mut Ledger<'_>, tool: &Tool, value: &Value) -> Result<(), Refusal> {
    let kind = value["type"].as_str().unwrap_or(&tool.name);
    let field = format!("tools.{kind}");
    if kind.starts_with("tool_search") {
        return ledger.lose(Loss::approximated(field, "all tools are sent at once instead"));
    }
    let own = ledger.request.tools.iter().any(|tool| !matches!(tool.input, ToolInput::Hosted(_)));
    let choice = ledger.request.tool_choice.as_ref();
    let forced = matches!(choice, Some(ToolChoice::Named(name)) if *name == tool.name);
    if kind.starts_with("web_search") && own && !forced {
        return ledger.lose(Loss::dropped(field, "the model searches the web with its own provider alone"));
    }
    Err(ledger.refuse(Field::Tools, &format!("`{kind}` is run by its own provider alone")))
}

fn encode_choice<'a>(ledger: &mut Ledger<'a>, choice: &'a ToolChoice) -> Result<Json<'a>, Refusal> {
    let forces = match choice {
        ToolChoice::Auto | ToolChoice::None => false,
        ToolChoice::Required | ToolChoice::Named(_) => true,
        ToolChoice::Allowed { required, .. } => *required,
    };
    if forces && !ledger.target.traits.forced_tool_choice {
        ledger.approximated(Field::ToolChoice, "the model cannot be forced to call a tool")?;
        return Ok(json!("auto"));
    }
    Ok(match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => reference(ledger, name),
        ToolChoice::Allowed { names, required } => {
            let mode = if *required { "required" } else { "auto" };
            let tools: Vec<Json<'_>> = names.iter().map(|name| reference(ledger, name)).collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    })
}

fn reference<'a>(ledger: &mut Ledger<'a>, name: &'a str) -> Json<'a> {
    let tool = ledger.request.tools.iter().find(|tool| tool.name == name);
    let kind = match tool.map(|tool| &tool.input) {
        Some(ToolInput::Custom(_)) => "custom",
        _ => "function",
    };
    json!({"type": kind, kind: {"name": names::tool_name(ledger, name)}})
}
