//! Laws of whole answers and errors.

use bytes::Bytes;
use protocol::{
    WireShape,
    answer::{Answer, Block, StopReason},
    codec, fold,
    pipe::Pipe,
    request::{PartKind, ToolCall},
    usage::Usage,
};
use serde_json::{Value, json};

use super::ledger::{Verdict, same};
use crate::support::{SHAPES, TargetModel, corpus::Pair, decode_stream, other, re_encoded, through};

/// What a provider answered, the codec reads.
pub(crate) fn decodes(pair: &Pair) -> Verdict {
    pair.is_answer(false).then(|| whole(pair).map(drop))
}

fn whole(pair: &Pair) -> Result<Answer, String> {
    codec::decode_answer(pair.shape, &pair.answer).map_err(|error| format!("{error:?}"))
}

/// The answer of a pair, however it came; none: it is an error.
fn answer(pair: &Pair) -> Option<Answer> {
    if pair.is_answer(false) {
        return whole(pair).ok();
    }
    let events = pair.is_answer(true).then(|| decode_stream(pair.shape, [pair.answer.as_slice()]))?;
    fold::accumulate(events).ok()
}

/// Same shape: the bytes stay, whatever the pieces; what is learnt is what the decoder reads.
pub(crate) fn passes(pair: &Pair) -> Verdict {
    pair.is_answer(false).then(|| passed(pair))
}

fn passed(pair: &Pair) -> Result<(), String> {
    for size in [1, 7, pair.answer.len().max(1)] {
        let pieces = pair.answer.chunks(size).map(Bytes::copy_from_slice);
        let (out, seen) = through(Pipe::same(pair.shape, false, false), pieces);
        same(&(seen.content, seen.ended, seen.error), &(true, true, None), "what was seen")?;
        same(&out, &pair.answer, "the bytes")?;
    }
    let mut pipe = Pipe::same(pair.shape, false, false);
    pipe.push(Bytes::copy_from_slice(&pair.answer), &mut Vec::new());
    pipe.end(&mut Vec::new());
    let (facts, answer) = (pipe.facts(), whole(pair)?);
    same(&facts.usage, &answer.usage, "usage")?;
    same(&facts.model.unwrap_or_default(), &answer.model, "model")?;
    same(&facts.upstream_id.unwrap_or_default(), &answer.id, "id")
}

/// Errors keep their status and get words in both shapes.
pub(crate) fn tells_errors(pair: &Pair) -> Verdict {
    (pair.status >= 400).then(|| told(pair))
}

fn told(pair: &Pair) -> Result<(), String> {
    let error = codec::decode_error(pair.shape, pair.status, &pair.answer);
    same(&error.message.is_empty(), &false, "the message is empty")?;
    for shape in SHAPES {
        let body = codec::encode_error(shape, &error, "req_1");
        let body: Value = serde_json::from_slice(&body).map_err(|fault| fault.to_string())?;
        // What a client looks for may be put before the provider's words.
        let kept = body["error"]["message"].as_str().is_some_and(|message| message.ends_with(&error.message));
        same(&kept, &true, "the message stays")?;
        same(&body["error"]["type"].is_string(), &true, "a type")?;
    }
    Ok(())
}

/// Tokens are what the provider counted, each once, in every shape.
pub(crate) fn conserves_usage(pair: &Pair) -> Verdict {
    let answer = answer(pair)?;
    let usage = answer.usage.clone()?;
    Some(conserved(pair, &answer, &usage))
}

fn conserved(pair: &Pair, answer: &Answer, usage: &Usage) -> Result<(), String> {
    let raw = raw_usage(pair).ok_or("the provider counted nothing, yet there is usage")?;
    let count = |name: &str| raw.pointer(name).and_then(Value::as_u64).unwrap_or_default();
    let (input, output) = match pair.shape {
        WireShape::OpenaiChat => {
            let (input, output) = (count("/prompt_tokens"), count("/completion_tokens"));
            let reasoning = count("/completion_tokens_details/reasoning_tokens");
            let outside = reasoning > 0 && count("/total_tokens") == input + output + reasoning;
            (input, if outside { output + reasoning } else { output })
        }
        WireShape::AnthropicMessages => {
            let input = ["/input_tokens", "/cache_read_input_tokens", "/cache_creation_input_tokens"].map(count);
            (input.iter().sum(), count("/output_tokens"))
        }
    };
    same(&(usage.input_total(), usage.output), &(input, output), "tokens")?;
    same(&(usage.reasoning <= usage.output), &true, "reasoning is output")?;
    let there = re_encoded(answer, other(pair.shape)).map_err(|error| format!("{error:?}"))?;
    let kept = |usage: &Usage| {
        [usage.input, usage.cache_read, usage.cache_write(), usage.output, usage.reasoning, usage.total()]
    };
    same(&there.usage.as_ref().map(kept), &Some(kept(usage)), "tokens in the other shape")
}

