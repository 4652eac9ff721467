//! Writes a streamed answer for a client of this shape. Its blocks never interleave: one is open at a time, and those
//! that begin meanwhile are held back until it closes. What says nothing (an empty text) is never begun.
//!
//! The reason and the usage are told at the very end, because other shapes tell usage last.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{
    answer_encode::{foreign, id, is_own, usage_of},
    citations, error, names, stop,
};
use crate::{
    Loss,
    answer::Stop,
    event::{BlockStart, Delta, Event, Start},
    json::{self, Json, Object, json},
    request::{Issuer, Opaque},
    sse,
    translate::AnswerContext,
    usage::Usage,
};

/// Writes one stream.
#[derive(Debug)]
pub struct StreamEncoder {
    context: AnswerContext,
    start: Option<Start>,
    begun: bool,
    ended: bool,
    usage: Option<Usage>,
    stop: Option<Stop>,
    held: stop::Held,
    /// The open block first, then those that wait for it.
    blocks: VecDeque<Block>,
    /// The next index on the wire.
    next: u32,
    losses: Vec<Loss>,
}

/// A block that is not closed on the wire.
#[derive(Debug)]
struct Block {
    /// Its index in canonical form.
    index: u32,
    kind: BlockStart,
    /// Its index on the wire once it began there.
    wire: Option<u32>,
    /// What waits for its turn.
    deltas: Vec<Delta>,
    /// The proof of reasoning, which comes last.
    proof: Option<Opaque>,
    closed: bool,
}

impl StreamEncoder {
    /// An encoder at the beginning of a stream.
    pub fn new(context: AnswerContext) -> Self {
        Self {
            context,
            start: None,
            begun: false,
            ended: false,
            usage: None,
            stop: None,
            held: stop::Held::default(),
            blocks: VecDeque::new(),
            next: 0,
            losses: Vec::new(),
        }
    }

    /// Appends what an event says. After the end or an error nothing follows.
    pub fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(start) => self.start = Some(start),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::BlockStart { choice: 0, index, block } => self.block_start(index, block, out),
            Event::Delta { choice: 0, index, delta } => self.delta(index, delta, out),
            Event::BlockStop { choice: 0, index } => self.block_stop(index, out),
            Event::Stop { choice: 0, stop } => self.stop = Some(stop),
            Event::BlockStart { .. } | Event::Delta { .. } | Event::BlockStop { .. } | Event::Stop { .. } => {
                self.lose(Loss::dropped("choices", "an answer of this shape has one"));
            }
            Event::Logprobs { .. } => self.lose(Loss::dropped("logprobs", "no counterpart")),
            Event::Ping => {
                self.begin(out);
                out.extend_from_slice(error::keep_alive());
            }
            Event::Error(error) => {
                self.ended = true;
                out.extend(error::encode_error_event(&error, &self.context.request_id));
            }
            Event::End => self.end(out),
        }
    }

    /// What could not be said so far.
    pub fn losses(&self) -> Vec<Loss> {
        self.losses.clone()
    }

    fn lose(&mut self, loss: Loss) {
        if !self.losses.contains(&loss) {
            self.losses.push(loss);
        }
    }

    /// `message_start`: written with the first thing that follows it, so that usage which is known by then is in it.
    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            return;
        }
        self.begun = true;
        let start = self.start.take().unwrap_or_default();
        let message = json!({
            "id": id(&start.id, &self.context),
            "type": "message",
            "role": "assistant",
            "model": &self.context.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_of(self.usage.as_ref(), start.service_tier.as_deref()),
        });
        write(out, "message_start", [("message", message)]);
    }

    fn block_start(&mut self, index: u32, kind: BlockStart, out: &mut Vec<u8>) {
        self.begin(out);
        let kind = match kind {
            BlockStart::ToolCall { name, .. } if self.context.back.is_json_tool(&name) => BlockStart::Text,
            kind => kind,
        };
        match &kind {
            BlockStart::ToolCall { .. } => self.held.calls = true,
            BlockStart::Refusal => drop(self.held.refusal.get_or_insert_default()),
            BlockStart::Raw { name, value } if !is_own(name, value) => {
                self.lose(foreign(name));
                return;
            }
            BlockStart::Text | BlockStart::Thinking | BlockStart::RedactedThinking { .. } | BlockStart::Raw { .. } => {}
        }
        let block = Block { index, kind, wire: None, deltas: Vec::new(), proof: None, closed: false };
        self.blocks.push_back(block);
        if self.blocks.len() == 1 {
            self.write_front(out);
        }
    }

    fn delta(&mut self, index: u32, delta: Delta, out: &mut Vec<u8>) {
        let Some(place) = self.blocks.iter().position(|block| block.index == index && !block.closed) else { return };
        if let (BlockStart::Refusal, Delta::Text(text), Some(words)) =
            (&self.blocks[place].kind, &delta, &mut self.held.refusal)
        {
            words.push_str(text);
        }
        self.blocks[place].take(delta);
        if place == 0 {
            self.write_front(out);
        }
    }

    fn block_stop(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.iter_mut().find(|block| block.index == index && !block.closed) else { return };
        block.closed = true;
        self.advance(out);
    }

    /// Writes what can be written: the first block, and each that follows a closed one.
    fn advance(&mut self, out: &mut Vec<u8>) {
        self.write_front(out);
        while self.blocks.front().is_some_and(|block| block.closed) {
            if let Some(block) = self.blocks.pop_front() {
                block.write_end(out);
            }
            self.write_front(out);
        }
    }

    /// Writes what waits in the first block.
    fn write_front(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.front_mut() else { return };
        if block.wire.is_none() && block.says_something() {
            block.wire = Some(self.next);
            self.next += 1;
            let start = content_block(&block.kind, &self.context);
            write(out, "content_block_start", [("index", block.wire.into()), ("content_block", start)]);
        }
        if let Some(wire) = block.wire {
            block.deltas.drain(..).for_each(|delta| write_delta(out, wire, &delta));
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        for block in &mut self.blocks {
            block.closed = true;
        }
        self.advance(out);
        let (reason, sequence, details) = stop::encode(self.stop.as_ref(), &self.held);
        let mut delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        if let Some(details) = &details {
            delta.set("stop_details", details);
        }
        let usage = usage_of(self.usage.as_ref(), None);
        write(out, "message_delta", [("delta", delta), ("usage", usage.into())]);
        write(out, "message_stop", []);
        self.ended = true;
    }
}

