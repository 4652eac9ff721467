//! Answers as the two published APIs write them, and what a caller must see of them.

use serde_json::{Value, json};
use table::WireShape;

use super::{
    client::Whole,
    upstream::{Received, Script},
};

/// Both shapes.
pub(crate) const SHAPES: [WireShape; 2] = [WireShape::OpenaiChat, WireShape::AnthropicMessages];

/// A whole answer that says `text`.
pub(crate) fn whole(shape: WireShape, text: &str) -> Value {
    match shape {
        WireShape::OpenaiChat => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "up",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        }),
        WireShape::AnthropicMessages => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "up",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": 7}
        }),
    }
}

/// The frames of a stream before its first content.
pub(crate) fn opening(shape: WireShape) -> Vec<String> {
    match shape {
        WireShape::OpenaiChat => vec![openai_chunk(&json!({"role": "assistant", "content": ""}), None)],
        WireShape::AnthropicMessages => vec![
            named(&json!({"type": "message_start", "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 1}}})),
            named(&json!({"type": "ping"})),
        ],
    }
}

/// The frames that say `text`; `first` where nothing was said before.
pub(crate) fn saying(shape: WireShape, text: &str, first: bool) -> Vec<String> {
    match shape {
        WireShape::OpenaiChat => vec![openai_chunk(&json!({"content": text}), None)],
        WireShape::AnthropicMessages => {
            let block =
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
            let delta =
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
            let mut frames = if first { vec![named(&block)] } else { Vec::new() };
            frames.push(named(&delta));
            frames
        }
    }
}

/// The frames that end a stream in order.
pub(crate) fn closing(shape: WireShape) -> Vec<String> {
    match shape {
        WireShape::OpenaiChat => {
            let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
                "model": "up", "choices": [],
                "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}});
            vec![openai_chunk(&json!({}), Some("stop")), format!("data: {usage}\n\n"), "data: [DONE]\n\n".to_owned()]
        }
        WireShape::AnthropicMessages => vec![
            named(&json!({"type": "content_block_stop", "index": 0})),
            named(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": 7}})),
            named(&json!({"type": "message_stop"})),
        ],
    }
}

/// All frames of a stream that says `text`.
pub(crate) fn frames(shape: WireShape, text: &str) -> Vec<String> {
    [opening(shape), saying(shape, text, true), closing(shape)].concat()
}

/// A script that answers as it was asked, streamed or whole.
pub(crate) fn good(shape: WireShape, request: &Received, text: &str) -> Script {
    if request.method == "GET" {
        return Script::json(200, &json!({"object": "list", "data": []}));
    }
    if request.is_streamed() {
        return Script::stream().chunks(frames(shape, text)).end();
    }
    Script::json(200, &whole(shape, text))
}

/// An error as the shape's provider writes it.
pub(crate) fn error(shape: WireShape, kind: &str, message: &str) -> Value {
    match shape {
        WireShape::OpenaiChat => json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
        WireShape::AnthropicMessages => {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
        }
    }
}

/// An error within a stream, as the shape's provider writes it.
pub(crate) fn error_frame(shape: WireShape, kind: &str, message: &str) -> String {
    let body = error(shape, kind, message);
    match shape {
        WireShape::OpenaiChat => format!("data: {body}\n\n"),
        WireShape::AnthropicMessages => format!("event: error\ndata: {body}\n\n"),
    }
}

fn openai_chunk(delta: &Value, finish: Option<&str>) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "up",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {chunk}\n\n")
}

fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

/// The text that a caller of `shape` reads in an answer, streamed or whole.
pub(crate) fn text_of(shape: WireShape, streamed: bool, answer: &Whole) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (shape, streamed) {
        (WireShape::OpenaiChat, false) => text(&answer.json()["choices"][0]["message"]["content"]),
        (WireShape::AnthropicMessages, false) => text(&answer.json()["content"][0]["text"]),
        (WireShape::OpenaiChat, true) => {
            answer.events().iter().map(|event| text(&event.json()["choices"][0]["delta"]["content"])).collect()
        }
        (WireShape::AnthropicMessages, true) => {
            answer.events().iter().map(|event| text(&event.json()["delta"]["text"])).collect()
        }
    }
}

/// Whether a stream of `shape` says that it ended in order.
pub(crate) fn is_ended(shape: WireShape, answer: &Whole) -> bool {
    answer.events().iter().any(|event| match shape {
        WireShape::OpenaiChat => event.data == "[DONE]",
        WireShape::AnthropicMessages => event.name.as_deref() == Some("message_stop"),
    })
}

/// The error events of a stream, each written as `shape` writes them.
pub(crate) fn errors_of(shape: WireShape, answer: &Whole) -> Vec<Value> {
    let is_error = |event: &super::client::Event| match shape {
        WireShape::OpenaiChat => event.name.is_none() && event.json()["error"]["message"].is_string(),
        WireShape::AnthropicMessages => {
            event.name.as_deref() == Some("error")
                && event.json()["type"] == "error"
                && event.json()["error"]["message"].is_string()
        }
    };
    answer.events().iter().filter(|event| is_error(event)).map(|event| event.json()).collect()
}

/// The message of an error answer of `shape`; panics where it is none.
pub(crate) fn message_of(shape: WireShape, answer: &Whole) -> String {
    let body = answer.json();
    if shape == WireShape::AnthropicMessages {
        assert_eq!(body["type"], "error", "{body}");
        assert!(body["request_id"].is_string(), "{body}");
    }
    assert!(body["error"]["type"].is_string(), "{body}");
    body["error"]["message"].as_str().unwrap_or_else(|| panic!("no message: {body}")).to_owned()
}
