//! Streams as chat clients get them.

use serde_json::{Value, json};

use super::*;
use crate::{
    answer::{Answer, Block, Citation, Stop, StopReason},
    error::{ErrorKind, WireError},
    event::{BlockStart, Delta},
    fold::{accumulate, unfold},
    openai_chat::{StreamDecoder, decode_answer, encode_answer},
    request::{Issuer, Opaque, ToolCall, ToolKind},
};

fn context() -> AnswerContext {
    AnswerContext {
        model: "mine".into(),
        fallback_id: "chatcmpl-x".into(),
        created: 5,
        include_usage: true,
        stream: true,
        ..AnswerContext::default()
    }
}

fn answer(blocks: Vec<Block>, reason: StopReason) -> Answer {
    let choice = crate::answer::Choice { blocks, stop: Some(Stop::new(reason)), logprobs: None };
    let usage = Some(Usage { input: 1, output: 2, ..Usage::default() });
    Answer { id: "msg_1".into(), model: "up".into(), choices: vec![choice], usage, ..Answer::default() }
}

fn text(text: &str) -> Block {
    Block::Text { text: text.into(), citations: vec![] }
}

fn call(id: &str, name: &str, arguments: &str) -> Block {
    let kind = ToolKind::Function;
    Block::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind })
}

fn written(events: Vec<Event>, context: AnswerContext) -> String {
    let mut encoder = StreamEncoder::new(context);
    let mut out = Vec::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn chunks(stream: &str) -> Vec<Value> {
    let data = stream.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn deltas(stream: &str) -> Vec<Value> {
    chunks(stream).iter().filter_map(|chunk| chunk["choices"].get(0).map(|choice| choice["delta"].clone())).collect()
}

/// The answer that a client reads from a stream of ours.
fn reread(stream: &str) -> Answer {
    let mut parser = sse::Parser::new();
    parser.push(stream.as_bytes());
    let (mut decoder, mut events) = (StreamDecoder::new(), Vec::new());
    while let Some(frame) = parser.frame().unwrap() {
        decoder.frame(&frame, &mut events);
    }
    decoder.end(&mut events);
    accumulate(events).unwrap()
}

#[test]
fn a_stream_keeps_the_grammar_of_chat() {
    let stream = written(unfold(answer(vec![text("a"), call("t", "f", "")], StopReason::ToolUse)), context());
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"content": "a"}),
        json!({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        json!({}),
    ];
    assert_eq!(deltas(&stream), expected);
    let chunks = chunks(&stream);
    assert!(
        chunks.iter().all(|chunk| chunk["id"] == "chatcmpl-x" && chunk["model"] == "mine" && chunk["created"] == 5)
    );
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&chunks[5]["choices"], &chunks[5]["usage"]["total_tokens"]), (&json!([]), &json!(3)));
    assert!(stream.ends_with("data: [DONE]\n\n") && stream.matches("[DONE]").count() == 1);
}

#[test]
fn usage_is_told_only_if_asked() {
    let quiet = AnswerContext { include_usage: false, ..context() };
    assert!(!written(unfold(answer(vec![text("a")], StopReason::EndTurn)), quiet).contains("usage"));
}

#[test]
fn streams_and_whole_answers_say_the_same() {
    let proof = Opaque { issuer: Issuer::Anthropic, data: "sig".into() };
    let url = Citation::Url {
        url: "u".into(),
        title: Some("t".into()),
        cited_text: None,
        span: Some((0, 1)),
        raw: json!({}),
    };
    let cases = [
        answer(vec![text("a"), call("t", "f", "{\"x\":1}"), call("u", "g", "{}")], StopReason::ToolUse),
        answer(vec![Block::Thinking { text: "hm".into(), proof: Some(proof.clone()) }, text("a")], StopReason::EndTurn),
        answer(
            vec![Block::RedactedThinking(proof), Block::Thinking { text: "x".into(), proof: None }],
            StopReason::MaxTokens,
        ),
        answer(vec![Block::Text { text: "a".into(), citations: vec![url] }], StopReason::EndTurn),
        answer(vec![Block::Refusal("no".into())], StopReason::EndTurn),
        answer(vec![], StopReason::Refusal),
    ];
    for told in cases {
        let whole = decode_answer(&encode_answer(&told, &context()).0).unwrap();
        assert_eq!(reread(&written(unfold(told), context())), whole);
    }
}

