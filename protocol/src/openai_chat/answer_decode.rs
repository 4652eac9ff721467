//! Reads a whole chat answer of any dialect.

use super::{
    error,
    reasoning::{Thought, thinking_part, thoughts},
    stop, usage,
};
use crate::{
    answer::{Answer, Block, Choice, Citation},
    error::{ErrorKind, WireError},
    json::{Json, Object},
    request::{ToolCall, ToolKind},
};

/// Reads an answer. Errs on anything that is not one: no JSON, an error object, no choices, choices without messages.
pub fn decode_answer(body: &[u8]) -> Result<Answer, WireError> {
    let value = Json::parse(body).map_err(|_| wrong("is not JSON"))?;
    if is_error(&value) {
        return Err(error::from_value(200, &value.to_value()));
    }
    let choices = value["choices"].as_array().filter(|choices| !choices.is_empty());
    let choices = choices.ok_or_else(|| wrong("has no choices"))?;
    let mut choices: Vec<&Json<'_>> = choices.iter().collect();
    choices.sort_by_key(|choice| choice["index"].as_u64());
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(Answer {
        id: text("id"),
        model: text("model"),
        created: value["created"].as_u64().filter(|created| *created > 0),
        choices: choices.into_iter().map(choice).collect::<Result<_, _>>()?,
        usage: usage::decode(&value),
        service_tier: value["service_tier"].as_str().map(str::to_owned),
    })
}

/// Whether an answer or a chunk is an error, in any envelope.
pub(super) fn is_error(value: &Json<'_>) -> bool {
    let said = |value: &Json<'_>| value.is_object() || value.as_str().is_some_and(|text| !text.is_empty());
    said(&value["error"]) || value["object"] == *"error"
}

/// What to say of an answer that is none.
pub(super) fn wrong(what: &str) -> WireError {
    WireError { status: 502, ..WireError::new(ErrorKind::ServerError, format!("the upstream's answer {what}")) }
}

