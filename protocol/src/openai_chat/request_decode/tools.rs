//! Reads the tools of a chat request, which of them may be called, and the functions that preceded them.

use super::{At, parts};
use crate::{
    Refusal,
    json::Json,
    request::{FieldClass, OtherField, Tool, ToolChoice, ToolInput},
};

/// All tools; legacy functions are tools.
pub(super) fn decode(root: &At<'_>) -> Result<Vec<Tool>, Refusal> {
    let mut tools = Vec::new();
    if let Some(list) = root.get("tools") {
        for at in list.list()? {
            tools.push(tool(&at)?);
        }
    }
    if let Some(list) = root.get("functions") {
        for at in list.list()? {
            tools.push(function(&at)?);
        }
    }
    Ok(tools)
}

fn tool(at: &At<'_>) -> Result<Tool, Refusal> {
    let tool = match at.need("type")?.str()? {
        "function" => function(&at.need("function")?)?,
        "custom" => custom(&at.need("custom")?)?,
        hosted => Tool { input: ToolInput::Hosted(at.value().to_value()), ..named(hosted.to_owned()) },
    };
    Ok(Tool { cache: parts::mark(at)?, ..tool })
}

fn function(at: &At<'_>) -> Result<Tool, Refusal> {
    let schema = at.opt("parameters", |schema| schema.object().map(|_| schema.value().to_value()))?;
    let known = ["name", "description", "parameters", "strict"];
    let other = at.object()?.iter().filter(|(key, value)| !value.is_null() && !known.contains(key));
    let silent = |(key, value): (&str, &Json<'_>)| OtherField {
        path: key.to_owned(),
        value: value.to_value(),
        class: FieldClass::Silent,
    };
    Ok(Tool {
        description: at.opt("description", At::string)?,
        input: ToolInput::Schema(schema),
        strict: at.opt("strict", At::bool)?,
        other: other.map(silent).collect(),
        ..named(at.need("name")?.string()?)
    })
}

fn custom(at: &At<'_>) -> Result<Tool, Refusal> {
    Ok(Tool {
        description: at.opt("description", At::string)?,
        input: ToolInput::Custom(at.get("format").map(|format| format.value().to_value())),
        ..named(at.need("name")?.string()?)
    })
}

fn named(name: String) -> Tool {
    Tool { name, description: None, input: ToolInput::Schema(None), strict: None, cache: None, other: Vec::new() }
}

/// `tool_choice`, or the `function_call` that preceded it.
pub(super) fn choice(root: &At<'_>) -> Result<Option<ToolChoice>, Refusal> {
    if let Some(choice) = root.get("tool_choice") {
        return tool_choice(&choice).map(Some);
    }
    let Some(call) = root.get("function_call") else { return Ok(None) };
    match call.value().as_str() {
        Some(word) => by_word(word).ok_or_else(|| call.wrong("`none`, `auto` or the name of a function")).map(Some),
        None => Ok(Some(ToolChoice::Named(call.need("name")?.string()?))),
    }
}

fn tool_choice(at: &At<'_>) -> Result<ToolChoice, Refusal> {
    if let Some(word) = at.value().as_str() {
        return by_word(word).ok_or_else(|| at.wrong("`none`, `auto`, `required` or an object"));
    }
    let kind = at.need("type")?;
    match kind.str()? {
        kind @ ("function" | "custom") => Ok(ToolChoice::Named(at.need(kind)?.need("name")?.string()?)),
        "allowed_tools" => allowed(&at.need("allowed_tools")?),
        _ => Err(kind.wrong("one of function, custom, allowed_tools")),
    }
}

/// `any` is the word of several compatible hosts.
fn by_word(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" | "any" => Some(ToolChoice::Required),
        _ => None,
    }
}

fn allowed(at: &At<'_>) -> Result<ToolChoice, Refusal> {
    let mode = at.opt("mode", At::string)?;
    let mut names = Vec::new();
    for tool in at.need("tools")?.list()? {
        let kind = tool.need("type")?;
        match kind.str()? {
            kind @ ("function" | "custom") => names.push(tool.need(kind)?.need("name")?.string()?),
            hosted => names.push(hosted.to_owned()),
        }
    }
    Ok(ToolChoice::Allowed { names, required: mode.as_deref() == Some("required") })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn functions_custom_tools_and_hosted_tools_are_told_apart() {
        let hosted = json!({"type": "code_thing", "x": 1});
        let body = json!({"tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}}, hosted]});
        let got = decode(&At::root(&Json::from(&body))).unwrap();
        let expected = [
            Tool {
                description: Some("d".into()),
                strict: Some(true),
                input: ToolInput::Schema(Some(json!({"type": "object"}))),
                ..named("f".into())
            },
            Tool { input: ToolInput::Custom(Some(json!({"type": "text"}))), ..named("g".into()) },
            Tool { input: ToolInput::Hosted(hosted), ..named("code_thing".into()) },
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn legacy_functions_are_tools() {
        let body = json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}});
        assert_eq!(decode(&At::root(&Json::from(&body))).unwrap(), [named("f".into())]);
        assert_eq!(choice(&At::root(&Json::from(&body))).unwrap(), Some(ToolChoice::Named("f".into())));
    }

    #[test]
    fn every_tool_choice_is_read() {
        let choice_of = |value: Value| choice(&At::root(&Json::from(&json!({"tool_choice": value}))));
        let named = |name: &str| ToolChoice::Named(name.into());
        for (value, expected) in [
            (json!("auto"), ToolChoice::Auto),
            (json!("none"), ToolChoice::None),
            (json!("any"), ToolChoice::Required),
            (json!({"type": "function", "function": {"name": "f"}}), named("f")),
            (json!({"type": "custom", "custom": {"name": "g"}}), named("g")),
            (
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
                {"type": "function", "function": {"name": "f"}}]}}),
                ToolChoice::Allowed { names: vec!["f".into()], required: true },
            ),
        ] {
            assert_eq!(choice_of(value).unwrap(), Some(expected));
        }
        assert_eq!(choice_of(json!("maybe")).unwrap_err().param.unwrap(), "tool_choice");
        assert_eq!(choice_of(json!(null)).unwrap(), None);
    }
}
