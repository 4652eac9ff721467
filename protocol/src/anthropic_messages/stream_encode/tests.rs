use serde_json::{Value, json};

use super::*;
use crate::{
    answer::StopReason,
    error::{ErrorKind, WireError},
    request::ToolKind,
    translate::Back,
};

fn context() -> AnswerContext {
    AnswerContext { model: "mine".into(), fallback_id: "msg_made".into(), ..AnswerContext::default() }
}

fn start(index: u32, block: BlockStart) -> Event {
    Event::BlockStart { choice: 0, index, block }
}

fn tell(index: u32, delta: Delta) -> Event {
    Event::Delta { choice: 0, index, delta }
}

fn close(index: u32) -> Event {
    Event::BlockStop { choice: 0, index }
}

fn stop(reason: StopReason) -> Event {
    Event::Stop { choice: 0, stop: Stop::new(reason) }
}

fn tool(id: &str) -> BlockStart {
    BlockStart::ToolCall { id: id.into(), name: "f".into(), kind: ToolKind::Function }
}

fn text(text: &str) -> Delta {
    Delta::Text(text.into())
}

fn arguments(text: &str) -> Delta {
    Delta::Arguments(text.into())
}

/// The data of the frames, each with an event line that agrees with its type.
fn frames_with(context: AnswerContext, events: Vec<Event>) -> Vec<Value> {
    let (mut encoder, mut out) = (StreamEncoder::new(context), Vec::new());
    events.into_iter().for_each(|event| encoder.event(event, &mut out));
    let text = String::from_utf8(out).expect("text");
    let frame = |frame: &str| {
        let (event, data) = frame.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(event.strip_prefix("event: "), data["type"].as_str());
        data
    };
    text.split_terminator("\n\n").map(frame).collect()
}

fn frames(events: Vec<Event>) -> Vec<Value> {
    frames_with(context(), events)
}

fn types(frames: &[Value]) -> Vec<String> {
    let short = |frame: &Value| match (frame["index"].as_u64(), frame["type"].as_str()) {
        (Some(index), Some(kind)) => format!("{}{index}", kind.trim_start_matches("content_block_")),
        (_, kind) => kind.unwrap_or_default().to_owned(),
    };
    frames.iter().map(short).collect()
}

