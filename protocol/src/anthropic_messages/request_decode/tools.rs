//! Reads the tools that may be called and which of them must be.

use serde_json::Value;

use super::{Others, blocks};
use crate::{
    Refusal,
    anthropic_messages::fields::{Fields, at, wrong},
    json::Json,
    request::{FieldClass, OtherField, Tool, ToolChoice, ToolInput},
};

/// The declared tools.
pub(super) fn tools(fields: &mut Fields<'_>) -> Result<Vec<Tool>, Refusal> {
    let list = fields.list("tools")?;
    let read = |(index, value)| tool(value, &at(&fields.path("tools"), index));
    list.into_iter().enumerate().map(read).collect()
}

/// One tool: the caller's own, or one whose meaning the provider knows.
pub(super) fn tool(value: Json<'_>, path: &str) -> Result<Tool, Refusal> {
    match value["type"].as_str().filter(|kind| *kind != "custom").map(str::to_owned) {
        Some(kind) => hosted(kind, value.to_value(), Fields::of(value, path)?),
        None => custom(Fields::of(value, path)?),
    }
}

fn custom(mut fields: Fields<'_>) -> Result<Tool, Refusal> {
    fields.text("type")?;
    let schema = match fields.take("input_schema") {
        Some(schema) if !schema.is_object() => return Err(wrong(&fields.path("input_schema"), "an object", &schema)),
        schema => schema.map(|schema| schema.to_value()),
    };
    Ok(Tool {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        input: ToolInput::Schema(schema),
        strict: fields.flag("strict")?,
        cache: blocks::cache_mark(&mut fields)?,
        other: remaining(fields),
    })
}

/// Fields of a tool that no other shape has.
fn remaining(fields: Fields<'_>) -> Vec<OtherField> {
    let other = |(path, value): (String, Value)| {
        let name = path.rsplit('.').next().unwrap_or_default().to_owned();
        OtherField { class: class_of(&name, &value), path: name, value }
    };
    fields.rest().map(other).collect()
}

fn class_of(name: &str, value: &Value) -> FieldClass {
    let calls_directly = || value.as_array().is_some_and(|callers| callers.iter().all(|caller| caller == "direct"));
    match name {
        "defer_loading" if value == &Value::Bool(true) => FieldClass::Drop,
        "input_examples" => FieldClass::Drop,
        "allowed_callers" if !calls_directly() => FieldClass::Drop,
        _ => FieldClass::Silent,
    }
}

/// A tool that the provider runs, or whose schema its models were trained on.
fn hosted(kind: String, mut whole: Value, mut fields: Fields<'_>) -> Result<Tool, Refusal> {
    if let Value::Object(map) = &mut whole {
        map.shift_remove("cache_control");
    }
    Ok(Tool {
        name: fields.text("name")?.unwrap_or(kind),
        description: None,
        input: ToolInput::Hosted(whole),
        strict: None,
        cache: blocks::cache_mark(&mut fields)?,
        other: Vec::new(),
    })
}

/// `tool_choice`, and whether calls may be parallel; that they may is the default and said by nobody.
pub(super) fn choice(
    fields: &mut Fields<'_>,
    others: &mut Others,
) -> Result<(Option<ToolChoice>, Option<bool>), Refusal> {
    let Some(mut choice) = fields.object("tool_choice")? else { return Ok((None, None)) };
    let disable = choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
    let kind = choice.required_text("type")?;
    let wanted = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => {
            let path = choice.path("type");
            let message = format!("`{path}` must be `auto`, `any`, `tool` or `none`, not `{kind}`");
            return Err(Refusal::malformed(path, message));
        }
    };
    others.rest(choice, FieldClass::Silent);
    Ok((Some(wanted), disable.then_some(false)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(value: Value) -> Tool {
        tool(Json::from(&value), "tools[0]").expect("a good tool")
    }

    fn decode_choice(value: Value) -> (Option<ToolChoice>, Option<bool>) {
        let value = json!({"tool_choice": value});
        let mut fields = Fields::of(Json::from(&value), "").expect("an object");
        choice(&mut fields, &mut Others::default()).expect("a good choice")
    }

    #[test]
    fn reads_a_tool_of_the_caller() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let tool = decode(json!({"type": "custom", "name": "f", "description": "d", "input_schema": schema,
            "strict": true, "cache_control": {"type": "ephemeral"}}));
        assert_eq!((tool.name.as_str(), tool.description.as_deref(), tool.strict), ("f", Some("d"), Some(true)));
        assert_eq!(tool.input, ToolInput::Schema(Some(schema)));
        assert!(tool.cache.is_some());
    }

    #[test]
    fn hosted_and_typed_tools_are_kept_as_they_stand() {
        let web = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 2});
        let mut marked = web.clone();
        marked["cache_control"] = json!({"type": "ephemeral"});
        let tool = decode(marked);
        assert_eq!((tool.name.as_str(), tool.cache.is_some()), ("web_search", true));
        assert_eq!(tool.input, ToolInput::Hosted(web));
    }

    #[test]
    fn fields_of_this_shape_alone_are_classified() {
        let tool = decode(json!({"name": "a", "input_schema": {"type": "object"}, "defer_loading": true,
            "allowed_callers": ["direct"], "eager_input_streaming": true, "input_examples": [{}]}));
        let classes: Vec<_> = tool.other.iter().map(|field| (field.path.as_str(), field.class)).collect();
        for (name, class) in [
            ("defer_loading", FieldClass::Drop),
            ("allowed_callers", FieldClass::Silent),
            ("eager_input_streaming", FieldClass::Silent),
            ("input_examples", FieldClass::Drop),
        ] {
            assert!(classes.contains(&(name, class)), "{name}");
        }
    }

    #[test]
    fn reads_every_choice() {
        assert_eq!(decode_choice(json!({"type": "auto"})), (Some(ToolChoice::Auto), None));
        assert_eq!(
            decode_choice(json!({"type": "any", "disable_parallel_tool_use": true})),
            (Some(ToolChoice::Required), Some(false))
        );
        assert_eq!(decode_choice(json!({"type": "none"})), (Some(ToolChoice::None), None));
        assert_eq!(decode_choice(json!({"type": "tool", "name": "f"})), (Some(ToolChoice::Named("f".into())), None));
    }
}
