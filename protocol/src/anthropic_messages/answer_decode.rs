//! Reads a whole answer. What is no message of this shape is an error, whatever its status was.

use super::{citations, error, names, stop, usage::WireUsage};
use crate::{
    answer::{Answer, Block, Choice, Stop},
    error::{ErrorKind, WireError},
    json::{Json, Object},
    request::{Issuer, Opaque, ToolCall, ToolKind},
};

/// Reads an answer. Errs on an error object, and on a body that is no message (`{}`, HTML, another shape).
pub fn decode_answer(body: &[u8]) -> Result<Answer, WireError> {
    let Ok(Json::Object(message)) = Json::parse(body) else {
        return Err(wrong_shape("it is no JSON object"));
    };
    if message.contains_key("error") {
        return Err(error::of_object(&message.to_map(), ErrorKind::ServerError.status()));
    }
    if message.get("type").is_none_or(|kind| *kind != *"message") {
        return Err(wrong_shape("its `type` is not `message`"));
    }
    let Some(Json::Array(content)) = message.get("content") else {
        return Err(wrong_shape("it has no `content`"));
    };
    let blocks = content.iter().map(block).collect::<Result<_, _>>()?;
    let mut usage = WireUsage::default();
    usage.merge(message.get("usage"));
    Ok(Answer {
        id: text(&message, "id").unwrap_or_default(),
        model: text(&message, "model").unwrap_or_default(),
        created: None,
        choices: vec![Choice { blocks, stop: stop_of(&message), logprobs: None }],
        usage: usage.usage(),
        service_tier: usage.service_tier(),
    })
}

/// The reason why a message or a `message_delta` says that the answer ended.
pub(super) fn stop_of(fields: &Object<'_>) -> Option<Stop> {
    let reason = stop::decode(fields.get("stop_reason")?.as_str()?);
    let details = fields.get("stop_details").filter(|details| !details.is_null()).map(Json::to_value);
    Some(Stop { reason, sequence: text(fields, "stop_sequence"), details })
}

/// A text of a block or message.
pub(super) fn text(fields: &Object<'_>, key: &str) -> Option<String> {
    fields.get(key).and_then(Json::as_str).map(str::to_owned)
}

/// A blob as a client's history holds it.
pub(super) fn opaque(data: &str) -> Opaque {
    Opaque::untagged(data, Issuer::Anthropic)
}

fn block(value: &Json<'_>) -> Result<Block, WireError> {
    let Json::Object(fields) = value else { return Err(wrong_shape("a block of its `content` is no object")) };
    let Some(name) = fields.get("type").and_then(Json::as_str) else {
        return Err(wrong_shape("a block of its `content` has no `type`"));
    };
    let required =
        |key: &str| text(fields, key).ok_or_else(|| wrong_shape(&format!("a `{name}` block has no `{key}`")));
    let block = match name {
        "text" => Block::Text { text: required("text")?, citations: cited(fields) },
        "thinking" => {
            let proof = text(fields, "signature").filter(|signature| !signature.is_empty());
            Block::Thinking { text: required("thinking")?, proof: proof.as_deref().map(opaque) }
        }
        "redacted_thinking" => Block::RedactedThinking(opaque(&required("data")?)),
        "tool_use" => Block::ToolCall(ToolCall {
            id: required("id")?,
            name: required("name")?,
            arguments: input(fields),
            kind: ToolKind::Function,
        }),
        _ => Block::Raw { name: name.to_owned(), value: value.to_value() },
    };
    Ok(block)
}

fn cited(fields: &Object<'_>) -> Vec<crate::answer::Citation> {
    let list = fields.get("citations").and_then(Json::as_array);
    list.into_iter().flatten().map(citations::decode).collect()
}

/// The arguments of a `tool_use` block; one without an input calls without arguments.
pub(super) fn input(fields: &Object<'_>) -> String {
    match fields.get("input") {
        Some(Json::Object(input)) => names::arguments(input),
        None | Some(Json::Null) => "{}".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn wrong_shape(why: &str) -> WireError {
    WireError {
        status: ErrorKind::Unreachable.status(),
        ..WireError::new(ErrorKind::ServerError, format!("the upstream's answer is not an Anthropic message: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::answer::{Citation, StopReason};

    fn message(content: Value) -> Value {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2}})
    }

    fn decode(value: Value) -> Result<Answer, WireError> {
        decode_answer(value.to_string().as_bytes())
    }

    fn blocks(content: Value) -> Vec<Block> {
        decode(message(content)).expect("a message").choices.remove(0).blocks
    }

    #[test]
    fn reads_every_block_in_its_order() {
        let blocks = blocks(json!([
            {"type": "thinking", "thinking": "hm", "signature": "s=="},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "hello", "citations": [{"type": "page_location", "cited_text": "c"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1.0, "a": 2}, "caller": {"type": "direct"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        ]));
        let page = json!({"type": "page_location", "cited_text": "c"});
        let call = ToolCall {
            id: "t".into(),
            name: "f".into(),
            arguments: r#"{"b":1.0,"a":2}"#.into(),
            kind: ToolKind::Function,
        };
        let name = "web_search_tool_result".to_owned();
        assert_eq!(
            blocks,
            [
                Block::Thinking { text: "hm".into(), proof: Some(opaque("s==")) },
                Block::RedactedThinking(opaque("d")),
                Block::Text { text: "hello".into(), citations: vec![Citation::Other(page)] },
                Block::ToolCall(call),
                Block::Raw {
                    name,
                    value: json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []})
                },
            ]
        );
    }

    #[test]
    fn an_answer_without_content_is_an_answer() {
        assert!(blocks(json!([])).is_empty());
    }

    #[test]
    fn reads_why_the_model_declined() {
        let mut value = message(json!([]));
        value["stop_reason"] = json!("refusal");
        value["stop_details"] = json!({"type": "refusal", "category": "bio", "explanation": "no"});
        let stop = decode(value).expect("a message").choices.remove(0).stop.expect("a reason");
        assert_eq!(stop.reason, StopReason::Refusal);
        assert_eq!(stop.details.expect("details")["category"], "bio");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for body in ["{}", "[]", "<html></html>", "", r#"{"type":"message"}"#, r#"{"object":"chat.completion"}"#] {
            let error = decode_answer(body.as_bytes()).expect_err(body);
            assert_eq!((error.kind, error.status), (ErrorKind::ServerError, 502), "{body}");
        }
    }

    #[test]
    fn an_error_object_keeps_its_kind() {
        let error = decode(json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
            .expect_err("an error");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Overloaded, "busy"));
    }
}
