//! Writes the chunks of a stream: what they have in common is written once, and each delta between its two halves.

use crate::{
    json::{self, Json, json},
    sse,
};

/// What all chunks of a stream have in common, as it stands around their choices.
#[derive(Debug)]
pub(super) struct Chunks {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Where the choices of a stream speak.
pub(super) struct Said<'a> {
    chunks: &'a Chunks,
    out: &'a mut Vec<u8>,
}

impl Chunks {
    pub(super) fn new(id: &str, created: u64, model: &str, service_tier: Option<&str>) -> Self {
        let head = json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": model});
        let mut before = head.to_string().into_bytes();
        before.pop();
        before.extend_from_slice(br#","choices":["#);
        let mut after = b"]".to_vec();
        if let Some(tier) = service_tier {
            after.extend_from_slice(br#","service_tier":"#);
            json::write_str(&mut after, tier);
        }
        Self { before, after }
    }

    /// Chunks that go into `out`.
    pub(super) fn said<'a>(&'a self, out: &'a mut Vec<u8>) -> Said<'a> {
        Said { chunks: self, out }
    }
}

impl Said<'_> {
    /// A delta of a choice.
    pub(super) fn delta(&mut self, index: u32, delta: &Json<'_>) {
        self.choice(index, |out| delta.write(out), b",\"logprobs\":null,\"finish_reason\":null");
    }

    /// A delta of a choice that is a text and nothing else, which most are.
    pub(super) fn text(&mut self, index: u32, field: &str, text: &str) {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(b"\":");
            json::write_str(out, text);
            out.push(b'}');
        };
        self.choice(index, write, b",\"logprobs\":null,\"finish_reason\":null");
    }

    /// More arguments of the function call of this number.
    pub(super) fn arguments(&mut self, index: u32, call: u32, text: &str) {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
            json::write_count(out, call.into());
            out.extend_from_slice(b",\"function\":{\"arguments\":");
            json::write_str(out, text);
            out.extend_from_slice(b"}}]}");
        };
        self.choice(index, write, b",\"logprobs\":null,\"finish_reason\":null");
    }

    /// Log probabilities of a choice.
    pub(super) fn logprobs(&mut self, index: u32, logprobs: &Json<'_>) {
        let end = format!(",\"logprobs\":{logprobs},\"finish_reason\":null");
        self.choice(index, |out| out.extend_from_slice(b"{}"), end.as_bytes());
    }

    /// Why a choice ended.
    pub(super) fn finish(&mut self, index: u32, reason: &str) {
        let end = format!(",\"logprobs\":null,\"finish_reason\":\"{reason}\"");
        self.choice(index, |out| out.extend_from_slice(b"{}"), end.as_bytes());
    }

    /// The chunk behind all choices.
    pub(super) fn usage(&mut self, usage: &Json<'_>) {
        self.chunk(|_| {}, Some(usage));
    }

    fn choice(&mut self, index: u32, delta: impl FnOnce(&mut Vec<u8>), end: &[u8]) {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"index\":");
            json::write_count(out, index.into());
            out.extend_from_slice(b",\"delta\":");
            delta(out);
            out.extend_from_slice(end);
            out.push(b'}');
        };
        self.chunk(write, None);
    }

    fn chunk(&mut self, choices: impl FnOnce(&mut Vec<u8>), usage: Option<&Json<'_>>) {
        sse::write_with(self.out, None, |out| {
            out.extend_from_slice(&self.chunks.before);
            choices(out);
            out.extend_from_slice(&self.chunks.after);
            if let Some(usage) = usage {
                out.extend_from_slice(br#","usage":"#);
                usage.write(out);
            }
            out.push(b'}');
        });
    }
}