/// What the provider counted: in a stream, the last value of each field.
fn raw_usage(pair: &Pair) -> Option<Value> {
    if !pair.stream {
        let body: Value = serde_json::from_slice(&pair.answer).ok()?;
        return body.get("usage").cloned();
    }
    let text = String::from_utf8_lossy(&pair.answer);
    let mut sum = serde_json::Map::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        let places = ["/usage", "/message/usage", "/x_groq/usage"].map(|place| event.pointer(place));
        for fields in places.into_iter().flatten().filter_map(Value::as_object) {
            let said = fields.iter().filter(|(_, value)| !value.is_null());
            sum.extend(said.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    (!sum.is_empty()).then_some(Value::Object(sum))
}

/// What the model said, thought and called is the same in the other shape, and so is why it ended.
pub(crate) fn conserves_content(pair: &Pair) -> Verdict {
    let answer = answer(pair)?;
    let there = re_encoded(&answer, other(pair.shape)).map_err(|error| format!("{error:?}"));
    Some(there.and_then(|there| same(&Gist::of(&there), &Gist::of(&answer), "what the first choice says")))
}

/// What the first choice of an answer says, without the form of its shape.
#[derive(Debug, Default, PartialEq)]
struct Gist {
    text: String,
    thinking: String,
    calls: Vec<(String, Value)>,
    stop: Option<StopReason>,
}

impl Gist {
    fn of(answer: &Answer) -> Self {
        let mut gist = Gist::default();
        let Some(choice) = answer.choices.first() else { return gist };
        for block in &choice.blocks {
            match block {
                // Messages tells a refusal as text that stops for that reason.
                Block::Text { text, .. } | Block::Refusal(text) => gist.text.push_str(text),
                Block::Thinking { text, .. } => gist.thinking.push_str(text),
                Block::ToolCall(call) => gist.calls.push((call.name.clone(), arguments(call))),
                Block::RedactedThinking(_) | Block::Raw { .. } => {}
            }
        }
        gist.stop = choice.stop.as_ref().map(|stop| comparable(&stop.reason));
        gist
    }
}

/// The arguments as a JSON value; those that are cut off as their text.
fn arguments(call: &ToolCall) -> Value {
    match call.arguments.as_str() {
        "" => json!({}),
        text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

/// The reason as both shapes can tell it.
fn comparable(reason: &StopReason) -> StopReason {
    match reason {
        StopReason::MaxTokens | StopReason::ContextWindow => StopReason::MaxTokens,
        StopReason::ToolUse => StopReason::ToolUse,
        StopReason::Refusal | StopReason::ContentFilter => StopReason::Refusal,
        _ => StopReason::EndTurn,
    }
}

/// Every id that a caller of the other shape sees finds its way back.
pub(crate) fn returns_ids(pair: &Pair) -> Verdict {
    let calls = calls(&answer(pair)?);
    (!calls.is_empty()).then(|| returned(pair, &answer(pair).unwrap_or_default(), &calls))
}

/// The calls that can be sent back: those whose arguments were not cut off.
fn calls(answer: &Answer) -> Vec<ToolCall> {
    let blocks = answer.choices.iter().take(1).flat_map(|choice| &choice.blocks);
    let calls = blocks.filter_map(|block| if let Block::ToolCall(call) = block { Some(call.clone()) } else { None });
    calls.filter(|call| call.arguments.is_empty() || is_object(&call.arguments)).collect()
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn returned(pair: &Pair, answer: &Answer, sent: &[ToolCall]) -> Result<(), String> {
    let caller = other(pair.shape);
    let seen = calls(&re_encoded(answer, caller).map_err(|error| format!("{error:?}"))?);
    same(&seen.len(), &sent.len(), "calls")?;
    let request = codec::decode_request(caller, next_turn(caller, &seen).to_string().as_bytes());
    let model = TargetModel::lenient(pair.shape);
    let back = request.and_then(|request| codec::encode_request(&request, &model.target()));
    let back =
        back.and_then(|back| codec::decode_request(pair.shape, &back.body)).map_err(|refusal| refusal.message)?;
    let mut ids = (Vec::new(), Vec::new());
    for part in back.turns.iter().flat_map(|turn| &turn.parts) {
        match &part.kind {
            PartKind::ToolCall(call) => ids.0.push(call.id.as_str()),
            PartKind::ToolResult(result) => ids.1.push(result.call_id.as_str()),
            _ => {}
        }
    }
    let sent: Vec<&str> = sent.iter().map(|call| call.id.as_str()).collect();
    same(&ids, &(sent.clone(), sent), "ids")
}

/// What a caller sends back after these calls.
fn next_turn(caller: WireShape, calls: &[ToolCall]) -> Value {
    let asked = json!({"role": "user", "content": "x"});
    let messages = match caller {
        WireShape::OpenaiChat => {
            let function = |call: &ToolCall| json!({"name": call.name, "arguments": call.arguments});
            let told = |call: &ToolCall| json!({"id": call.id, "type": "function", "function": function(call)});
            let result = |call: &ToolCall| json!({"role": "tool", "tool_call_id": call.id, "content": "1"});
            let told: Vec<Value> = calls.iter().map(told).collect();
            let call = json!({"role": "assistant", "content": null, "tool_calls": told});
            [asked, call].into_iter().chain(calls.iter().map(result)).collect::<Vec<_>>()
        }
        WireShape::AnthropicMessages => {
            let told = |call: &ToolCall| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
            let result = |call: &ToolCall| json!({"type": "tool_result", "tool_use_id": call.id, "content": "1"});
            let told: Vec<Value> = calls.iter().map(told).collect();
            let results: Vec<Value> = calls.iter().map(result).collect();
            vec![asked, json!({"role": "assistant", "content": told}), json!({"role": "user", "content": results})]
        }
    };
    json!({"model": "m", "max_tokens": 9, "messages": messages})
}
