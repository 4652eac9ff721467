//! Writes one choice of a streamed answer: what each block becomes as deltas of a chat message.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    answer_encode::{redacted_thinking, thinking},
    outbound::{self, Form, Told},
    stop,
    stream_encode::ChunkChoice,
};
use crate::{
    Loss,
    answer::{Citation, Stop, StopReason},
    event::{BlockStart, Delta},
    request::{Opaque, ToolKind},
    translate::AnswerContext,
};

/// A choice that is being told.
#[derive(Debug)]
pub(super) struct Choice {
    index: u32,
    open: BTreeMap<u32, Block>,
    /// How many calls the caller has seen begin.
    calls: u32,
    /// How many `thinking_blocks` the caller has seen.
    thoughts: u32,
    /// Characters of the content so far: citations count them.
    length: u64,
    annotations: Vec<Value>,
    has_refused: bool,
    /// Why it ended, held until the end of the stream.
    pub(super) stop: Option<Stop>,
    pub(super) losses: Vec<Loss>,
}

/// A block that has begun.
#[derive(Debug)]
enum Block {
    Text {
        from: u64,
        citations: Vec<Citation>,
    },
    Refusal,
    Thinking {
        text: String,
        proof: Option<Opaque>,
    },
    Call(Call),
    /// Nothing of it is told.
    Silent,
}

#[derive(Debug)]
struct Call {
    index: u32,
    form: Form,
    has_arguments: bool,
    /// Arguments of a wrapped custom tool, until its input can be read.
    held: String,
}

impl Choice {
    /// A choice, and the delta that begins it.
    pub(super) fn begun(index: u32, said: &mut Vec<ChunkChoice>) -> Self {
        said.push(ChunkChoice::role(index));
        Self {
            index,
            open: BTreeMap::new(),
            calls: 0,
            thoughts: 0,
            length: 0,
            annotations: Vec::new(),
            has_refused: false,
            stop: None,
            losses: Vec::new(),
        }
    }

    pub(super) fn begin(
        &mut self,
        block: u32,
        start: BlockStart,
        context: &AnswerContext,
        said: &mut Vec<ChunkChoice>,
    ) {
        let begun = match start {
            BlockStart::Text => {
                if self.calls > 0 {
                    let loss = Loss::approximated("content", "text after a tool call is told before it");
                    outbound::lose(&mut self.losses, loss);
                }
                Block::Text { from: self.length, citations: Vec::new() }
            }
            BlockStart::Refusal => Block::Refusal,
            BlockStart::Thinking => Block::Thinking { text: String::new(), proof: None },
            BlockStart::RedactedThinking { issuer, data } => {
                self.thought(redacted_thinking(&Opaque { issuer, data }), said);
                Block::Silent
            }
            BlockStart::ToolCall { id, name, kind } => self.call(&id, &name, kind, context, said),
            BlockStart::Raw { name, .. } => {
                outbound::lose_block(&mut self.losses, &name);
                Block::Silent
            }
        };
        self.open.insert(block, begun);
    }

    fn call(
        &mut self,
        id: &str,
        sent: &str,
        kind: ToolKind,
        context: &AnswerContext,
        said: &mut Vec<ChunkChoice>,
    ) -> Block {
        let (name, id) = (context.back.tool_name(sent), context.back.tool_id(id));
        let form = outbound::form(context, sent, kind);
        let index = self.calls;
        let call = |body: Value| json!({"tool_calls": [body]});
        let delta = match form {
            Form::Function => call(json!({"index": index, "id": id, "type": "function",
                "function": {"name": name, "arguments": ""}})),
            Form::Custom | Form::WrappedCustom => call(json!({"index": index, "id": id, "type": "custom",
                "custom": {"name": name, "input": ""}})),
            Form::Legacy if index > 0 => {
                outbound::lose_block(&mut self.losses, "tool_use");
                return Block::Silent;
            }
            Form::Legacy => json!({"function_call": {"name": name, "arguments": ""}}),
            Form::Text => return Block::Call(Call { index, form, has_arguments: false, held: String::new() }),
        };
        self.calls += 1;
        self.say(delta, said);
        Block::Call(Call { index, form, has_arguments: false, held: String::new() })
    }

