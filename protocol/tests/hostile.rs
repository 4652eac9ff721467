//! Nothing that a client or an upstream sends makes a codec panic, and what is told of it stays well-formed.

#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{WireShape, ask, codec, event::Event, pipe::Pipe};
use serde_json::{Value, json};
use support::{SHAPES, TargetModel, context, decode_stream, encode_stream, grammar, other, through};

/// A value that has no business where it is put.
fn scrap() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        Just(json!("tool_use")),
        Just(json!("text")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("type|text|content|id|index|[a-z]{1,4}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Where to damage a value, and by what.
type Damage = (prop::sample::Index, Value);

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec((any::<prop::sample::Index>(), scrap()), 1..4)
}

fn damaged(mut value: Value, damages: &[Damage]) -> Value {
    for (index, scrap) in damages {
        let pointers = pointers(&value, String::new());
        if let Some(place) = value.pointer_mut(&pointers[index.index(pointers.len())]) {
            *place = scrap.clone();
        }
    }
    value
}

fn pointers(value: &Value, here: String) -> Vec<String> {
    let mut all = vec![here.clone()];
    match value {
        Value::Object(fields) => {
            all.extend(fields.iter().flat_map(|(name, value)| pointers(value, format!("{here}/{name}"))));
        }
        Value::Array(list) => {
            all.extend(list.iter().enumerate().flat_map(|(at, value)| pointers(value, format!("{here}/{at}"))));
        }
        _ => {}
    }
    all
}

fn request(shape: WireShape) -> Value {
    match shape {
        WireShape::OpenaiChat => json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stop": ["a"], "stream": true,
            "stream_options": {"include_usage": true}, "reasoning_effort": "low", "user": "u",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
            ],
        }),
        WireShape::AnthropicMessages => json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stop_sequences": ["a"], "stream": true,
            "thinking": {"type": "enabled", "budget_tokens": 2000}, "metadata": {"user_id": "u"},
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "tool", "name": "f"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "t"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "h", "signature": "s"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r", "is_error": true}]},
            ],
        }),
    }
}

fn answer(shape: WireShape) -> Value {
    match shape {
        WireShape::OpenaiChat => json!({
            "id": "i", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{"token": "t"}]},
                "message": {"role": "assistant", "content": "t", "reasoning_content": "h", "refusal": null,
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "start_index": 0, "end_index": 1}}],
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 1}},
        }),
        WireShape::AnthropicMessages => json!({
            "id": "i", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
            "stop_sequence": null,
            "content": [{"type": "thinking", "thinking": "h", "signature": "s"}, {"type": "text", "text": "t", "citations": []},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}],
            "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1},
        }),
    }
}

/// The events of a small stream, by their data.
fn stream(shape: WireShape) -> Vec<Value> {
    let answer = codec::decode_answer(shape, answer(shape).to_string().as_bytes()).unwrap();
    let text = encode_stream(shape, protocol::fold::unfold(answer), context(true));
    let text = String::from_utf8(text).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

fn told(shape: WireShape, events: &[Value]) -> Vec<u8> {
    let frame = |event: &Value| match (shape, event["type"].as_str()) {
        (WireShape::AnthropicMessages, Some(name)) => {
            format!("event: {}\ndata: {event}\n\n", name.replace(['\n', '\r'], ""))
        }
        _ => format!("data: {event}\n\n"),
    };
    let mut text: String = events.iter().map(frame).collect();
    if shape == WireShape::OpenaiChat {
        text.push_str("data: [DONE]\n\n");
    }
    text.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_requests_are_read_or_refused(damages in damages()) {
        for shape in SHAPES {
            let body = damaged(request(shape), &damages).to_string();
            drop(ask::read(shape, body.as_bytes()));
            let Ok(decoded) = codec::decode_request(shape, body.as_bytes()) else { continue };
            for name in ["gpt-4o", "gpt-5.6-sol", "claude-sonnet-4-5", "claude-opus-5-5", "unheard-of"] {
                for to in SHAPES {
                    let Ok(encoded) = codec::encode_request(&decoded, &TargetModel::new(to, name).target()) else { continue };
                    prop_assert!(serde_json::from_slice::<Value>(&encoded.body).is_ok());
                }
            }
        }
    }

    #[test]
    fn damaged_answers_are_read_or_an_error(damages in damages()) {
        for shape in SHAPES {
            let body = damaged(answer(shape), &damages).to_string();
            if let Ok(answer) = codec::decode_answer(shape, body.as_bytes()) {
                for to in SHAPES {
                    let (told, _) = codec::encode_answer(to, &answer, &context(false));
                    prop_assert!(codec::decode_answer(to, &told).is_ok());
                    let stream = encode_stream(to, protocol::fold::unfold(answer.clone()), context(true));
                    prop_assert_eq!(grammar::check(to, &stream), Ok(()));
                }
            }
            let (_, seen) = through(Pipe::same(shape, false, false), [Bytes::from(body)]);
            prop_assert!(seen.ended != seen.error.is_some());
        }
    }

    #[test]
    fn damaged_streams_are_told_well_or_are_an_error(at in any::<prop::sample::Index>(), damages in damages()) {
        for shape in SHAPES {
            let mut events = stream(shape);
            let place = at.index(events.len());
            events[place] = damaged(events[place].take(), &damages);
            let bytes = told(shape, &events);
            let decoded = decode_stream(shape, [bytes.as_slice()]);
            let last = decoded.last();
            prop_assert!(matches!(last, Some(Event::End | Event::Error(_))), "{:?}", last);
            if last == Some(&Event::End) {
                for to in SHAPES {
                    let out = encode_stream(to, decoded.clone(), context(true));
                    prop_assert_eq!(grammar::check(to, &out), Ok(()), "{}", String::from_utf8_lossy(&out));
                }
            }
            let (_, seen) = through(Pipe::cross(shape, other(shape), true, context(true)), [Bytes::from(bytes)]);
            prop_assert!(seen.ended != seen.error.is_some());
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), status in 100..600_u16) {
        for shape in SHAPES {
            drop(ask::read(shape, &bytes));
            drop(codec::decode_request(shape, &bytes));
            prop_assert!(!codec::decode_error(shape, status, &bytes).message.is_empty());
            for streamed in [true, false] {
                let (_, seen) = through(Pipe::same(shape, streamed, true), [Bytes::from(bytes.clone())]);
                prop_assert!(seen.error.is_some());
                let (out, seen) = through(Pipe::cross(shape, other(shape), streamed, context(true)), [Bytes::from(bytes.clone())]);
                prop_assert!(seen.error.is_some() && out.is_empty());
            }
        }
    }
}
