//! Laws of streams.

use bytes::Bytes;
use protocol::{
    WireShape,
    answer::{Answer, Block},
    codec,
    event::{Delta, Event},
    fold,
    pipe::{Facts, Pipe},
};
use serde_json::Value;

use super::ledger::{Verdict, same};
use crate::support::{SHAPES, context, corpus::Pair, decode_stream, encode_stream, grammar, through};

fn events(pair: &Pair) -> Vec<Event> {
    decode_stream(pair.shape, [pair.answer.as_slice()])
}

fn is_told(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::End))
}

/// A recorded stream begins once, fails never and ends once.
pub(crate) fn decodes(pair: &Pair) -> Verdict {
    pair.is_answer(true).then(|| decoded(&events(pair)))
}

fn decoded(events: &[Event]) -> Result<(), String> {
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    let starts = count(|event| matches!(event, Event::Start(_)));
    same(&(starts, matches!(events.first(), Some(Event::Start(_)))), &(1, true), "starts")?;
    if let Some(error) = events.iter().find(|event| matches!(event, Event::Error(_))) {
        return Err(format!("{error:?}"));
    }
    same(&(count(|event| *event == Event::End), is_told(events)), &(1, true), "ends")
}

/// Same shape: what is learnt in passing is what the decoder reads.
pub(crate) fn learns(pair: &Pair) -> Verdict {
    pair.is_answer(true).then(|| learnt(pair))
}

fn learnt(pair: &Pair) -> Result<(), String> {
    let events = events(pair);
    let mut expected = Facts::default();
    for event in &events {
        match event {
            Event::Start(start) => {
                let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
                (expected.model, expected.upstream_id) = (named(&start.model), named(&start.id));
            }
            Event::Delta { delta: Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text), .. } => {
                expected.output_bytes += text.len() as u64;
            }
            Event::Usage(usage) => expected.usage = Some(usage.clone()),
            Event::Stop { choice, stop } if *choice == 0 || expected.stop.is_none() => {
                expected.stop = Some(stop.reason.clone());
            }
            _ => {}
        }
    }
    let content = events.iter().any(Event::is_content);
    for size in [1, 100, pair.answer.len().max(1)] {
        let (mut pipe, mut out) = (Pipe::same(pair.shape, true, false), Vec::new());
        for piece in pair.answer.chunks(size) {
            pipe.push(Bytes::copy_from_slice(piece), &mut out);
        }
        same(&pipe.end(&mut out).content, &content, "whether there is content")?;
        same(&pipe.facts(), &expected, "what is learnt")?;
    }
    Ok(())
}

/// Same shape: the bytes stay, whatever the pieces; with usage hidden, its chunk alone is missing.
pub(crate) fn passes(pair: &Pair) -> Verdict {
    pair.is_answer(true).then(|| passed(pair))
}

fn passed(pair: &Pair) -> Result<(), String> {
    for size in [1, 100, pair.answer.len().max(1)] {
        let pieces = || pair.answer.chunks(size).map(Bytes::copy_from_slice);
        let (out, seen) = through(Pipe::same(pair.shape, true, false), pieces());
        same(&(seen.ended, seen.error), &(true, None), "what was seen")?;
        same(&out, &pair.answer, "the bytes")?;
        let (hidden, seen) = through(Pipe::same(pair.shape, true, true), pieces());
        same(&(seen.ended, seen.error), &(true, None), "what was seen with usage hidden")?;
        same(&String::from_utf8_lossy(&hidden).into_owned(), &without_usage_chunk(pair), "the bytes without usage")?;
    }
    Ok(())
}

fn without_usage_chunk(pair: &Pair) -> String {
    let text = String::from_utf8_lossy(&pair.answer).into_owned();
    let is_usage = |frame: &str| {
        let data: Option<Value> = frame.trim().strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok());
        data.is_some_and(|data| data["choices"] == Value::Array(Vec::new()) && data["usage"].is_object())
    };
    if pair.shape != WireShape::OpenaiChat {
        return text;
    }
    text.split_inclusive("\n\n").filter(|frame| !is_usage(frame)).collect()
}

/// However the bytes arrive, and whatever may stand between frames, the events are the same.
pub(crate) fn any_chunking(pair: &Pair) -> Verdict {
    pair.is_answer(true).then(|| chunked(pair))
}

