//! Sends the reasoning of earlier turns back to the hosts that want it, in the field where they give it.
//!
//! OpenAI's own surface never wants it. Proofs go where a field has room for them: only hosts that pass on the answers
//! of several families have such a field, and they sort by the format that stands beside.

use crate::{
    ReasoningField,
    json::{Json, Object, json},
    request::{Issuer, Opaque},
};

/// The reasoning of one assistant message.
#[derive(Debug, Default)]
pub(super) struct Replay<'a> {
    text: String,
    details: Vec<Json<'a>>,
}

impl<'a> Replay<'a> {
    pub(super) fn thinking(&mut self, text: &'a str, proof: Option<&'a Opaque>) {
        self.text.push_str(text);
        let mut detail = json!({"type": "reasoning.text", "text": text});
        if let Some(proof) = proof {
            detail.set("signature", &proof.data);
            detail.set("format", format(proof.issuer));
        }
        self.detail(detail);
    }

    pub(super) fn redacted(&mut self, data: &'a Opaque) {
        self.detail(json!({"type": "reasoning.encrypted", "data": &data.data, "format": format(data.issuer)}));
    }

    /// Puts it where the host gives it; nothing where there is none.
    pub(super) fn put(self, field: ReasoningField, content: &mut Vec<Json<'a>>, extra: &mut Object<'a>) {
        if !self.text.is_empty() {
            match field {
                ReasoningField::ReasoningContent => extra.insert("reasoning_content", self.text),
                ReasoningField::Reasoning => extra.insert("reasoning", self.text),
                ReasoningField::ContentParts => {
                    let thinking = json!([{"type": "text", "text": self.text}]);
                    content.insert(0, json!({"type": "thinking", "thinking": thinking}));
                }
                ReasoningField::ReasoningDetails => {}
            }
        }
        if field == ReasoningField::ReasoningDetails && !self.details.is_empty() {
            extra.insert("reasoning_details", self.details);
        }
    }

    fn detail(&mut self, mut detail: Json<'a>) {
        detail.set("index", self.details.len() as u64);
        self.details.push(detail);
    }
}

/// The name of a family's format in `reasoning_details`.
fn format(issuer: Issuer) -> &'static str {
    match issuer {
        Issuer::Anthropic => "anthropic-claude-v1",
        Issuer::OpenAi => "openai-responses-v1",
        Issuer::Google => "google-gemini-v1",
        Issuer::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::reasoning::{Thought, thoughts},
        *,
    };

    #[test]
    fn every_field_that_gives_reasoning_takes_it_back() {
        let proof = Opaque { issuer: Issuer::Anthropic, data: "sig".into() };
        let blob = Opaque { issuer: Issuer::OpenAi, data: "blob".into() };
        let replayed = |field| {
            let (mut replay, mut content, mut extra) = (Replay::default(), Vec::new(), Object::default());
            replay.thinking("hm", Some(&proof));
            replay.redacted(&blob);
            replay.put(field, &mut content, &mut extra);
            (content, extra)
        };
        for field in [ReasoningField::ReasoningContent, ReasoningField::Reasoning] {
            assert_eq!(thoughts(&replayed(field).1), [Thought::Thinking("hm".into(), None)]);
        }
        let whole = [Thought::Thinking("hm".into(), Some(proof.clone())), Thought::Redacted(blob.clone())];
        assert_eq!(thoughts(&replayed(ReasoningField::ReasoningDetails).1), whole);
        let parts: Json<'_> = replayed(ReasoningField::ContentParts).0.into();
        assert_eq!(parts.to_value()[0]["thinking"][0]["text"], "hm");
    }
}
