//! Writes a whole answer for a client of this shape, in the caller's own names.

use serde_json::Value;

use super::{citations, names, stop, usage};
use crate::{
    Loss,
    answer::{Answer, Block, Choice, Citation},
    json::{Json, Object, json},
    request::{Issuer, ToolCall},
    translate::AnswerContext,
    usage::Usage,
};

/// What begins the ids of this family.
const ID_PREFIX: &str = "msg_";

/// Writes an answer, and names what it could not hold.
pub fn encode_answer(answer: &Answer, context: &AnswerContext) -> (Vec<u8>, Vec<Loss>) {
    let mut losses = Vec::new();
    if answer.choices.len() > 1 {
        losses.push(Loss::dropped("choices", "an answer of this shape has one"));
    }
    let none = Choice::default();
    let choice = answer.choices.first().unwrap_or(&none);
    if choice.logprobs.is_some() {
        losses.push(Loss::dropped("logprobs", "no counterpart"));
    }
    let content: Vec<_> = choice.blocks.iter().filter_map(|block| encode(block, context, &mut losses)).collect();
    let (reason, sequence, details) = stop::encode(choice.stop.as_ref(), &held(choice, context));
    let mut message = Object::of([
        ("id", id(&answer.id, context).into()),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", json!(&context.model)),
        ("content", content.into()),
        ("stop_reason", reason.into()),
        ("stop_sequence", sequence.into()),
        ("usage", usage_of(answer.usage.as_ref(), answer.service_tier.as_deref()).into()),
    ]);
    message.put("stop_details", details.as_ref());
    losses.sort();
    losses.dedup();
    (message.to_bytes(), losses)
}

/// The upstream's id where it is of this family, else one that was made for the answer.
pub(super) fn id<'a>(upstream: &'a str, context: &'a AnswerContext) -> &'a str {
    if upstream.starts_with(ID_PREFIX) { upstream } else { &context.fallback_id }
}

/// Usage for the wire; where the upstream said nothing, counts of zero, which SDKs require.
pub(super) fn usage_of(usage: Option<&Usage>, tier: Option<&str>) -> Object<'static> {
    let mut wire = usage::encode(usage.unwrap_or(&Usage::default()));
    match tier {
        Some("standard" | "default") => wire.insert("service_tier", "standard"),
        Some("priority") => wire.insert("service_tier", "priority"),
        Some("batch") => wire.insert("service_tier", "batch"),
        Some(_) | None => {}
    }
    wire
}

/// Whether a block that no other shape knows is of this one.
pub(super) fn is_own(name: &str, value: &Value) -> bool {
    const NAMES: [&str; 6] =
        ["server_tool_use", "mcp_tool_use", "mcp_tool_listing", "container_upload", "compaction", "fallback"];
    value["type"] == name && (NAMES.contains(&name) || name.ends_with("_tool_result"))
}

/// The loss of a block that is of another shape.
pub(super) fn foreign(name: &str) -> Loss {
    Loss::dropped(format!("content.{name}"), "no counterpart")
}

fn held(choice: &Choice, context: &AnswerContext) -> stop::Held {
    let calls = |block: &Block| matches!(block, Block::ToolCall(call) if !context.back.is_json_tool(&call.name));
    let refusal = choice.blocks.iter().find_map(|block| match block {
        Block::Refusal(text) => Some(text.clone()),
        _ => None,
    });
    stop::Held { calls: choice.blocks.iter().any(calls), refusal }
}

fn encode<'a>(block: &'a Block, context: &'a AnswerContext, losses: &mut Vec<Loss>) -> Option<Json<'a>> {
    match block {
        Block::Text { text, citations } => text_block(text, citations),
        Block::Refusal(text) => text_block(text, &[]),
        Block::Thinking { text, proof } => {
            let signature = proof.as_ref().map(|proof| proof.tagged(Issuer::Anthropic)).unwrap_or_default();
            let is_empty = text.is_empty() && signature.is_empty();
            (!is_empty).then(|| json!({"type": "thinking", "thinking": text, "signature": signature}))
        }
        Block::RedactedThinking(opaque) => {
            Some(json!({"type": "redacted_thinking", "data": opaque.tagged(Issuer::Anthropic)}))
        }
        Block::ToolCall(call) if context.back.is_json_tool(&call.name) => text_block(&call.arguments, &[]),
        Block::ToolCall(call) => Some(tool_use(call, context, losses)),
        Block::Raw { name, value } if is_own(name, value) => Some(value.into()),
        Block::Raw { name, .. } => {
            losses.push(foreign(name));
            None
        }
    }
}

fn text_block<'a>(text: &'a str, citations: &'a [Citation]) -> Option<Json<'a>> {
    let citations: Vec<_> = citations.iter().filter_map(citations::for_client).collect();
    if text.is_empty() && citations.is_empty() {
        return None;
    }
    let mut block = json!({"type": "text", "text": text});
    if !citations.is_empty() {
        block.set("citations", citations);
    }
    Some(block)
}

