//! Reads a chat request into canonical form.
//!
//! A field of the wrong type is refused with its path; a field without a canonical place is kept as an [`OtherField`]
//! that says what another shape must do with it. What a target can take is decided by its encoder.

mod options;
mod parts;
mod tools;
mod turns;

use super::fields::At;
use crate::{
    Refusal, WireShape,
    json::{Json, Object},
    request::{FieldClass, OtherField, Request, Sampling},
};

/// The fields that have a canonical place.
const CANONICAL: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "stop",
    "n",
    "logprobs",
    "top_logprobs",
    "response_format",
    "verbosity",
    "reasoning_effort",
    "user",
    "safety_identifier",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "stream",
    "stream_options",
];

/// Reads a request. Errs on JSON that is malformed, or that has a field of the wrong type, naming its path.
pub fn decode_request(body: &[u8]) -> Result<Request, Refusal> {
    let value = Json::parse(body).map_err(not_json)?;
    let root = At::root(&value);
    let mut other = other_fields(&root)?;
    Ok(Request {
        source: WireShape::OpenaiChat,
        model: root.need("model")?.string()?,
        turns: turns::decode(&root.need("messages")?)?,
        tools: tools::decode(&root)?,
        tool_choice: tools::choice(&root)?,
        parallel_tool_calls: root.opt("parallel_tool_calls", At::bool)?,
        output_cap: options::output_cap(&root)?,
        sampling: sampling(&root)?,
        stop: root.opt("stop", options::stop)?.unwrap_or_default(),
        n: root.opt("n", At::u64)?,
        logprobs: root.opt("logprobs", At::bool)?,
        top_logprobs: root.opt("top_logprobs", At::u64)?,
        format: options::format(&root, &mut other)?,
        verbosity: root.opt("verbosity", At::string)?,
        reasoning: options::reasoning(&root)?,
        end_user: options::end_user(&root)?,
        metadata: root.opt("metadata", |at| at.object().map(Object::to_map))?.unwrap_or_default(),
        cache: options::cache(&root)?,
        service_tier: root.opt("service_tier", At::string)?,
        stream: root.opt("stream", At::bool)?.unwrap_or(false),
        include_usage: options::include_usage(&root)?,
        legacy_functions: root.get("functions").is_some() && root.get("tools").is_none(),
        other,
    })
}

fn not_json(error: serde_json::Error) -> Refusal {
    Refusal { param: None, message: format!("the body is not valid JSON: {error}"), malformed: true }
}

fn sampling(root: &At<'_>) -> Result<Sampling, Refusal> {
    Ok(Sampling {
        temperature: root.opt("temperature", At::number)?,
        top_p: root.opt("top_p", At::number)?,
        top_k: root.opt("top_k", At::number)?,
        seed: root.opt("seed", At::number)?,
        frequency_penalty: root.opt("frequency_penalty", At::number)?,
        presence_penalty: root.opt("presence_penalty", At::number)?,
        logit_bias: root.opt("logit_bias", |at| at.object().map(|_| at.value().to_value()))?,
    })
}

fn other_fields(root: &At<'_>) -> Result<Vec<OtherField>, Refusal> {
    let fields = root.object()?.iter().filter(|(key, value)| !value.is_null() && !CANONICAL.contains(key));
    let mut other: Vec<OtherField> = fields
        .map(|(key, value)| OtherField { path: key.to_owned(), value: value.to_value(), class: class(key, value) })
        .collect();
    if let Some(options) = root.get("stream_options") {
        let hints = options.object()?.iter().filter(|(key, value)| *key != "include_usage" && !value.is_null());
        other.extend(hints.map(|(key, value)| OtherField {
            path: format!("stream_options.{key}"),
            value: value.to_value(),
            class: FieldClass::Silent,
        }));
    }
    Ok(other)
}

