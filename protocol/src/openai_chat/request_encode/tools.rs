//! Writes tools and which of them may be called.

use serde_json::{Map, Value, json};

use super::{
    ledger::{Field, Ledger},
    names, schema,
};
use crate::{
    Loss, Refusal,
    request::{Tool, ToolChoice, ToolInput},
};

/// Writes `tools`, `tool_choice` and `parallel_tool_calls`; none of them where there is no tool.
pub(super) fn encode(ledger: &mut Ledger<'_>, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let request = ledger.request;
    let mut tools = Vec::new();
    for tool in &request.tools {
        tools.extend(encode_tool(ledger, tool)?);
    }
    if tools.is_empty() {
        return Ok(());
    }
    body.insert("tools".to_owned(), tools.into());
    if let Some(choice) = &request.tool_choice {
        body.insert("tool_choice".to_owned(), encode_choice(ledger, choice)?);
    }
    parallel(ledger, body)
}

/// That calls may come together is the default everywhere and need not be said to hosts that may not know the field.
fn parallel(ledger: &mut Ledger<'_>, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(parallel) = ledger.request.parallel_tool_calls else { return Ok(()) };
    if ledger.target.dialect.parallel_tool_calls {
        if !parallel || ledger.is_native() {
            body.insert("parallel_tool_calls".to_owned(), json!(parallel));
        }
        return Ok(());
    }
    match parallel {
        true => Ok(()),
        false => ledger.dropped(Field::Parallel, "the host cannot hold back parallel calls"),
    }
}

fn encode_tool(ledger: &mut Ledger<'_>, tool: &Tool) -> Result<Option<Value>, Refusal> {
    if tool.cache.is_some() && ledger.target.traits.prompt_cache_breakpoints {
        ledger.dropped(Field::ToolCache, "tools take no cache mark")?;
    }
    let value = match &tool.input {
        ToolInput::Schema(schema) => function(ledger, tool, schema.as_ref())?,
        ToolInput::Custom(format) => custom(ledger, tool, format.as_ref()),
        ToolInput::Hosted(value) if ledger.is_native() => value.clone(),
        ToolInput::Hosted(value) => return hosted(ledger, tool, value).map(|()| None),
    };
    Ok(Some(value))
}

fn function(ledger: &mut Ledger<'_>, tool: &Tool, schema: Option<&Value>) -> Result<Value, Refusal> {
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(names::tool_name(ledger, &tool.name)));
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), json!(description));
    }
    let parameters = parameters(schema);
    let strict = strict(ledger, tool, &parameters)?;
    function.insert("parameters".to_owned(), parameters);
    if let Some(strict) = strict {
        function.insert("strict".to_owned(), json!(strict));
    }
    for other in &tool.other {
        match ledger.is_native() {
            true => drop(function.insert(other.path.clone(), other.value.clone())),
            false => ledger.leave_out_other(other, "tools.")?,
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

/// Hosts want an object that says so.
fn parameters(schema: Option<&Value>) -> Value {
    let Some(Value::Object(fields)) = schema else { return json!({"type": "object", "properties": {}}) };
    if fields.contains_key("type") {
        return Value::Object(fields.clone());
    }
    let mut typed = Map::from_iter([("type".to_owned(), json!("object"))]);
    typed.extend(fields.clone());
    Value::Object(typed)
}

/// `strict` where the host takes it and, for callers of another shape, where the schema keeps to OpenAI's rules for it:
/// they mean their own provider's rules, and OpenAI refuses the request over the difference.
fn strict(ledger: &mut Ledger<'_>, tool: &Tool, parameters: &Value) -> Result<Option<bool>, Refusal> {
    let Some(strict) = tool.strict else { return Ok(None) };
    if !ledger.target.dialect.tool_strict {
        if strict {
            ledger.dropped(Field::ToolStrict, "the host does not take it")?;
        }
        return Ok(None);
    }
    if strict && !ledger.is_native() && !schema::is_strict(parameters) {
        ledger.dropped(Field::ToolStrict, "a schema does not keep to the rules of strict mode")?;
        return Ok(None);
    }
    Ok(Some(strict))
}

fn custom(ledger: &mut Ledger<'_>, tool: &Tool, format: Option<&Value>) -> Value {
    let mut custom = Map::new();
    custom.insert("name".to_owned(), json!(names::tool_name(ledger, &tool.name)));
    if let Some(description) = &tool.description {
        custom.insert("description".to_owned(), json!(description));
    }
    if let Some(format) = format {
        custom.insert("format".to_owned(), format.clone());
    }
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

fn encode_choice(ledger: &mut Ledger<'_>, choice: &ToolChoice) -> Result<Value, Refusal> {
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
            let tools: Vec<Value> = names.iter().map(|name| reference(ledger, name)).collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    })
}

fn reference(ledger: &mut Ledger<'_>, name: &str) -> Value {
    let tool = ledger.request.tools.iter().find(|tool| tool.name == name);
    let kind = match tool.map(|tool| &tool.input) {
        Some(ToolInput::Custom(_)) => "custom",
        _ => "function",
    };
    json!({"type": kind, kind: {"name": names::tool_name(ledger, name)}})
}
