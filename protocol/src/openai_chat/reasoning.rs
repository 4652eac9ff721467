//! Reads the reasoning that stands beside the text of messages and deltas, in every field that a dialect has for it.
//!
//! `thinking_blocks` is also what Relay itself gives to chat clients, so that proofs come back on the next turn.

use crate::{
    json::{Json, Object},
    request::{Issuer, Opaque},
};

/// A piece of reasoning, in the order of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// More text.
    Text(String),
    /// What proves the text so far.
    Proof(Opaque),
    /// A block that only its issuer can read.
    Redacted(Opaque),
    /// A block that repeats its whole text with what proves it.
    Block(String, Option<Opaque>),
}

/// A whole block of reasoning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thought {
    /// In clear.
    Thinking(String, Option<Opaque>),
    /// Readable by its issuer alone.
    Redacted(Opaque),
}

/// The reasoning of a message or a delta. The same text in several fields is taken once.
pub(super) fn pieces(message: &Object<'_>) -> Vec<Piece> {
    let blocks: Vec<Piece> = items(message, "thinking_blocks").filter_map(thinking_block).collect();
    let details: Vec<Piece> = items(message, "reasoning_details").flat_map(detail).collect();
    let told = |pieces: &[Piece]| pieces.iter().any(|piece| matches!(piece, Piece::Block(..) | Piece::Text(_)));
    let rest = if blocks.is_empty() { details } else { blocks };
    if told(&rest) {
        return rest;
    }
    let plain = text(message, "reasoning_content").or_else(|| text(message, "reasoning"));
    plain.map(|plain| Piece::Text(plain.to_owned())).into_iter().chain(rest).collect()
}

/// The reasoning of a whole message.
pub(super) fn thoughts(message: &Object<'_>) -> Vec<Thought> {
    let mut out: Vec<Thought> = Vec::new();
    for piece in pieces(message) {
        let open = match out.last_mut() {
            Some(Thought::Thinking(text, proof @ None)) => Some((text, proof)),
            _ => None,
        };
        match (piece, open) {
            (Piece::Text(more), Some((text, _))) => text.push_str(&more),
            (Piece::Proof(new), Some((_, proof))) => *proof = Some(new),
            (Piece::Text(text), None) => out.push(Thought::Thinking(text, None)),
            (Piece::Proof(proof), None) => out.push(Thought::Thinking(String::new(), Some(proof))),
            (Piece::Block(text, proof), _) => out.push(Thought::Thinking(text, proof)),
            (Piece::Redacted(data), _) => out.push(Thought::Redacted(data)),
        }
    }
    out
}

/// The text of a `thinking` part of content: a string, or text parts.
pub(super) fn thinking_part(part: &Json<'_>) -> String {
    match &part["thinking"] {
        Json::String(text) => text.clone().into_owned(),
        Json::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn items<'m, 'a>(message: &'m Object<'a>, key: &str) -> impl Iterator<Item = &'m Json<'a>> {
    message.get(key).and_then(Json::as_array).into_iter().flatten()
}

fn text<'m>(message: &'m Object<'_>, key: &str) -> Option<&'m str> {
    message.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn thinking_block(block: &Json<'_>) -> Option<Piece> {
    let of_family = |key: &str| {
        block[key].as_str().filter(|data| !data.is_empty()).map(|data| Opaque::untagged(data, Issuer::Anthropic))
    };
    match block["type"].as_str()? {
        "thinking" => Some(Piece::Block(block["thinking"].as_str().unwrap_or("").to_owned(), of_family("signature"))),
        "redacted_thinking" => of_family("data").map(Piece::Redacted),
        _ => None,
    }
}

fn detail(detail: &Json<'_>) -> Vec<Piece> {
    let issuer = issuer(detail["format"].as_str().unwrap_or(""));
    let filled = |key: &str| detail[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let text = filled("text").or_else(|| filled("summary")).map(Piece::Text);
    let proof = filled("signature").map(|data| Piece::Proof(Opaque { issuer, data }));
    let redacted = filled("data").map(|data| Piece::Redacted(Opaque { issuer, data }));
    [text, proof, redacted].into_iter().flatten().collect()
}

fn issuer(format: &str) -> Issuer {
    match format.split('-').next() {
        Some("anthropic") => Issuer::Anthropic,
        Some("openai") => Issuer::OpenAi,
        Some("google") => Issuer::Google,
        _ => Issuer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn thoughts_of(message: Value) -> Vec<Thought> {
        thoughts(&Object::from(message.as_object().unwrap()))
    }

    #[test]
    fn the_same_reasoning_in_two_fields_is_read_once_and_keeps_its_proof() {
        let got = thoughts_of(json!({"reasoning": "hm", "reasoning_details": [
            {"type": "reasoning.text", "text": "h", "format": "anthropic-claude-v1"},
            {"type": "reasoning.text", "text": "m", "signature": "sig", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "data": "blob", "format": "openai-responses-v1"}]}));
        let sig = Opaque { issuer: Issuer::Anthropic, data: "sig".into() };
        let blob = Opaque { issuer: Issuer::OpenAi, data: "blob".into() };
        assert_eq!(got, [Thought::Thinking("hm".into(), Some(sig)), Thought::Redacted(blob)]);
    }

    #[test]
    fn thinking_blocks_come_back_with_their_issuer() {
        let got = thoughts_of(json!({"reasoning_content": "a", "thinking_blocks": [
            {"type": "thinking", "thinking": "a", "signature": "relay1.google.xx"},
            {"type": "redacted_thinking", "data": "rr"}]}));
        let signed = Opaque { issuer: Issuer::Google, data: "xx".into() };
        let redacted = Opaque { issuer: Issuer::Anthropic, data: "rr".into() };
        assert_eq!(got, [Thought::Thinking("a".into(), Some(signed)), Thought::Redacted(redacted)]);
    }

    #[test]
    fn plain_fields_are_read_where_nothing_better_is_there() {
        assert_eq!(thoughts_of(json!({"reasoning_content": "a"})), [Thought::Thinking("a".into(), None)]);
        assert_eq!(
            thoughts_of(json!({"reasoning": "b", "reasoning_content": null})),
            [Thought::Thinking("b".into(), None)]
        );
        assert_eq!(thoughts_of(json!({"reasoning_content": "", "reasoning_details": null})), []);
    }
}
