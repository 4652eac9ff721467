//! Writes a streamed answer for a client of this shape. Its blocks never interleave: one is open at a time, and those
//! that begin meanwhile are held back until it closes. What says nothing (an empty text) is never begun.
//!
//! The reason and the usage are told at the very end, because other shapes tell usage last.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    answer_encode::{foreign, id, is_own, usage_of},
    citations, error, names, stop,
};
use crate::{
    Loss,
    answer::Stop,
    event::{BlockStart, Delta, Event, Start},
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
            "model": self.context.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_of(self.usage.as_ref(), start.service_tier.as_deref()),
        });
        write(out, "message_start", json!({"message": message}));
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
            write(out, "content_block_start", json!({"index": block.wire, "content_block": start}));
        }
        if let Some(wire) = block.wire {
            for delta in block.deltas.drain(..).filter_map(wire_delta) {
                write(out, "content_block_delta", json!({"index": wire, "delta": delta}));
            }
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
        if let Some(details) = details {
            delta["stop_details"] = details;
        }
        let usage = usage_of(self.usage.as_ref(), None);
        write(out, "message_delta", json!({"delta": delta, "usage": usage}));
        write(out, "message_stop", json!({}));
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
            write(out, "content_block_delta", json!({"index": wire, "delta": delta}));
        }
        write(out, "content_block_stop", json!({"index": wire}));
    }
}

fn content_block(kind: &BlockStart, context: &AnswerContext) -> Value {
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
        BlockStart::Raw { value, .. } => value.clone(),
    }
}

fn wire_delta(delta: Delta) -> Option<Value> {
    match delta {
        Delta::Text(text) => Some(json!({"type": "text_delta", "text": text})),
        Delta::Thinking(text) => Some(json!({"type": "thinking_delta", "thinking": text})),
        Delta::Arguments(text) => Some(json!({"type": "input_json_delta", "partial_json": text})),
        Delta::Citation(citation) => {
            let citation = citations::for_client(&citation)?;
            Some(json!({"type": "citations_delta", "citation": citation}))
        }
        Delta::Proof { .. } => None,
    }
}