    pub(super) fn delta(&mut self, block: u32, delta: Delta, said: &mut Vec<ChunkChoice>) {
        let Some(mut open) = self.open.remove(&block) else { return };
        match (&mut open, delta) {
            (Block::Text { .. }, Delta::Text(text)) => self.text(&text, said),
            (Block::Text { citations, .. }, Delta::Citation(citation)) => citations.push(citation),
            (Block::Refusal, Delta::Text(text)) => {
                self.has_refused = true;
                self.say(json!({"refusal": text}), said);
            }
            (Block::Thinking { text, .. }, Delta::Thinking(more)) => {
                text.push_str(&more);
                self.say(json!({"reasoning_content": more}), said);
            }
            (Block::Thinking { proof, .. }, Delta::Proof { issuer, data }) => {
                proof.get_or_insert_with(|| Opaque { issuer, data: String::new() }).data.push_str(&data);
            }
            (Block::Call(call), Delta::Arguments(more)) => self.arguments(call, &more, said),
            _ => {}
        }
        self.open.insert(block, open);
    }

    pub(super) fn end_block(&mut self, block: u32, said: &mut Vec<ChunkChoice>) {
        match self.open.remove(&block) {
            Some(Block::Text { from, citations }) => self.cite(from, &citations),
            Some(Block::Thinking { text, proof: Some(proof) }) => self.thought(thinking(&text, Some(&proof)), said),
            Some(Block::Call(mut call)) => self.end_call(&mut call, said),
            Some(Block::Thinking { .. } | Block::Refusal | Block::Silent) | None => {}
        }
    }

    pub(super) fn logprobs(&mut self, value: Value, said: &mut Vec<ChunkChoice>) {
        said.push(ChunkChoice { logprobs: Some(value), ..ChunkChoice::delta(self.index, json!({})) });
    }

    /// Everything that was held back, and the finish reason.
    pub(super) fn finish(&mut self, context: &AnswerContext, said: &mut Vec<ChunkChoice>) {
        let open: Vec<u32> = self.open.keys().copied().collect();
        for block in open {
            self.end_block(block, said);
        }
        let stop = self.stop.take();
        let told = Told { calls: self.calls > 0, refusal: self.has_refused };
        let refused = stop.as_ref().filter(|stop| stop.reason == StopReason::Refusal && !self.has_refused);
        if let Some(stop) = refused {
            self.say(json!({"refusal": stop::explanation(stop)}), said);
        }
        if !self.annotations.is_empty() {
            let annotations = std::mem::take(&mut self.annotations);
            self.say(json!({"annotations": annotations}), said);
        }
        let reason = outbound::finish_reason(stop.as_ref(), told, context, &mut self.losses);
        said.push(ChunkChoice { finish_reason: Some(reason), ..ChunkChoice::delta(self.index, json!({})) });
    }

    fn text(&mut self, text: &str, said: &mut Vec<ChunkChoice>) {
        if !text.is_empty() {
            self.length += text.chars().count() as u64;
            self.say(json!({"content": text}), said);
        }
    }

    fn cite(&mut self, from: u64, citations: &[Citation]) {
        for citation in citations {
            match outbound::annotation(citation, (from, self.length)) {
                Some(annotation) => self.annotations.push(annotation),
                None => outbound::lose_block(&mut self.losses, "citations"),
            }
        }
    }

    /// A block that the caller shall send back. It has an index, by which clients add up deltas of lists.
    fn thought(&mut self, mut block: Value, said: &mut Vec<ChunkChoice>) {
        block["index"] = json!(self.thoughts);
        self.thoughts += 1;
        self.say(json!({"thinking_blocks": [block]}), said);
    }

    fn arguments(&mut self, call: &mut Call, more: &str, said: &mut Vec<ChunkChoice>) {
        if more.is_empty() {
            return;
        }
        call.has_arguments |= !more.trim().is_empty();
        match call.form {
            Form::WrappedCustom => call.held.push_str(more),
            Form::Text => self.text(more, said),
            Form::Function | Form::Custom | Form::Legacy => self.say(call.delta(more), said),
        }
    }

    /// A function that was called without arguments is called with an empty object.
    fn end_call(&mut self, call: &mut Call, said: &mut Vec<ChunkChoice>) {
        match call.form {
            Form::WrappedCustom => self.say(call.delta(&outbound::custom_input(&call.held)), said),
            Form::Function | Form::Legacy if !call.has_arguments => self.say(call.delta("{}"), said),
            Form::Text if !call.has_arguments => self.text("{}", said),
            Form::Function | Form::Legacy | Form::Text | Form::Custom => {}
        }
    }

    fn say(&self, delta: Value, said: &mut Vec<ChunkChoice>) {
        said.push(ChunkChoice::delta(self.index, delta));
    }
}

impl Call {
    fn delta(&self, more: &str) -> Value {
        let index = self.index;
        match self.form {
            Form::Custom | Form::WrappedCustom => json!({"tool_calls": [{"index": index, "custom": {"input": more}}]}),
            Form::Legacy => json!({"function_call": {"arguments": more}}),
            Form::Function | Form::Text => json!({"tool_calls": [{"index": index, "function": {"arguments": more}}]}),
        }
    }
}
