//! Laws of requests.

use bytes::Bytes;
use protocol::{ask, codec, splice};
use serde_json::Value;

use super::ledger::{Verdict, same};
use crate::support::{TargetModel, corpus::Pair, other};

/// What a provider took, the codec takes.
pub(crate) fn decodes(pair: &Pair) -> Verdict {
    let body = pair.request_body().filter(|_| pair.status == 200)?;
    Some(codec::decode_request(pair.shape, &body).map(drop).map_err(|refusal| format!("{refusal:?}")))
}

/// Only the model's value changes; usage is asked for beside it.
pub(crate) fn splices(pair: &Pair) -> Verdict {
    let body = Bytes::from(pair.request_body().filter(|_| pair.status == 200)?);
    let request = pair.request.as_ref()?;
    request.get("model")?;
    Some(spliced(pair, &body, request))
}

fn spliced(pair: &Pair, body: &Bytes, request: &Value) -> Result<(), String> {
    let ask = ask::read(pair.shape, body).map_err(|refusal| format!("{refusal:?}"))?;
    same(&ask.model.as_str(), &request["model"].as_str().unwrap_or_default(), "model")?;
    let out = splice::same_shape(body, &ask, "an/other \"model\"", false).joined();
    let back = ask::read(pair.shape, &out).map_err(|refusal| format!("{refusal:?}"))?;
    same(&back.model.as_str(), &"an/other \"model\"", "the new model")?;
    same(&splice::same_shape(&out, &back, &ask.model, false).joined(), body, "the bytes after there and back")?;
    let asking = splice::same_shape(body, &ask, &ask.model, true).joined();
    let mut value: Value = serde_json::from_slice(&asking).map_err(|fault| fault.to_string())?;
    same(&value["stream_options"]["include_usage"], &Value::Bool(true), "usage is asked for")?;
    match request.get("stream_options") {
        Some(options) => value["stream_options"] = options.clone(),
        None => drop(value.as_object_mut().map(|fields| fields.shift_remove("stream_options"))),
    }
    same(&value, request, "all else")
}

/// The translation of a conversation's beginning is the beginning of its translation.
pub(crate) fn extends(pair: &Pair) -> Verdict {
    let request = pair.request.as_ref().filter(|_| pair.status == 200)?;
    let count = request["messages"].as_array()?.len();
    let model = TargetModel::lenient(other(pair.shape));
    let full = translated(pair, request, &model).ok()?;
    let mut verdict = None;
    for kept in (1..count).filter(|kept| closes_turn(&request["messages"][kept - 1])) {
        let mut shorter = request.clone();
        shorter["messages"].as_array_mut()?.truncate(kept);
        let Ok(begin) = translated(pair, &shorter, &model) else { continue };
        let judged = is_beginning(&begin, &full);
        let failed = judged.is_err();
        verdict = Some(judged.map_err(|fault| format!("after {kept} messages: {fault}")));
        if failed {
            break;
        }
    }
    verdict
}

fn closes_turn(message: &Value) -> bool {
    matches!(message["role"].as_str(), Some("user" | "tool" | "function"))
}

fn translated(pair: &Pair, request: &Value, model: &TargetModel) -> Result<Value, String> {
    let decoded = codec::decode_request(pair.shape, request.to_string().as_bytes());
    let encoded = decoded.and_then(|request| codec::encode_request(&request, &model.target()));
    let encoded = encoded.map_err(|refusal| refusal.message)?;
    serde_json::from_slice(&encoded.body).map_err(|fault| fault.to_string())
}

fn is_beginning(begin: &Value, full: &Value) -> Result<(), String> {
    same(&begin.get("system"), &full.get("system"), "system")?;
    same(&begin.get("tools"), &full.get("tools"), "tools")?;
    let (begin, full) = (list(begin), list(full));
    let (last, whole) = begin.split_last().ok_or("no messages")?;
    same(&Some(whole), &full.get(..whole.len()), "messages")?;
    let next = full.get(whole.len()).ok_or("messages are missing")?;
    same(&last["role"], &next["role"], "the last role")?;
    let (last, next) = (last["content"].to_string(), next["content"].to_string());
    let open = last.trim_end_matches(']');
    if next.starts_with(open) { Ok(()) } else { same(&last, &next, "the last message") }
}

fn list(request: &Value) -> &[Value] {
    request["messages"].as_array().map_or(&[], Vec::as_slice)
}
