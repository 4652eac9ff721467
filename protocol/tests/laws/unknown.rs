//! Laws of the future: what nobody knows yet breaks nothing.

use protocol::{WireShape, codec};
use serde_json::{Value, json};

use super::ledger::{Verdict, same};
use crate::support::{SHAPES, TargetModel, context, corpus::Pair, decode_stream, encode_stream, grammar, other};

const FIELD: &str = "a_field_of_the_future";

/// A field at every level of a request: what was translated is translated still.
pub(crate) fn in_requests(pair: &Pair) -> Verdict {
    let request = pair.request.as_ref().filter(|_| pair.status == 200)?;
    let model = TargetModel::lenient(other(pair.shape));
    let translate = |request: &Value| {
        let decoded = codec::decode_request(pair.shape, request.to_string().as_bytes())?;
        codec::encode_request(&decoded, &model.target())
    };
    translate(request).ok()?;
    let mut strange = request.clone();
    add_everywhere(&mut strange);
    Some(translate(&strange).map(drop).map_err(|refusal| format!("{refusal:?}")))
}

/// A field at every level, a new reason and a new kind of block.
pub(crate) fn in_answers(pair: &Pair) -> Verdict {
    let mut answer: Value = pair.is_answer(false).then(|| serde_json::from_slice(&pair.answer).ok())??;
    codec::decode_answer(pair.shape, &pair.answer).ok()?;
    add_everywhere(&mut answer);
    match pair.shape {
        WireShape::OpenaiChat => answer["choices"][0]["finish_reason"] = json!("a_reason_of_the_future"),
        WireShape::AnthropicMessages => {
            answer["stop_reason"] = json!("a_reason_of_the_future");
            answer["content"].as_array_mut()?.push(json!({"type": "a_block_of_the_future", "x": [1]}));
        }
    }
    Some(answered(pair.shape, &answer))
}

fn answered(shape: WireShape, answer: &Value) -> Result<(), String> {
    let decoded = codec::decode_answer(shape, answer.to_string().as_bytes()).map_err(|error| format!("{error:?}"))?;
    SHAPES.into_iter().try_for_each(|to| {
        let (body, _) = codec::encode_answer(to, &decoded, &context(false));
        codec::decode_answer(to, &body).map(drop).map_err(|error| format!("to {to}: {error:?}"))
    })
}

/// A field at every level of every event, and events that nobody knows between them.
pub(crate) fn in_streams(pair: &Pair) -> Verdict {
    let told = pair.is_answer(true).then(|| decode_stream(pair.shape, [pair.answer.as_slice()]))?;
    if !matches!(told.last(), Some(protocol::event::Event::End)) {
        return None;
    }
    let strange = strange_stream(pair);
    let events = decode_stream(pair.shape, [strange.as_bytes()]);
    Some(SHAPES.into_iter().try_for_each(|to| {
        let stream = encode_stream(to, events.clone(), context(true));
        grammar::check(to, &stream).map_err(|fault| format!("to {to}: {fault}"))?;
        let content = |events: &[protocol::event::Event]| events.iter().filter(|event| event.is_content()).count();
        same(&content(&events), &content(&told), "content")
    }))
}

fn strange_stream(pair: &Pair) -> String {
    let unknown = match pair.shape {
        WireShape::OpenaiChat => "data: {\"object\":\"an_object_of_the_future\",\"x\":1}\n\n",
        WireShape::AnthropicMessages => {
            "event: an_event_of_the_future\ndata: {\"type\":\"an_event_of_the_future\",\"index\":77}\n\n"
        }
    };
    let mut out = String::new();
    for line in String::from_utf8_lossy(&pair.answer).lines() {
        let data = line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data).ok());
        match data {
            Some(mut value) => {
                add_everywhere(&mut value);
                out.push_str(&format!("data: {value}\n\n{unknown}"));
            }
            None => out.extend([line, "\n"]),
        }
    }
    out
}

fn add_everywhere(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_everywhere);
            fields.insert(FIELD.to_owned(), json!({"x": [1, null]}));
        }
        Value::Array(list) => list.iter_mut().for_each(add_everywhere),
        _ => {}
    }
}
