//! Reads the top-level options of a chat request: caps, stops, form of the answer, reasoning, identity, cache, stream.

use super::At;
use crate::{
    Refusal,
    json::Object,
    request::{CacheOptions, EndUser, FieldClass, OtherField, OutputFormat, Reasoning},
};

/// `max_completion_tokens`, or the field that preceded it.
pub(super) fn output_cap(root: &At<'_>) -> Result<Option<u64>, Refusal> {
    let older = root.opt("max_tokens", At::u64)?;
    Ok(root.opt("max_completion_tokens", At::u64)?.or(older))
}

/// One text, or several.
pub(super) fn stop(at: &At<'_>) -> Result<Vec<String>, Refusal> {
    match at.value().as_str() {
        Some(one) => Ok(vec![one.to_owned()]),
        None if at.value().is_array() => at.list()?.map(|item| item.string()).collect(),
        None => Err(at.wrong("a string or an array of strings")),
    }
}

/// `response_format`. A type that we do not know is kept for hosts of the same shape, and refused elsewhere.
pub(super) fn format(root: &At<'_>, other: &mut Vec<OtherField>) -> Result<Option<OutputFormat>, Refusal> {
    let Some(format) = root.get("response_format") else { return Ok(None) };
    match format.need("type")?.str()? {
        "text" => Ok(Some(OutputFormat::Text)),
        "json_object" => Ok(Some(OutputFormat::JsonObject)),
        "json_schema" => json_schema(&format.need("json_schema")?).map(Some),
        _ => {
            let path = "response_format".to_owned();
            other.push(OtherField { path, value: format.value().to_value(), class: FieldClass::Refuse });
            Ok(None)
        }
    }
}

fn json_schema(at: &At<'_>) -> Result<OutputFormat, Refusal> {
    let schema = at.opt("schema", |schema| schema.object().map(Object::to_map))?.unwrap_or_default();
    Ok(OutputFormat::JsonSchema {
        name: at.opt("name", At::string)?,
        description: at.opt("description", At::string)?,
        schema: schema.into(),
        strict: at.opt("strict", At::bool)?,
    })
}

pub(super) fn reasoning(root: &At<'_>) -> Result<Option<Reasoning>, Refusal> {
    let effort = root.opt("reasoning_effort", At::string)?;
    Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }))
}

pub(super) fn end_user(root: &At<'_>) -> Result<EndUser, Refusal> {
    Ok(EndUser {
        user: root.opt("user", At::string)?,
        safety_identifier: root.opt("safety_identifier", At::string)?,
        user_id: None,
    })
}

pub(super) fn cache(root: &At<'_>) -> Result<CacheOptions, Refusal> {
    Ok(CacheOptions {
        key: root.opt("prompt_cache_key", At::string)?,
        retention: root.opt("prompt_cache_retention", At::string)?,
        options: root.opt("prompt_cache_options", |at| at.object().map(|_| at.value().to_value()))?,
        mark: None,
    })
}

pub(super) fn include_usage(root: &At<'_>) -> Result<bool, Refusal> {
    let Some(options) = root.get("stream_options") else { return Ok(false) };
    Ok(options.opt("include_usage", At::bool)?.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json::Json;

    fn format_of(value: Value) -> (Result<Option<OutputFormat>, Refusal>, Vec<OtherField>) {
        let mut other = Vec::new();
        let body = json!({"response_format": value});
        (format(&At::root(&Json::from(&body)), &mut other), other)
    }

    #[test]
    fn stop_is_one_text_or_several() {
        assert_eq!(stop(&At::root(&Json::from(&json!("a")))).unwrap(), ["a"]);
        assert_eq!(stop(&At::root(&Json::from(&json!(["a", "b"])))).unwrap(), ["a", "b"]);
        assert!(stop(&At::root(&Json::from(&json!(1)))).is_err());
    }

    #[test]
    fn a_schema_keeps_its_name_and_strictness() {
        let schema = json!({"type": "object"});
        let got =
            format_of(json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}})).0;
        let expected =
            OutputFormat::JsonSchema { name: Some("x".into()), description: None, schema, strict: Some(true) };
        assert_eq!(got.unwrap(), Some(expected));
        assert_eq!(
            format_of(json!({"type": "json_schema"})).0.unwrap_err().param.unwrap(),
            "response_format.json_schema"
        );
    }

    #[test]
    fn an_unknown_form_of_answer_is_kept_and_never_fatal() {
        let (format, other) = format_of(json!({"type": "grammar", "grammar": "x"}));
        assert_eq!(format.unwrap(), None);
        assert_eq!((other[0].path.as_str(), other[0].class), ("response_format", FieldClass::Refuse));
    }
}