#[test]
fn every_choice_begins_with_its_role_and_ends_once() {
    let mut told = answer(vec![text("a")], StopReason::EndTurn);
    told.choices.push(told.choices[0].clone());
    let stream = written(unfold(told), context());
    let choices: Vec<Value> = chunks(&stream).iter().filter_map(|chunk| chunk["choices"].get(0).cloned()).collect();
    for index in 0..2 {
        let own = choices.iter().filter(|choice| choice["index"] == index);
        let (roles, ends) = own.fold((0, 0), |(roles, ends), choice| {
            (
                roles + usize::from(choice["delta"].get("role").is_some()),
                ends + usize::from(choice["finish_reason"].is_string()),
            )
        });
        assert_eq!((roles, ends), (1, 1));
    }
}

#[test]
fn an_error_is_the_last_word_and_takes_the_held_stop_with_it() {
    let mut events = unfold(answer(vec![text("a")], StopReason::EndTurn));
    events.pop();
    events.push(Event::Error(WireError::new(ErrorKind::Unreachable, "gone")));
    events.push(Event::End);
    let stream = written(events, context());
    let last = stream.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":{\"message\":\"gone\""));
    assert!(!stream.contains("[DONE]") && !stream.contains("\"finish_reason\":\"stop\""));
}

#[test]
fn what_the_request_changed_is_undone() {
    let mut context = context();
    context.back.tool_names.insert("cut".into(), "long".into());
    context.back.custom_tools.insert("free".into());
    let told = answer(vec![call("a", "cut", "{}"), call("b", "free", "{\"input\":\"x\"}")], StopReason::ToolUse);
    let blocks = reread(&written(unfold(told), context.clone())).choices.remove(0).blocks;
    let custom = ToolCall { id: "b".into(), name: "free".into(), arguments: "x".into(), kind: ToolKind::Custom };
    assert_eq!(blocks, [call("a", "long", "{}"), Block::ToolCall(custom)]);
    context.back.json_tool = Some("json".into());
    let told = answer(vec![call("a", "json", "{\"x\":1}")], StopReason::ToolUse);
    let choice = reread(&written(unfold(told), context)).choices.remove(0);
    assert_eq!((choice.blocks, choice.stop.unwrap().reason), (vec![text("{\"x\":1}")], StopReason::EndTurn));
}

#[test]
fn callers_of_functions_are_answered_in_kind() {
    let context = AnswerContext { legacy_functions: true, ..context() };
    let stream = written(unfold(answer(vec![call("a", "f", ""), call("b", "g", "")], StopReason::ToolUse)), context);
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"function_call": {"name": "f", "arguments": ""}}),
        json!({"function_call": {"arguments": "{}"}}),
        json!({}),
    ];
    assert_eq!(deltas(&stream), expected);
    assert!(stream.contains("\"finish_reason\":\"function_call\""));
}

#[test]
fn parallel_calls_that_interleave_keep_their_indexes() {
    let start = |index, id: &str| Event::BlockStart {
        choice: 0,
        index,
        block: BlockStart::ToolCall { id: id.into(), name: "f".into(), kind: ToolKind::Function },
    };
    let more = |index, text: &str| Event::Delta { choice: 0, index, delta: Delta::Arguments(text.into()) };
    let stop = |index| Event::BlockStop { choice: 0, index };
    let events = vec![
        Event::Start(Start::default()),
        start(0, "a"),
        start(1, "b"),
        more(1, "{\"y\""),
        more(0, "{}"),
        more(1, ":2}"),
        stop(0),
        stop(1),
        Event::End,
    ];
    let blocks = reread(&written(events, context())).choices.remove(0).blocks;
    assert_eq!(blocks, [call("a", "f", "{}"), call("b", "f", "{\"y\":2}")]);
}

#[test]
fn losses_are_noted_once_and_pings_are_comments() {
    let raw = Block::Raw { name: "server_tool_use".into(), value: json!({}) };
    let mut encoder = StreamEncoder::new(context());
    let mut out = Vec::new();
    for event in unfold(answer(vec![raw.clone(), raw], StopReason::PauseTurn)) {
        encoder.event(event, &mut out);
    }
    let fields: Vec<String> = encoder.losses().into_iter().map(|loss| loss.field).collect();
    assert_eq!(fields, ["content.server_tool_use", "stop_reason"]);
    assert_eq!(written(vec![Event::Ping], context()), ": ping\n\n");
}
