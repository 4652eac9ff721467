//! Streams as hosts send them.

use serde_json::{Value, json};

use super::*;
use crate::{
    answer::{Block, Stop, StopReason},
    event::{BlockStart, Delta},
    fold::accumulate,
    request::{Issuer, Opaque, ToolCall, ToolKind},
};

fn events(chunks: &[Value], tail: &str) -> Vec<Event> {
    let mut decoder = StreamDecoder::new();
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.frame(&Frame::new(None, &chunk.to_string()), &mut out);
    }
    if !tail.is_empty() {
        decoder.frame(&Frame::new(None, tail), &mut out);
    }
    decoder.end(&mut out);
    out
}

fn done(chunks: &[Value]) -> Vec<Event> {
    events(chunks, "[DONE]")
}

fn delta(delta: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call(id: &str, name: &str, arguments: &str) -> Block {
    let kind = ToolKind::Function;
    Block::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind })
}

fn text(text: &str) -> Block {
    Block::Text { text: text.into(), citations: vec![] }
}

fn blocks(chunks: &[Value]) -> Vec<Block> {
    accumulate(done(chunks)).unwrap().choices.remove(0).blocks
}

fn last_error(events: &[Event]) -> &WireError {
    match events.last() {
        Some(Event::Error(error)) => error,
        other => panic!("no error at the end: {other:?}"),
    }
}

#[test]
fn a_plain_stream_is_told_in_order() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}});
    let got = done(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "hi"})),
        finish("stop"),
        usage,
    ]);
    let start = Start { id: "c".into(), model: "m".into(), ..Start::default() };
    let expected = [
        Event::Start(start),
        Event::BlockStart { choice: 0, index: 0, block: BlockStart::Text },
        Event::Delta { choice: 0, index: 0, delta: Delta::Text("hi".into()) },
        Event::BlockStop { choice: 0, index: 0 },
        Event::Usage(Usage { input: 2, output: 1, ..Usage::default() }),
        Event::Stop { choice: 0, stop: Stop::new(StopReason::EndTurn) },
        Event::End,
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_first_chunk_of_filter_results_does_not_begin_the_answer() {
    let filter = json!({"choices": [], "id": "", "model": "", "prompt_filter_results": []});
    let got = done(&[filter, delta(json!({"content": "a"})), finish("stop")]);
    assert!(matches!(&got[0], Event::Start(start) if start.id == "c"));
}

#[test]
fn usage_is_read_wherever_it_stands_and_told_once() {
    let usage = json!({"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3});
    let mut last = finish("stop");
    last["x_groq"] = json!({"usage": usage});
    let again = json!({"choices": [], "usage": usage});
    let got = done(&[delta(json!({"content": "a"})), last, again]);
    assert_eq!(got.iter().filter(|event| matches!(event, Event::Usage(_))).count(), 1);
}

#[test]
fn calls_are_told_apart_by_index_by_id_and_by_order() {
    let tool = |body: Value| delta(json!({"tool_calls": [body]}));
    let by_index = [
        tool(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
        tool(json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}})),
        tool(json!({"index": 0, "function": {"arguments": "{}"}})),
        tool(json!({"index": 1, "function": {"arguments": "}"}})),
        finish("tool_calls"),
    ];
    let without_index = [
        tool(json!({"id": "a", "function": {"name": "f", "arguments": "{"}})),
        tool(json!({"function": {"arguments": "}"}})),
        tool(json!({"id": "b", "function": {"name": "g", "arguments": "{"}})),
        tool(json!({"id": "b", "function": {"arguments": "}"}})),
        finish("tool_calls"),
    ];
    let same_index = [
        tool(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}})),
        tool(json!({"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
        finish("stop"),
    ];
    for chunks in [&by_index[..], &without_index, &same_index] {
        assert_eq!(blocks(chunks), [call("a", "f", "{}"), call("b", "g", "{}")]);
    }
    assert_eq!(accumulate(done(&same_index)).unwrap().choices[0].stop, Some(Stop::new(StopReason::ToolUse)));
}

#[test]
fn a_name_that_comes_late_and_an_id_that_never_comes_are_borne() {
    let tool = |body: Value| delta(json!({"tool_calls": [body]}));
    let got = blocks(&[
        tool(json!({"index": 0, "function": {"arguments": "{"}})),
        tool(json!({"index": 0, "function": {"name": "f", "arguments": "}"}})),
        finish("tool_calls"),
    ]);
    assert_eq!(got, [call("call_0", "f", "{}")]);
}

#[test]
fn one_chunk_may_hold_words_reasoning_and_several_calls() {
    let got = blocks(&[
        delta(json!({"reasoning_content": "hm", "content": "a", "tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]})),
        finish("tool_calls"),
    ]);
    let thinking = Block::Thinking { text: "hm".into(), proof: None };
    assert_eq!(got, [thinking, text("a"), call("a", "f", "{}"), call("b", "g", "")]);
}

#[test]
fn reasoning_of_every_dialect_is_read() {
    let proof = || Some(Opaque { issuer: Issuer::Anthropic, data: "sig".into() });
    let openrouter = blocks(&[
        delta(
            json!({"reasoning": "h", "reasoning_details": [{"type": "reasoning.text", "text": "h", "format": "anthropic-claude-v1"}]}),
        ),
        delta(
            json!({"reasoning_details": [{"type": "reasoning.text", "signature": "sig", "format": "anthropic-claude-v1"}]}),
        ),
        delta(json!({"content": "a"})),
        finish("stop"),
    ]);
    assert_eq!(openrouter, [Block::Thinking { text: "h".into(), proof: proof() }, text("a")]);
    let mistral = blocks(&[
        delta(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]})),
        delta(json!({"content": "a"})),
        finish("stop"),
    ]);
    assert_eq!(mistral, [Block::Thinking { text: "h".into(), proof: None }, text("a")]);
    let ours = blocks(&[
        delta(json!({"reasoning_content": "h"})),
        delta(json!({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "h", "signature": "sig"}]})),
        finish("stop"),
    ]);
    assert_eq!(ours, [Block::Thinking { text: "h".into(), proof: proof() }]);
}