fn chunked(pair: &Pair) -> Result<(), String> {
    let (bytes, expected) = (pair.answer.as_slice(), events(pair));
    same(&decode_stream(pair.shape, bytes.chunks(1)), &expected, "byte by byte")?;
    for cut in (1..16).map(|part| part * bytes.len() / 16) {
        same(&decode_stream(pair.shape, [&bytes[..cut], &bytes[cut..]]), &expected, "cut in two")?;
    }
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let crlf = text.replace('\n', "\r\n");
    same(&decode_stream(pair.shape, crlf.as_bytes().chunks(13)), &expected, "with CRLF")?;
    let noisy = format!("\u{feff}: begin\n\n{}", text.replace("\n\n", "\n\n: comment\n\n\n"));
    same(&decode_stream(pair.shape, [noisy.as_bytes()]), &expected, "with comments")
}

/// To translate a stream and then fold it is to fold it and then translate it, into both shapes.
pub(crate) fn folds(pair: &Pair) -> Verdict {
    let events = pair.is_answer(true).then(|| events(pair)).filter(|events| is_told(events))?;
    Some(SHAPES.into_iter().try_for_each(|to| folded(&events, to).map_err(|fault| format!("to {to}: {fault}"))))
}

fn folded(events: &[Event], to: WireShape) -> Result<(), String> {
    let whole = fold::accumulate(events.to_vec()).map_err(|error| format!("{error:?}"))?;
    let (body, _) = codec::encode_answer(to, &whole, &context(false));
    let translated = codec::decode_answer(to, &body).map_err(|error| format!("whole: {error:?}"))?;
    let stream = encode_stream(to, events.to_vec(), context(true));
    let told = fold::accumulate(decode_stream(to, [stream.as_slice()])).map_err(|error| format!("told: {error:?}"))?;
    same(&comparable(told), &comparable(translated), "the answer")
}

/// An answer whose tool arguments are compared as JSON values, where they are JSON.
fn comparable(mut answer: Answer) -> Answer {
    for block in answer.choices.iter_mut().flat_map(|choice| &mut choice.blocks) {
        if let Block::ToolCall(call) = block {
            let parsed = serde_json::from_str::<Value>(&call.arguments);
            call.arguments = parsed.map_or_else(|_| std::mem::take(&mut call.arguments), |value| value.to_string());
        }
    }
    answer
}

/// What is emitted has the form that clients expect.
pub(crate) fn keeps_grammar(pair: &Pair) -> Verdict {
    let events = pair.is_answer(true).then(|| events(pair)).filter(|events| is_told(events))?;
    Some(SHAPES.into_iter().try_for_each(|to| {
        let stream = encode_stream(to, events.clone(), context(true));
        grammar::check(to, &stream).map_err(|fault| format!("to {to}: {fault}"))
    }))
}

/// A stream that stops early is an error, and no broken frame reaches the caller.
pub(crate) fn cut(pair: &Pair) -> Verdict {
    let all = pair.is_answer(true).then(|| events(pair)).filter(|events| is_told(events))?;
    drop(all);
    Some((1..12).map(|part| part * pair.answer.len() / 16).try_for_each(|cut| cut_at(pair, cut)))
}

fn cut_at(pair: &Pair, cut: usize) -> Result<(), String> {
    let pieces = || [Bytes::copy_from_slice(&pair.answer[..cut])];
    let (out, seen) = through(Pipe::same(pair.shape, true, false), pieces());
    if seen.ended {
        return Ok(());
    }
    same(&seen.error.is_some(), &true, "a cut stream fails")?;
    same(&pair.answer.starts_with(&out), &true, "what passed is a beginning")?;
    let ends = out.is_empty() || out.ends_with(b"\n\n") || out.ends_with(b"\r\n\r\n");
    same(&ends, &true, "what passed ends with a frame")?;
    SHAPES.into_iter().try_for_each(|to| {
        let (out, seen) = through(Pipe::cross(pair.shape, to, true, context(true)), pieces());
        same(&seen.error.is_some(), &true, "a cut stream fails in translation")?;
        let text = String::from_utf8_lossy(&out).into_owned();
        let ended = text.contains("[DONE]") || text.contains("\"message_stop\"");
        same(&ended, &false, "no end is told")
    })
}
