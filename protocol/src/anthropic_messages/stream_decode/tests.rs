use serde_json::{Value, json};

use super::*;
use crate::{
    answer::{Answer, Block, StopReason},
    fold::accumulate,
    request::{Issuer, Opaque, ToolCall},
};

fn events(frames: &[Value]) -> Vec<Event> {
    let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
    for frame in frames {
        decoder.frame(&Frame::new(frame["type"].as_str(), &frame.to_string()), &mut out);
    }
    decoder.end(&mut out);
    out
}

fn answer(frames: &[Value]) -> Answer {
    accumulate(events(frames)).expect("a stream that ends well")
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude", "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}}})
}

fn begin(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn ending(reason: &str) -> [Value; 2] {
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    [json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}}), json!({"type": "message_stop"})]
}

fn text(text: &str) -> Value {
    json!({"type": "text_delta", "text": text})
}

#[test]
fn reads_text_usage_and_the_reason() {
    let [reason, end] = ending("end_turn");
    let answer = answer(&[
        start(),
        begin(0, json!({"type": "text", "text": ""})),
        json!({"type": "ping"}),
        delta(0, text("he")),
        delta(0, text("y")),
        stop(0),
        reason,
        end,
    ]);
    assert_eq!(answer.choices[0].blocks, [Block::Text { text: "hey".into(), citations: Vec::new() }]);
    assert_eq!(answer.choices[0].stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::EndTurn));
    let usage = answer.usage.expect("said");
    assert_eq!((usage.input, usage.cache_read, usage.output), (10, 4, 20));
    assert_eq!((answer.id.as_str(), answer.model.as_str()), ("msg_1", "claude"));
}

#[test]
fn reads_thinking_and_calls() {
    let [reason, end] = ending("tool_use");
    let answer = answer(&[
        start(),
        begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "s=="})),
        stop(0),
        begin(1, json!({"type": "redacted_thinking", "data": "dark"})),
        stop(1),
        begin(2, json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"x\":"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(2),
        begin(3, json!({"type": "tool_use", "id": "b", "name": "g", "input": {}})),
        stop(3),
        reason,
        end,
    ]);
    let opaque = |data: &str| Opaque { issuer: Issuer::Anthropic, data: data.into() };
    let call = |id: &str, name: &str, arguments: &str| {
        Block::ToolCall(ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
            kind: ToolKind::Function,
        })
    };
    assert_eq!(
        answer.choices[0].blocks,
        [
            Block::Thinking { text: "hm".into(), proof: Some(opaque("s==")) },
            Block::RedactedThinking(opaque("dark")),
            call("a", "f", r#"{"x":1}"#),
            call("b", "g", "{}"),
        ]
    );
}

#[test]
fn a_second_start_changes_neither_id_nor_what_was_said() {
    let [reason, end] = ending("tool_use");
    let tool = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    let mut second = start();
    second["message"]["id"] = json!("msg_2");
    let answer = answer(&[
        start(),
        begin(0, tool.clone()),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"cut"})),
        second,
        begin(0, tool),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{}"})),
        stop(0),
        reason,
        end,
    ]);
    assert_eq!((answer.id.as_str(), answer.choices[0].blocks.len()), ("msg_1", 2));
}

#[test]
fn a_block_that_nobody_knows_is_told_whole() {
    let [reason, end] = ending("end_turn");
    let answer = answer(&[
        start(),
        begin(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"query\": \"q\"}"})),
        stop(0),
        begin(1, json!({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}})),
        stop(1),
        begin(2, json!({"type": "compaction", "content": null})),
        delta(2, json!({"type": "compaction_delta", "content": "so far"})),
        stop(2),
        reason,
        end,
    ]);
    let raw = |value: Value| Block::Raw { name: value["type"].as_str().unwrap_or_default().into(), value };
    assert_eq!(
        answer.choices[0].blocks,
        [
            raw(json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}})),
            raw(json!({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}})),
            raw(json!({"type": "compaction", "content": "so far"})),
        ]
    );
}

#[test]
fn unknown_events_and_deltas_are_passed_over() {
    let [reason, end] = ending("end_turn");
    let answer = answer(&[
        json!({"type": "never_heard_of"}),
        start(),
        begin(0, json!({"type": "text", "text": ""})),
        delta(0, json!({"type": "novel_delta", "novel": 1})),
        delta(0, text("hi")),
        delta(9, json!({"type": "input_json_delta", "partial_json": "{}"})),
        stop(0),
        stop(7),
        reason,
        end,
    ]);
    assert_eq!(answer.choices[0].blocks, [Block::Text { text: "hi".into(), citations: Vec::new() }]);
}

#[test]
fn an_end_without_its_marker_is_an_error() {
    let cut = [start(), begin(0, json!({"type": "text", "text": ""})), delta(0, text("h"))];
    for length in 0..=cut.len() {
        let last = events(&cut[..length]).pop();
        assert!(matches!(last, Some(Event::Error(error)) if error.kind == ErrorKind::Unreachable));
    }
}

#[test]
fn an_end_without_a_beginning_is_an_error() {
    let events = events(&[json!({"type": "message_stop"})]);
    assert!(matches!(events.as_slice(), [Event::Error(_)]));
}

#[test]
fn an_error_event_ends_the_stream() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let events = events(&[start(), error, json!({"type": "message_stop"})]);
    let Some(Event::Error(error)) = events.last() else { panic!("no error") };
    assert_eq!((error.kind, error.status, error.message.as_str()), (ErrorKind::Overloaded, 503, "Overloaded"));
    assert!(!events.contains(&Event::End));
}

#[test]
fn done_ends_what_has_its_reason_and_nothing_else() {
    let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
    let [reason, _] = ending("end_turn");
    decoder.frame(&Frame::new(None, "[DONE]"), &mut out);
    assert!(out.is_empty());
    for frame in [start(), reason] {
        decoder.frame(&Frame::new(None, &frame.to_string()), &mut out);
    }
    decoder.frame(&Frame::new(None, "[DONE]"), &mut out);
    decoder.end(&mut out);
    assert_eq!(out.last(), Some(&Event::End));
}

#[test]
fn frames_that_are_no_json_are_an_error() {
    let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
    decoder.frame(&Frame::new(None, "<html>"), &mut out);
    assert!(matches!(out.as_slice(), [Event::Error(_)]));
}