/// One frame: SDKs pass over those without an `event:` line.
fn write(out: &mut Vec<u8>, event: &str, fields: Value) {
    let mut frame = json!({"type": event});
    if let (Value::Object(frame), Value::Object(fields)) = (&mut frame, fields) {
        frame.extend(fields);
    }
    sse::write_json(out, Some(event), &frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::StopReason,
        error::{ErrorKind, WireError},
        request::ToolKind,
        translate::Back,
    };

    fn context() -> AnswerContext {
        AnswerContext { model: "mine".into(), fallback_id: "msg_made".into(), ..AnswerContext::default() }
    }

    fn start(index: u32, block: BlockStart) -> Event {
        Event::BlockStart { choice: 0, index, block }
    }

    fn tell(index: u32, delta: Delta) -> Event {
        Event::Delta { choice: 0, index, delta }
    }

    fn close(index: u32) -> Event {
        Event::BlockStop { choice: 0, index }
    }

    fn stop(reason: StopReason) -> Event {
        Event::Stop { choice: 0, stop: Stop::new(reason) }
    }

    fn tool(id: &str) -> BlockStart {
        BlockStart::ToolCall { id: id.into(), name: "f".into(), kind: ToolKind::Function }
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.into())
    }

    fn arguments(text: &str) -> Delta {
        Delta::Arguments(text.into())
    }

    /// The data of the frames, each with an event line that agrees with its type.
    fn frames_with(context: AnswerContext, events: Vec<Event>) -> Vec<Value> {
        let (mut encoder, mut out) = (StreamEncoder::new(context), Vec::new());
        events.into_iter().for_each(|event| encoder.event(event, &mut out));
        let text = String::from_utf8(out).expect("text");
        let frame = |frame: &str| {
            let (event, data) = frame.split_once('\n').expect("two lines");
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            assert_eq!(event.strip_prefix("event: "), data["type"].as_str());
            data
        };
        text.split_terminator("\n\n").map(frame).collect()
    }

    fn frames(events: Vec<Event>) -> Vec<Value> {
        frames_with(context(), events)
    }

    fn types(frames: &[Value]) -> Vec<String> {
        let short = |frame: &Value| match (frame["index"].as_u64(), frame["type"].as_str()) {
            (Some(index), Some(kind)) => format!("{}{index}", kind.trim_start_matches("content_block_")),
            (_, kind) => kind.unwrap_or_default().to_owned(),
        };
        frames.iter().map(short).collect()
    }

    #[test]
    fn writes_a_text_with_usage_at_both_ends() {
        let usage = |output| Event::Usage(Usage { input: 5, output, ..Usage::default() });
        let frames = frames(vec![
            Event::Start(Start::default()),
            usage(1),
            start(0, BlockStart::Text),
            tell(0, text("hi")),
            close(0),
            stop(StopReason::EndTurn),
            usage(9),
            Event::End,
        ]);
        assert_eq!(types(&frames), ["message_start", "start0", "delta0", "stop0", "message_delta", "message_stop"]);
        assert_eq!((&frames[0]["message"]["id"], &frames[0]["message"]["model"]), (&json!("msg_made"), &json!("mine")));
        assert_eq!(frames[0]["message"]["usage"]["output_tokens"], 1);
        assert_eq!(frames[4]["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
        assert_eq!((&frames[4]["usage"]["input_tokens"], &frames[4]["usage"]["output_tokens"]), (&json!(5), &json!(9)));
    }

    #[test]
    fn calls_that_interleave_are_written_one_after_the_other() {
        let frames = frames(vec![
            Event::Start(Start::default()),
            start(0, tool("a")),
            tell(0, arguments("{\"x\"")),
            start(1, tool("b")),
            tell(1, arguments("{\"y\"")),
            tell(0, arguments(":1}")),
            tell(1, arguments(":2}")),
            close(0),
            close(1),
            stop(StopReason::ToolUse),
            Event::End,
        ]);
        assert_eq!(
            types(&frames)[1..],
            [
                "start0",
                "delta0",
                "delta0",
                "stop0",
                "start1",
                "delta1",
                "delta1",
                "stop1",
                "message_delta",
                "message_stop"
            ]
        );
        assert_eq!(frames[5]["content_block"], json!({"type": "tool_use", "id": "b", "name": "f", "input": {}}));
        assert_eq!(frames[6]["delta"]["partial_json"], "{\"y\"");
    }

    #[test]
    fn what_says_nothing_is_never_begun() {
        let frames = frames(vec![
            Event::Start(Start::default()),
            start(0, BlockStart::Text),
            tell(0, text("")),
            close(0),
            start(1, BlockStart::Thinking),
            close(1),
            start(2, tool("a")),
            tell(2, arguments("")),
            close(2),
            stop(StopReason::EndTurn),
            Event::End,
        ]);
        assert_eq!(types(&frames), ["message_start", "start0", "stop0", "message_delta", "message_stop"]);
        assert_eq!(frames[3]["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn the_proof_is_the_last_word_of_reasoning() {
        let proof = |data: &str| Delta::Proof { issuer: Issuer::Anthropic, data: data.into() };
        let frames = frames(vec![
            Event::Start(Start::default()),
            start(0, BlockStart::Thinking),
            tell(0, proof("s=")),
            tell(0, Delta::Thinking("hm".into())),
            tell(0, proof("=")),
            close(0),
            Event::End,
        ]);
        assert_eq!(types(&frames)[1..4], ["start0", "delta0", "delta0"]);
        assert_eq!(frames[3]["delta"], json!({"type": "signature_delta", "signature": "s=="}));
    }

    #[test]
    fn an_error_is_one_event_and_nothing_follows() {
        let error = WireError::new(ErrorKind::Unreachable, "broke off");
        let frames = frames(vec![
            Event::Start(Start::default()),
            start(0, BlockStart::Text),
            tell(0, text("h")),
            Event::Error(error),
            close(0),
            Event::End,
        ]);
        assert_eq!(types(&frames), ["message_start", "start0", "delta0", "error"]);
        assert_eq!(frames[3]["error"]["type"], "api_error");
    }

    #[test]
    fn blocks_that_nobody_closed_are_closed_at_the_end() {
        let frames = frames(vec![start(0, BlockStart::Text), tell(0, text("h")), start(1, tool("a")), Event::End]);
        assert_eq!(
            types(&frames),
            ["message_start", "start0", "delta0", "stop0", "start1", "stop1", "message_delta", "message_stop"]
        );
    }

    #[test]
    fn a_refusal_is_told_as_text_and_explained_at_the_end() {
        let frames = frames(vec![
            start(0, BlockStart::Refusal),
            tell(0, text("I can")),
            tell(0, text("not")),
            close(0),
            stop(StopReason::EndTurn),
            Event::End,
        ]);
        let delta = &frames[frames.len() - 2]["delta"];
        assert_eq!(
            (&delta["stop_reason"], &delta["stop_details"]["explanation"]),
            (&json!("refusal"), &json!("I cannot"))
        );
    }

    #[test]
    fn the_tool_that_stood_for_a_schema_is_told_as_text() {
        let back = Back { json_tool: Some("f".into()), ..Back::default() };
        let events =
            vec![start(0, tool("a")), tell(0, arguments("{}")), close(0), stop(StopReason::ToolUse), Event::End];
        let frames = frames_with(AnswerContext { back, ..context() }, events);
        assert_eq!(frames[2]["delta"], json!({"type": "text_delta", "text": "{}"}));
        assert_eq!(frames[frames.len() - 2]["delta"]["stop_reason"], "end_turn");
    }

    #[test]
    fn a_ping_follows_the_start() {
        let frames = frames(vec![Event::Start(Start::default()), Event::Ping]);
        assert_eq!(types(&frames), ["message_start", "ping"]);
    }

    #[test]
    fn what_cannot_be_said_is_a_loss() {
        let (mut encoder, mut out) = (StreamEncoder::new(context()), Vec::new());
        let foreign = BlockStart::Raw { name: "audio".into(), value: json!({"id": "x"}) };
        encoder.event(start(0, foreign), &mut out);
        encoder.event(close(0), &mut out);
        encoder.event(Event::Logprobs { choice: 0, value: json!({}) }, &mut out);
        let fields: Vec<_> = encoder.losses().into_iter().map(|loss| loss.field).collect();
        assert_eq!(fields, ["content.audio", "logprobs"]);
    }
}