#[test]
fn writes_a_text_with_usage_at_both_ends() {
    let usage = |output| Event::Usage(Usage { input: 5, output, ..Usage::default() });
    let frames = frames(vec![
        Event::Start(Start::default()),
        usage(1),
        start(0, BlockStart::Text),
        tell(0, text("hi")),
        close(0),
        stop(StopReason::EndTurn),
        usage(9),
        Event::End,
    ]);
    assert_eq!(types(&frames), ["message_start", "start0", "delta0", "stop0", "message_delta", "message_stop"]);
    assert_eq!((&frames[0]["message"]["id"], &frames[0]["message"]["model"]), (&json!("msg_made"), &json!("mine")));
    assert_eq!(frames[0]["message"]["usage"]["output_tokens"], 1);
    assert_eq!(frames[4]["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
    assert_eq!((&frames[4]["usage"]["input_tokens"], &frames[4]["usage"]["output_tokens"]), (&json!(5), &json!(9)));
}

#[test]
fn calls_that_interleave_are_written_one_after_the_other() {
    let frames = frames(vec![
        Event::Start(Start::default()),
        start(0, tool("a")),
        tell(0, arguments("{\"x\"")),
        start(1, tool("b")),
        tell(1, arguments("{\"y\"")),
        tell(0, arguments(":1}")),
        tell(1, arguments(":2}")),
        close(0),
        close(1),
        stop(StopReason::ToolUse),
        Event::End,
    ]);
    assert_eq!(
        types(&frames)[1..],
        ["start0", "delta0", "delta0", "stop0", "start1", "delta1", "delta1", "stop1", "message_delta", "message_stop"]
    );
    assert_eq!(frames[5]["content_block"], json!({"type": "tool_use", "id": "b", "name": "f", "input": {}}));
    assert_eq!(frames[6]["delta"]["partial_json"], "{\"y\"");
}

#[test]
fn what_says_nothing_is_never_begun() {
    let frames = frames(vec![
        Event::Start(Start::default()),
        start(0, BlockStart::Text),
        tell(0, text("")),
        close(0),
        start(1, BlockStart::Thinking),
        close(1),
        start(2, tool("a")),
        tell(2, arguments("")),
        close(2),
        stop(StopReason::EndTurn),
        Event::End,
    ]);
    assert_eq!(types(&frames), ["message_start", "start0", "stop0", "message_delta", "message_stop"]);
    assert_eq!(frames[3]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn the_proof_is_the_last_word_of_reasoning() {
    let proof = |data: &str| Delta::Proof { issuer: Issuer::Anthropic, data: data.into() };
    let frames = frames(vec![
        Event::Start(Start::default()),
        start(0, BlockStart::Thinking),
        tell(0, proof("s=")),
        tell(0, Delta::Thinking("hm".into())),
        tell(0, proof("=")),
        close(0),
        Event::End,
    ]);
    assert_eq!(types(&frames)[1..4], ["start0", "delta0", "delta0"]);
    assert_eq!(frames[3]["delta"], json!({"type": "signature_delta", "signature": "s=="}));
}

#[test]
fn an_error_is_one_event_and_nothing_follows() {
    let error = WireError::new(ErrorKind::Unreachable, "broke off");
    let frames = frames(vec![
        Event::Start(Start::default()),
        start(0, BlockStart::Text),
        tell(0, text("h")),
        Event::Error(error),
        close(0),
        Event::End,
    ]);
    assert_eq!(types(&frames), ["message_start", "start0", "delta0", "error"]);
    assert_eq!(frames[3]["error"]["type"], "api_error");
}

#[test]
fn blocks_that_nobody_closed_are_closed_at_the_end() {
    let frames = frames(vec![start(0, BlockStart::Text), tell(0, text("h")), start(1, tool("a")), Event::End]);
    assert_eq!(
        types(&frames),
        ["message_start", "start0", "delta0", "stop0", "start1", "stop1", "message_delta", "message_stop"]
    );
}

#[test]
fn a_refusal_is_told_as_text_and_explained_at_the_end() {
    let frames = frames(vec![
        start(0, BlockStart::Refusal),
        tell(0, text("I can")),
        tell(0, text("not")),
        close(0),
        stop(StopReason::EndTurn),
        Event::End,
    ]);
    let delta = &frames[frames.len() - 2]["delta"];
    assert_eq!((&delta["stop_reason"], &delta["stop_details"]["explanation"]), (&json!("refusal"), &json!("I cannot")));
}

#[test]
fn the_tool_that_stood_for_a_schema_is_told_as_text() {
    let back = Back { json_tool: Some("f".into()), ..Back::default() };
    let events = vec![start(0, tool("a")), tell(0, arguments("{}")), close(0), stop(StopReason::ToolUse), Event::End];
    let frames = frames_with(AnswerContext { back, ..context() }, events);
    assert_eq!(frames[2]["delta"], json!({"type": "text_delta", "text": "{}"}));
    assert_eq!(frames[frames.len() - 2]["delta"]["stop_reason"], "end_turn");
}

#[test]
fn a_ping_follows_the_start() {
    let frames = frames(vec![Event::Start(Start::default()), Event::Ping]);
    assert_eq!(types(&frames), ["message_start", "ping"]);
}

#[test]
fn what_cannot_be_said_is_a_loss() {
    let (mut encoder, mut out) = (StreamEncoder::new(context()), Vec::new());
    let foreign = BlockStart::Raw { name: "audio".into(), value: json!({"id": "x"}) };
    encoder.event(start(0, foreign), &mut out);
    encoder.event(close(0), &mut out);
    encoder.event(Event::Logprobs { choice: 0, value: json!({}) }, &mut out);
    let fields: Vec<_> = encoder.losses().into_iter().map(|loss| loss.field).collect();
    assert_eq!(fields, ["content.audio", "logprobs"]);
}