#[test]
fn a_refusal_ends_as_one() {
    let answer =
        accumulate(done(&[delta(json!({"refusal": "n"})), delta(json!({"refusal": "o"})), finish("stop")])).unwrap();
    assert_eq!(answer.choices[0].blocks, [Block::Refusal("no".into())]);
    let stop = answer.choices[0].stop.as_ref().unwrap();
    assert_eq!((&stop.reason, &stop.details.as_ref().unwrap()["explanation"]), (&StopReason::Refusal, &json!("no")));
}

#[test]
fn several_choices_are_told_side_by_side() {
    let piece = |index: u64, text: &str| json!({"choices": [{"index": index, "delta": {"content": text}}]});
    let both = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "length"}]});
    let answer = accumulate(done(&[piece(0, "a"), piece(1, "b"), piece(0, "c"), both])).unwrap();
    assert_eq!(answer.choices[0].blocks, [text("ac")]);
    assert_eq!(answer.choices[1].stop, Some(Stop::new(StopReason::MaxTokens)));
}

#[test]
fn logprobs_and_legacy_functions_are_read() {
    let mut chunk = delta(json!({"content": "a"}));
    chunk["choices"][0]["logprobs"] = json!({"content": [{"token": "a"}]});
    let answer = accumulate(done(&[chunk.clone(), chunk, finish("stop")])).unwrap();
    assert_eq!(answer.choices[0].logprobs.as_ref().unwrap()["content"].as_array().unwrap().len(), 2);
    let function = |body: Value| delta(json!({"function_call": body}));
    let got = blocks(&[
        function(json!({"name": "f", "arguments": ""})),
        function(json!({"arguments": "{}"})),
        finish("function_call"),
    ]);
    assert_eq!(got, [call("fc_0", "f", "{}")]);
}

#[test]
fn an_error_in_the_stream_ends_it() {
    let error = json!({"id": "c", "error": {"code": 502, "message": "gone"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    let got = done(&[delta(json!({"content": "a"})), error]);
    assert_eq!((last_error(&got).status, last_error(&got).message.as_str()), (502, "gone"));
    let mut out = Vec::new();
    StreamDecoder::new().frame(&Frame::new(Some("error"), "{\"message\":\"x\"}"), &mut out);
    assert_eq!(last_error(&out).message, "x");
    assert_eq!(last_error(&events(&[], "<html>")).status, 502);
}

#[test]
fn a_missing_end_marker_is_borne_after_a_finish_reason_and_nowhere_else() {
    assert_eq!(events(&[delta(json!({"content": "a"})), finish("stop")], "").last(), Some(&Event::End));
    assert_eq!(last_error(&events(&[delta(json!({"content": "a"}))], "")).kind, ErrorKind::Unreachable);
    assert_eq!(last_error(&events(&[], "")).kind, ErrorKind::Unreachable);
    assert_eq!(last_error(&done(&[])).kind, ErrorKind::ServerError);
    assert_eq!(last_error(&done(&[delta(json!({"role": "assistant", "content": ""}))])).kind, ErrorKind::ServerError);
    assert_eq!(done(&[delta(json!({"content": "a"}))]).last(), Some(&Event::End));
}

#[test]
fn content_after_a_finish_reason_is_not_lost() {
    let got = blocks(&[delta(json!({"content": "a"})), finish("stop"), delta(json!({"content": "b"})), finish("stop")]);
    assert_eq!(got, [text("a"), text("b")]);
    let tool = |arguments: &str| {
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]}))
    };
    assert_eq!(blocks(&[tool("{"), finish("tool_calls"), tool("}")]), [call("a", "f", "{}")]);
}

#[test]
fn unknown_fields_and_values_never_fail() {
    let odd = json!({"choices": [{"index": 0, "delta": {"content": 5, "tool_calls": {}, "vendor": 1}, "x": null}], "obfuscation": "zz"});
    assert_eq!(blocks(&[odd, json!({"hello": 1}), delta(json!({"content": "a"})), finish("moonphase")]), [text("a")]);
}