impl Block {
    fn take(&mut self, delta: Delta) {
        match delta {
            Delta::Proof { issuer, data } => match &mut self.proof {
                Some(proof) => proof.data.push_str(&data),
                None => self.proof = Some(Opaque { issuer, data }),
            },
            Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text) if text.is_empty() => {}
            Delta::Arguments(text) if self.kind == BlockStart::Text => self.deltas.push(Delta::Text(text)),
            delta if self.fits(&delta) => self.deltas.push(delta),
            _ => {}
        }
    }

    fn fits(&self, delta: &Delta) -> bool {
        match delta {
            Delta::Text(_) | Delta::Citation(_) => matches!(self.kind, BlockStart::Text | BlockStart::Refusal),
            Delta::Thinking(_) => self.kind == BlockStart::Thinking,
            Delta::Arguments(_) => matches!(self.kind, BlockStart::ToolCall { .. }),
            Delta::Proof { .. } => self.kind == BlockStart::Thinking,
        }
    }

    fn says_something(&self) -> bool {
        match self.kind {
            BlockStart::Text | BlockStart::Refusal => !self.deltas.is_empty(),
            BlockStart::Thinking => !self.deltas.is_empty() || self.proof.is_some(),
            BlockStart::RedactedThinking { .. } | BlockStart::ToolCall { .. } | BlockStart::Raw { .. } => true,
        }
    }

    /// The last of a block that began: its proof, then its stop.
    fn write_end(self, out: &mut Vec<u8>) {
        let Some(wire) = self.wire else { return };
        if let Some(proof) = self.proof.filter(|_| self.kind == BlockStart::Thinking) {
            let delta = json!({"type": "signature_delta", "signature": proof.tagged(Issuer::Anthropic)});
            write(out, "content_block_delta", [("index", wire.into()), ("delta", delta)]);
        }
        write(out, "content_block_stop", [("index", wire.into())]);
    }
}

fn content_block<'a>(kind: &'a BlockStart, context: &'a AnswerContext) -> Json<'a> {
    match kind {
        BlockStart::Text | BlockStart::Refusal => json!({"type": "text", "text": ""}),
        BlockStart::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
        BlockStart::RedactedThinking { issuer, data } => {
            let opaque = Opaque { issuer: *issuer, data: data.clone() };
            json!({"type": "redacted_thinking", "data": opaque.tagged(Issuer::Anthropic)})
        }
        BlockStart::ToolCall { id, name, .. } => json!({
            "type": "tool_use",
            "id": names::wire_id(context.back.tool_id(id)),
            "name": context.back.tool_name(name),
            "input": {},
        }),
        BlockStart::Raw { value, .. } => value.into(),
    }
}

/// A frame of a delta. Those of texts are most of a stream, and are written as they stand.
fn write_delta(out: &mut Vec<u8>, wire: u32, delta: &Delta) {
    let (opening, text) = match delta {
        Delta::Text(text) => (r#","delta":{"type":"text_delta","text":"#, text),
        Delta::Thinking(text) => (r#","delta":{"type":"thinking_delta","thinking":"#, text),
        Delta::Arguments(text) => (r#","delta":{"type":"input_json_delta","partial_json":"#, text),
        Delta::Citation(citation) => {
            if let Some(citation) = citations::for_client(citation) {
                let delta = json!({"type": "citations_delta", "citation": citation});
                write(out, "content_block_delta", [("index", wire.into()), ("delta", delta)]);
            }
            return;
        }
        Delta::Proof { .. } => return,
    };
    out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    json::write_count(out, wire.into());
    out.extend_from_slice(opening.as_bytes());
    json::write_str(out, text);
    out.extend_from_slice(b"}}\n\n");
}

/// One frame: SDKs pass over those without an `event:` line.
fn write<const N: usize>(out: &mut Vec<u8>, event: &'static str, fields: [(&'static str, Json<'_>); N]) {
    let mut frame = Object::of([("type", event.into())]);
    fields.into_iter().for_each(|(name, value)| frame.push(name, value));
    sse::write_with(out, Some(event), |out| frame.write(out));
}