/// What another shape must do with a field. What the caller will look for in the answer is refused; fields that nobody
/// publishes are left out silently, as they are no promise of this API.
fn class(key: &str, value: &Json<'_>) -> FieldClass {
    let more_than_text = |list: &[Json<'_>]| list.iter().any(|item| item.as_str() != Some("text"));
    match key {
        "audio" | "moderation" | "web_search_options" => FieldClass::Refuse,
        "modalities" if value.as_array().is_some_and(more_than_text) => FieldClass::Refuse,
        "store" if value.as_bool() == Some(true) => FieldClass::Drop,
        "prediction" => FieldClass::Drop,
        _ => FieldClass::Silent,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Number, Value, json};

    use super::*;

    fn decode(value: Value) -> Result<Request, Refusal> {
        decode_request(value.to_string().as_bytes())
    }

    fn decoded(extra: Value) -> Request {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        decode(body).unwrap()
    }

    fn classes(request: &Request) -> Vec<(&str, FieldClass)> {
        request.other.iter().map(|field| (field.path.as_str(), field.class)).collect()
    }

    #[test]
    fn a_body_that_is_not_json_or_lacks_a_field_is_malformed() {
        assert_eq!(decode_request(b"{").unwrap_err().param, None);
        assert_eq!(decode_request(b"[]").unwrap_err().message, "the body must be an object");
        assert_eq!(decode(json!({"messages": []})).unwrap_err().param.unwrap(), "model");
        assert_eq!(decode(json!({"model": "m"})).unwrap_err().param.unwrap(), "messages");
        assert_eq!(decode(json!({"model": "m", "messages": []})).unwrap_err().param.unwrap(), "messages");
        assert!(decode(json!({"model": 1, "messages": []})).unwrap_err().malformed);
    }

    #[test]
    fn the_newer_output_cap_wins() {
        assert_eq!(decoded(json!({"max_tokens": 5, "max_completion_tokens": 7})).output_cap, Some(7));
        assert_eq!(decoded(json!({"max_tokens": 5})).output_cap, Some(5));
        assert_eq!(decoded(json!({"max_tokens": null})).output_cap, None);
    }

    #[test]
    fn numbers_keep_their_spelling() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":1.0,"seed":12345678901234567890123}"#;
        let sampling = decode_request(body).unwrap().sampling;
        assert_eq!(sampling.temperature.unwrap().to_string(), "1.0");
        assert_eq!(sampling.seed.unwrap().to_string(), "12345678901234567890123");
        assert_eq!(decoded(json!({"top_p": 0})).sampling.top_p, Some(Number::from(0)));
    }

    #[test]
    fn fields_of_the_wrong_type_are_named() {
        for (field, value) in
            [("temperature", json!("hot")), ("n", json!(-1)), ("stream", json!("yes")), ("metadata", json!([]))]
        {
            let refusal = decode(json!({"model": "m", "messages": [{"role": "user", "content": "x"}], field: value}));
            assert_eq!(refusal.unwrap_err().param.as_deref(), Some(field));
        }
    }

    #[test]
    fn fields_without_a_canonical_place_say_what_another_shape_must_do() {
        let request = decoded(json!({"store": true, "prediction": {}, "modalities": ["text", "audio"], "audio": {},
            "web_search_options": {}, "vendor_thing": 1, "stream_options": {"include_usage": true, "include_obfuscation": false}}));
        use FieldClass::{Drop, Refuse, Silent};
        let expected = [
            ("store", Drop),
            ("prediction", Drop),
            ("modalities", Refuse),
            ("audio", Refuse),
            ("web_search_options", Refuse),
            ("vendor_thing", Silent),
            ("stream_options.include_obfuscation", Silent),
        ];
        assert_eq!(classes(&request), expected);
        assert!(request.include_usage);
        assert_eq!(
            classes(&decoded(json!({"store": false, "modalities": ["text"]}))),
            [("store", Silent), ("modalities", Silent)]
        );
    }
}