fn choice(choice: &Json<'_>) -> Result<Choice, WireError> {
    if is_error(choice) {
        return Err(error::from_value(200, &choice.to_value()));
    }
    let blocks = match (choice["message"].as_object(), choice["finish_reason"].as_str()) {
        (Some(message), _) => blocks(message),
        // A filter took the whole message away.
        (None, Some("content_filter")) => Vec::new(),
        (None, _) => return Err(wrong("has a choice without a message")),
    };
    let calls = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let refusal = blocks.iter().find_map(|block| match block {
        Block::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    let stop = choice["finish_reason"].as_str().map(|word| stop::decode(word, calls, refusal));
    Ok(Choice {
        stop,
        logprobs: Some(&choice["logprobs"]).filter(|value| value.is_object()).map(Json::to_value),
        blocks,
    })
}

/// Reasoning, then words, then calls: the order in which models give them.
fn blocks(message: &Object<'_>) -> Vec<Block> {
    let mut blocks: Vec<Block> = thoughts(message).into_iter().map(thought).collect();
    blocks.extend(content(message));
    if let Some(refusal) = filled(message, "refusal") {
        blocks.push(Block::Refusal(refusal.to_owned()));
    }
    if let Some(audio) = message.get("audio").filter(|audio| audio.is_object()) {
        blocks.push(Block::Raw { name: "audio".to_owned(), value: audio.to_value() });
    }
    let calls = message.get("tool_calls").and_then(Json::as_array).into_iter().flatten();
    blocks.extend(calls.enumerate().map(|(index, call)| Block::ToolCall(tool_call(index, call))));
    if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
        let (name, arguments) = (text(&call["name"]), arguments(&call["arguments"]));
        blocks.push(Block::ToolCall(ToolCall { id: "fc_0".to_owned(), name, arguments, kind: ToolKind::Function }));
    }
    blocks
}

fn thought(thought: Thought) -> Block {
    match thought {
        Thought::Thinking(text, proof) => Block::Thinking { text, proof },
        Thought::Redacted(data) => Block::RedactedThinking(data),
    }
}

/// A string, or the parts of hosts whose models think aloud in their content.
fn content(message: &Object<'_>) -> Vec<Block> {
    let mut blocks: Vec<Block> = match message.get("content") {
        Some(Json::String(text)) if !text.is_empty() => vec![plain(text)],
        Some(Json::Array(parts)) => parts.iter().filter_map(part).collect(),
        _ => Vec::new(),
    };
    if let Some(Block::Text { citations, .. }) = blocks.iter_mut().find(|block| matches!(block, Block::Text { .. })) {
        let annotations = message.get("annotations").and_then(Json::as_array).into_iter().flatten();
        *citations = annotations.map(citation).collect();
    }
    blocks
}

fn plain(text: &str) -> Block {
    Block::Text { text: text.to_owned(), citations: Vec::new() }
}

fn part(part: &Json<'_>) -> Option<Block> {
    match part["type"].as_str()? {
        "thinking" => Some(Block::Thinking { text: thinking_part(part), proof: None }),
        "refusal" => Some(Block::Refusal(text(&part["refusal"]))),
        "text" => part["text"].as_str().filter(|text| !text.is_empty()).map(plain),
        name => Some(Block::Raw { name: name.to_owned(), value: part.to_value() }),
    }
}

/// An annotation of a text. OpenAI wraps it under its type; some hosts do not. Its words are found by its span.
pub(super) fn citation(annotation: &Json<'_>) -> Citation {
    let inner = if annotation["url_citation"].is_object() { &annotation["url_citation"] } else { annotation };
    let (Some("url_citation"), Some(url)) = (annotation["type"].as_str(), inner["url"].as_str()) else {
        return Citation::Other(annotation.to_value());
    };
    Citation::Url {
        url: url.to_owned(),
        title: inner["title"].as_str().map(str::to_owned),
        cited_text: None,
        span: inner["start_index"].as_u64().zip(inner["end_index"].as_u64()),
        raw: annotation.to_value(),
    }
}

fn tool_call(index: usize, call: &Json<'_>) -> ToolCall {
    let given = call["id"].as_str().filter(|id| !id.is_empty());
    let id = given.map_or_else(|| format!("call_{index}"), str::to_owned);
    if call["custom"].is_object() {
        let custom = &call["custom"];
        return ToolCall { id, name: text(&custom["name"]), arguments: text(&custom["input"]), kind: ToolKind::Custom };
    }
    let function = &call["function"];
    let arguments = arguments(&function["arguments"]);
    ToolCall { id, name: text(&function["name"]), arguments, kind: ToolKind::Function }
}

/// Raw text; some hosts send the object itself.
pub(super) fn arguments(value: &Json<'_>) -> String {
    match value {
        Json::Object(_) => value.to_string(),
        other => text(other),
    }
}

fn text(value: &Json<'_>) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn filled<'m>(message: &'m Object<'_>, key: &str) -> Option<&'m str> {
    message.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::answer::StopReason;

    fn read(value: Value) -> Result<Answer, WireError> {
        decode_answer(value.to_string().as_bytes())
    }

    fn blocks_of(message: Value) -> Vec<Block> {
        read(json!({"choices": [{"message": message}]})).unwrap().choices.remove(0).blocks
    }

    fn call(id: &str, name: &str, arguments: &str, kind: ToolKind) -> Block {
        Block::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind })
    }

    #[test]
    fn an_answer_is_read_whole() {
        let answer = read(json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "gpt",
            "service_tier": "default", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop", "logprobs": {"content": []}},
                {"index": 1, "message": {"role": "assistant", "content": null, "refusal": "no"}, "finish_reason": "stop"}]}))
        .unwrap();
        assert_eq!((answer.id.as_str(), answer.model.as_str(), answer.created), ("chatcmpl-1", "gpt", Some(7)));
        assert_eq!(answer.usage.unwrap().total(), 5);
        assert_eq!(answer.choices[0].blocks, [plain("a")]);
        assert_eq!(answer.choices[0].logprobs, Some(json!({"content": []})));
        assert_eq!(answer.choices[1].blocks, [Block::Refusal("no".into())]);
        assert_eq!(answer.choices[1].stop.as_ref().unwrap().reason, StopReason::Refusal);
    }

    #[test]
    fn choices_stand_in_the_order_of_their_indexes() {
        let choice = |index: u64, text: &str| json!({"index": index, "message": {"content": text}});
        let answer = read(json!({"choices": [choice(1, "b"), choice(0, "a")]})).unwrap();
        assert_eq!(answer.choices[0].blocks, [plain("a")]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in [json!({}), json!([]), json!({"choices": []}), json!({"choices": [{}]}), json!("x"), json!(null)] {
            assert_eq!(read(body).unwrap_err().status, 502);
        }
        assert_eq!(decode_answer(b"<html>").unwrap_err().status, 502);
        let limited = read(json!({"error": {"message": "slow", "code": 429}})).unwrap_err();
        assert_eq!((limited.kind, limited.status), (ErrorKind::RateLimited, 429));
        assert!(
            read(json!({"choices": [{"error": {"message": "x", "code": 502}, "message": {"content": ""}}]})).is_err()
        );
        let filtered = json!({"choices": [{"finish_reason": "content_filter", "content_filter_results": {}}]});
        assert_eq!(read(filtered).unwrap().choices[0].blocks, []);
        assert!(read(json!({"error": null, "choices": [{"message": {}}]})).is_ok());
    }

    #[test]
    fn calls_of_every_kind_are_read() {
        let got = blocks_of(json!({"content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"type": "function", "function": {"name": "g", "arguments": {"y": 2}}},
            {"id": "c", "type": "custom", "custom": {"name": "h", "input": "free"}}],
            "function_call": {"name": "old", "arguments": "{}"}}));
        let expected = [
            call("a", "f", "{\"x\":1}", ToolKind::Function),
            call("call_1", "g", "{\"y\":2}", ToolKind::Function),
            call("c", "h", "free", ToolKind::Custom),
            call("fc_0", "old", "{}", ToolKind::Function),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn reasoning_comes_first_from_fields_and_from_parts() {
        let thinking = |text: &str| Block::Thinking { text: text.into(), proof: None };
        assert_eq!(blocks_of(json!({"content": "a", "reasoning": "hm"})), [thinking("hm"), plain("a")]);
        let parts = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]});
        assert_eq!(blocks_of(parts), [thinking("hm"), plain("a")]);
    }

    #[test]
    fn annotations_become_citations_of_the_text() {
        let raw = json!({"type": "url_citation", "url_citation": {"start_index": 1, "end_index": 3, "url": "u", "title": "t"}});
        let got = blocks_of(json!({"content": "a\u{e4}b", "annotations": [raw]}));
        let citation =
            Citation::Url { url: "u".into(), title: Some("t".into()), cited_text: None, span: Some((1, 3)), raw };
        assert_eq!(got, [Block::Text { text: "a\u{e4}b".into(), citations: vec![citation] }]);
    }
}
