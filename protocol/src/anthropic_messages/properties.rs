//! Bodies that nobody would write: whatever they hold, decoders answer or refuse, and what they answer can be encoded.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{StreamDecoder, StreamEncoder, decode_answer, decode_error, decode_request, encode_answer, encode_request};
use crate::{Dialect, Strictness, Target, Traits, WireShape, event::Event, sse::Frame, translate::AnswerContext};

const KEYS: [&str; 46] = [
    "type",
    "text",
    "content",
    "role",
    "messages",
    "system",
    "tools",
    "name",
    "id",
    "input",
    "input_schema",
    "source",
    "data",
    "media_type",
    "url",
    "file_id",
    "thinking",
    "signature",
    "citations",
    "title",
    "tool_use_id",
    "is_error",
    "cache_control",
    "ttl",
    "tool_choice",
    "output_config",
    "format",
    "schema",
    "effort",
    "budget_tokens",
    "metadata",
    "user_id",
    "stop_sequences",
    "max_tokens",
    "temperature",
    "index",
    "delta",
    "content_block",
    "message",
    "usage",
    "input_tokens",
    "output_tokens",
    "stop_reason",
    "error",
    "partial_json",
    "properties",
];

const WORDS: [&str; 40] = [
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "user",
    "assistant",
    "system",
    "base64",
    "url",
    "file",
    "content",
    "json_schema",
    "enabled",
    "disabled",
    "adaptive",
    "auto",
    "any",
    "tool",
    "none",
    "custom",
    "object",
    "string",
    "message",
    "error",
    "ephemeral",
    "1h",
    "high",
    "end_turn",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "text_delta",
    "input_json_delta",
    "tool_addition",
];

fn word() -> impl Strategy<Value = Value> {
    prop_oneof![8 => prop::sample::select(&WORDS[..]).prop_map(Value::from), 1 => ".{0,6}".prop_map(Value::from)]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => word(),
        2 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let object = prop::collection::vec((prop::sample::select(&KEYS[..]), inner.clone()), 0..8);
        prop_oneof![
            3 => object.prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
            }),
            1 => prop::collection::vec(inner, 0..5).prop_map(Value::Array),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    value().prop_filter("an object", Value::is_object)
}

proptest! {
    #[test]
    fn a_request_is_read_or_refused(mut body in object(), blocks in prop::collection::vec(value(), 0..4)) {
        body["model"] = json!("m");
        body["messages"] = json!([{"role": "user", "content": blocks}]);
        let Ok(mut request) = decode_request(body.to_string().as_bytes()) else { return Ok(()) };
        let (traits, dialect) = (Traits::default(), Dialect::default());
        for source in [WireShape::AnthropicMessages, WireShape::OpenaiChat] {
            request.source = source;
            let target = Target {
                shape: WireShape::AnthropicMessages,
                model: "m",
                max_output_tokens: None,
                traits: &traits,
                dialect: &dialect,
                strictness: Strictness::Lenient,
            };
            if let Ok(encoded) = encode_request(&request, &target) {
                prop_assert!(serde_json::from_slice::<Value>(&encoded.body).is_ok());
            }
        }
    }

    #[test]
    fn an_answer_is_read_or_an_error(mut body in object(), blocks in prop::collection::vec(value(), 0..4)) {
        body["type"] = json!("message");
        body["content"] = json!(blocks);
        let _ = decode_error(400, body.to_string().as_bytes());
        if let Ok(answer) = decode_answer(body.to_string().as_bytes()) {
            let (encoded, _) = encode_answer(&answer, &AnswerContext::default());
            prop_assert!(decode_answer(&encoded).is_ok());
        }
    }

    #[test]
    fn a_stream_ends_once_and_is_written_in_good_order(frames in prop::collection::vec(object(), 0..12)) {
        let (mut decoder, mut events) = (StreamDecoder::new(), Vec::new());
        for frame in &frames {
            decoder.frame(&Frame::new(None, &frame.to_string()), &mut events);
        }
        decoder.end(&mut events);
        let ends = events.iter().filter(|event| matches!(event, Event::End | Event::Error(_))).count();
        prop_assert_eq!(ends, 1);
        let (mut encoder, mut out) = (StreamEncoder::new(AnswerContext::default()), Vec::new());
        events.into_iter().for_each(|event| encoder.event(event, &mut out));
        prop_assert!(is_in_good_order(&String::from_utf8_lossy(&out)));
    }
}

/// Whether blocks have dense indexes and never overlap.
fn is_in_good_order(stream: &str) -> bool {
    let (mut next, mut open) = (0, None);
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).all(|data| {
        let frame: Value = serde_json::from_str(data).unwrap_or_default();
        let index = frame["index"].as_u64();
        match frame["type"].as_str() {
            Some("content_block_start") => {
                let is_next = open.is_none() && index == Some(next);
                (open, next) = (index, next + 1);
                is_next
            }
            Some("content_block_delta") => open.is_some() && index == open,
            Some("content_block_stop") => open.is_some() && index == open.take(),
            _ => true,
        }
    })
}