fn tool_use<'a>(call: &'a ToolCall, context: &'a AnswerContext, losses: &mut Vec<Loss>) -> Json<'a> {
    let input = names::input(&call.arguments).unwrap_or_else(|| {
        let why = format!("the model wrote no JSON object: its text stands under `{}`", names::RAW_ARGUMENTS);
        losses.push(Loss::approximated("content.input", why));
        names::raw_input(&call.arguments)
    });
    let back = &context.back;
    json!({
        "type": "tool_use",
        "id": names::wire_id(back.tool_id(&call.id)),
        "name": back.tool_name(&call.name),
        "input": input,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        answer::{Stop, StopReason},
        request::{Opaque, ToolKind},
        translate::Back,
    };

    fn context() -> AnswerContext {
        AnswerContext { model: "mine".into(), fallback_id: "msg_made".into(), ..AnswerContext::default() }
    }

    fn answer(blocks: Vec<Block>, reason: StopReason) -> Answer {
        let choice = Choice { blocks, stop: Some(Stop::new(reason)), logprobs: None };
        Answer { id: "chatcmpl-1".into(), model: "gpt".into(), choices: vec![choice], ..Answer::default() }
    }

    fn encode_with(answer: &Answer, context: &AnswerContext) -> (Value, Vec<Loss>) {
        let (body, losses) = encode_answer(answer, context);
        (serde_json::from_slice(&body).expect("JSON"), losses)
    }

    fn call(name: &str, arguments: &str) -> Block {
        let kind = ToolKind::Function;
        Block::ToolCall(ToolCall { id: "call_1".into(), name: name.into(), arguments: arguments.into(), kind })
    }

    fn text(text: &str) -> Block {
        Block::Text { text: text.into(), citations: Vec::new() }
    }

    #[test]
    fn echoes_the_callers_model_and_makes_an_id_of_this_family() {
        let (message, losses) = encode_with(&answer(vec![text("hi")], StopReason::EndTurn), &context());
        assert_eq!((&message["id"], &message["model"]), (&json!("msg_made"), &json!("mine")));
        assert_eq!(message["content"], json!([{"type": "text", "text": "hi"}]));
        assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("end_turn"), &Value::Null));
        assert_eq!(message["usage"]["output_tokens"], json!(0));
        assert!(losses.is_empty());
    }

    #[test]
    fn an_answer_without_words_has_no_blocks() {
        let (message, _) = encode_with(&answer(vec![text("")], StopReason::EndTurn), &context());
        assert_eq!(message["content"], json!([]));
    }

    #[test]
    fn text_that_is_no_object_stands_under_a_key_of_its_own() {
        let (message, losses) = encode_with(&answer(vec![call("f", "{\"cut\"")], StopReason::MaxTokens), &context());
        assert_eq!(message["content"][0]["input"], json!({RAW_ARGUMENTS: "{\"cut\""}));
        assert_eq!(losses.len(), 1);
        assert_eq!(losses[0].field, "content.input");
    }

    use super::names::RAW_ARGUMENTS;

    #[test]
    fn a_forced_call_that_ends_with_stop_is_a_tool_use() {
        let (message, _) = encode_with(&answer(vec![call("f", "")], StopReason::EndTurn), &context());
        assert_eq!(message["stop_reason"], "tool_use");
        assert_eq!(message["content"][0]["input"], json!({}));
    }

    #[test]
    fn the_callers_names_come_back() {
        let mut context = context();
        context.back.tool_names.insert("sent".into(), "asked".into());
        context.back.tool_ids.insert("call_1".into(), "toolu_1".into());
        let (message, _) = encode_with(&answer(vec![call("sent", "{}")], StopReason::ToolUse), &context);
        assert_eq!(
            (&message["content"][0]["name"], &message["content"][0]["id"]),
            (&json!("asked"), &json!("toolu_1"))
        );
    }

    #[test]
    fn the_tool_that_stood_for_a_schema_becomes_text_again() {
        let back = Back { json_tool: Some("json_response".into()), ..Back::default() };
        let context = AnswerContext { back, ..context() };
        let answer = answer(vec![call("json_response", r#"{"a":1}"#)], StopReason::ToolUse);
        let (message, _) = encode_with(&answer, &context);
        assert_eq!(message["content"], json!([{"type": "text", "text": r#"{"a":1}"#}]));
        assert_eq!(message["stop_reason"], "end_turn");
    }

    #[test]
    fn reasoning_of_another_family_is_tagged() {
        let proof = Some(Opaque { issuer: Issuer::OpenAi, data: "blob".into() });
        let blocks = vec![Block::Thinking { text: "hm".into(), proof }, text("hi")];
        let (message, _) = encode_with(&answer(blocks, StopReason::EndTurn), &context());
        assert_eq!(message["content"][0]["signature"], "relay1.openai.blob");
    }

    #[test]
    fn a_refusal_is_a_text_and_a_reason() {
        let blocks = vec![Block::Refusal("I cannot".into())];
        let (message, _) = encode_with(&answer(blocks, StopReason::EndTurn), &context());
        assert_eq!(message["content"], json!([{"type": "text", "text": "I cannot"}]));
        assert_eq!(message["stop_reason"], "refusal");
        assert_eq!(message["stop_details"]["explanation"], "I cannot");
    }

    #[test]
    fn a_message_of_this_shape_is_written_as_it_was_read() {
        let wire = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "mine",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                {"type": "text", "text": "hi", "citations": [{"type": "char_location", "cited_text": "x"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": Json::from(usage::encode(&Usage { input: 3, output: 4, ..Usage::default() })).to_value(),
        });
        let answer = super::super::decode_answer(wire.to_string().as_bytes()).expect("a message");
        assert_eq!(encode_with(&answer, &context()), (wire, Vec::new()));
    }
}
