//! Reads the tools that may be called and which of them must be.

use serde_json::Value;

use super::{block_decode, request_decode::Others};
use crate::{
    Refusal,
    fields::{Fields, at, plain, wrong},
    request::{FieldClass, OtherField, Tool, ToolChoice, ToolInput},
};

/// The declared tools.
pub(super) fn tools(fields: &mut Fields, others: &mut Others) -> Result<Vec<Tool>, Refusal> {
    let path = fields.path("tools");
    let read = |(index, value)| tool(value, &at(&path, index), others);
    fields.list("tools")?.into_iter().enumerate().map(read).collect()
}

/// One tool: the caller's own, or one whose meaning the provider knows.
pub(super) fn tool(value: Value, path: &str, others: &mut Others) -> Result<Tool, Refusal> {
    let whole = value.clone();
    let mut fields = Fields::of(value, path)?;
    let kind = fields.text("type")?;
    match kind.filter(|kind| kind != "custom") {
        Some(kind) => hosted(kind, whole, fields),
        None => custom(fields, others),
    }
}

fn custom(mut fields: Fields, others: &mut Others) -> Result<Tool, Refusal> {
    let schema_path = fields.path("input_schema");
    let schema = match fields.take("input_schema") {
        Some(schema) if !schema.is_object() => return Err(wrong(&schema_path, "an object", &schema)),
        schema => schema,
    };
    Ok(Tool {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        input: ToolInput::Schema(schema),
        strict: fields.flag("strict")?,
        cache: block_decode::cache_mark(&mut fields)?,
        other: remaining(fields, others),
    })
}

/// Fields of a tool that no other shape has.
fn remaining(fields: Fields, others: &mut Others) -> Vec<OtherField> {
    let mut kept = Vec::new();
    for (path, value) in fields.rest() {
        let path = plain(&path);
        let name = path.rsplit('.').next().unwrap_or_default();
        let class = class_of(name, &value);
        // Listed with the request too, so that a target says once what it leaves out of however many tools.
        others.add(&path, value.clone(), class);
        kept.push(OtherField { path, value, class: FieldClass::Silent });
    }
    kept
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

fn hosted(kind: String, mut whole: Value, mut fields: Fields) -> Result<Tool, Refusal> {
    if let Value::Object(map) = &mut whole {
        map.shift_remove("cache_control");
    }
    let path = plain(fields.here());
    let name = fields.text("name")?.unwrap_or_else(|| kind.clone());
    // Without the search, its tools are declared plainly; without any other, the answer would be another.
    let class = if kind.starts_with("tool_search_tool") { FieldClass::Drop } else { FieldClass::Refuse };
    Ok(Tool {
        name,
        description: None,
        input: ToolInput::Hosted(whole),
        strict: None,
        cache: block_decode::cache_mark(&mut fields)?,
        other: vec![OtherField { path: format!("{path}.{kind}"), value: Value::String(kind), class }],
    })
}

/// `tool_choice`, and whether calls may be parallel; that they may is the default and said by nobody.
pub(super) fn choice(fields: &mut Fields, others: &mut Others) -> Result<(Option<ToolChoice>, Option<bool>), Refusal> {
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
        tool(value, "tools[0]", &mut Others::default()).expect("a good tool")
    }

    fn decode_choice(value: Value) -> (Option<ToolChoice>, Option<bool>) {
        let mut fields = Fields::of(json!({"tool_choice": value}), "").expect("an object");
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
        let tool = decode(web.clone());
        assert_eq!(tool.input, ToolInput::Hosted(web));
        assert_eq!(tool.other[0].class, FieldClass::Refuse);
        let search = decode(json!({"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}));
        assert_eq!(search.other[0].class, FieldClass::Drop);
    }

    #[test]
    fn deferred_loading_is_named_once_for_all_tools() {
        let request = super::super::decode_request(
            json!({"model": "m", "messages": [], "tools": [
                {"name": "a", "input_schema": {"type": "object"}, "defer_loading": true},
                {"name": "b", "input_schema": {"type": "object"}, "defer_loading": true},
            ]})
            .to_string()
            .as_bytes(),
        )
        .expect("good");
        let named: Vec<_> = request.other.iter().map(|field| (field.path.as_str(), field.class)).collect();
        assert_eq!(named, [("tools.defer_loading", FieldClass::Drop)]);
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
