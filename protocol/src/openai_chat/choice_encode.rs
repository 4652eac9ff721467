//! Writes one choice of a streamed answer: what each block becomes as deltas of a chat message.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    answer_encode::{redacted_thinking, thinking},
    chunk::Said,
    outbound::{self, Form, Told},
    stop,
};
use crate::{
    Loss,
    answer::{Citation, Stop, StopReason},
    event::{BlockStart, Delta},
    json::{Json, json},
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
    pub(super) fn begun(index: u32, said: &mut Said<'_>) -> Self {
        said.delta(index, &json!({"role": "assistant", "content": ""}));
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

    pub(super) fn begin(&mut self, block: u32, start: BlockStart, context: &AnswerContext, said: &mut Said<'_>) {
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

    fn call(&mut self, id: &str, sent: &str, kind: ToolKind, context: &AnswerContext, said: &mut Said<'_>) -> Block {
        let (name, id) = (context.back.tool_name(sent), context.back.tool_id(id));
        let form = outbound::form(context, sent, kind);
        let index = self.calls;
        let delta = match form {
            Form::Function => json!({"tool_calls": [{"index": index, "id": id, "type": "function",
                "function": {"name": name, "arguments": ""}}]}),
            Form::Custom | Form::WrappedCustom => json!({"tool_calls": [{"index": index, "id": id, "type": "custom",
                "custom": {"name": name, "input": ""}}]}),
            Form::Legacy if index > 0 => {
                outbound::lose_block(&mut self.losses, "tool_use");
                return Block::Silent;
            }
            Form::Legacy => json!({"function_call": {"name": name, "arguments": ""}}),
            Form::Text => return Block::Call(Call { index, form, has_arguments: false, held: String::new() }),
        };
        self.calls += 1;
        said.delta(self.index, &delta);
        Block::Call(Call { index, form, has_arguments: false, held: String::new() })
    }

    pub(super) fn delta(&mut self, block: u32, delta: Delta, said: &mut Said<'_>) {
        let Some(open) = self.open.get_mut(&block) else { return };
        match (open, delta) {
            (Block::Text { .. }, Delta::Text(text)) => self.text(&text, said),
            (Block::Text { citations, .. }, Delta::Citation(citation)) => citations.push(citation),
            (Block::Refusal, Delta::Text(text)) => {
                self.has_refused = true;
                said.text(self.index, "refusal", &text);
            }
            (Block::Thinking { text, .. }, Delta::Thinking(more)) => {
                text.push_str(&more);
                said.text(self.index, "reasoning_content", &more);
            }
            (Block::Thinking { proof, .. }, Delta::Proof { issuer, data }) => {
                proof.get_or_insert_with(|| Opaque { issuer, data: String::new() }).data.push_str(&data);
            }
            (Block::Call(call), Delta::Arguments(more)) if !more.is_empty() => {
                call.has_arguments |= !more.trim().is_empty();
                match call.form {
                    Form::WrappedCustom => call.held.push_str(&more),
                    Form::Text => self.text(&more, said),
                    Form::Function | Form::Custom | Form::Legacy => call.more(self.index, &more, said),
                }
            }
            _ => {}
        }
    }

    pub(super) fn end_block(&mut self, block: u32, said: &mut Said<'_>) {
        match self.open.remove(&block) {
            Some(Block::Text { from, citations }) => self.cite(from, &citations),
            Some(Block::Thinking { text, proof: Some(proof) }) => self.thought(thinking(&text, Some(&proof)), said),
            Some(Block::Call(mut call)) => self.end_call(&mut call, said),
            Some(Block::Thinking { .. } | Block::Refusal | Block::Silent) | None => {}
        }
    }

    pub(super) fn logprobs(&mut self, value: &Value, said: &mut Said<'_>) {
        said.logprobs(self.index, &value.into());
    }

    /// Everything that was held back, and the finish reason.
    pub(super) fn finish(&mut self, context: &AnswerContext, said: &mut Said<'_>) {
        let open: Vec<u32> = self.open.keys().copied().collect();
        for block in open {
            self.end_block(block, said);
        }
        let stop = self.stop.take();
        let told = Told { calls: self.calls > 0, refusal: self.has_refused };
        let refused = stop.as_ref().filter(|stop| stop.reason == StopReason::Refusal && !self.has_refused);
        if let Some(stop) = refused {
            said.text(self.index, "refusal", stop::explanation(stop));
        }
        if !self.annotations.is_empty() {
            let annotations = std::mem::take(&mut self.annotations);
            said.delta(self.index, &json!({"annotations": annotations.iter().collect::<Json<'_>>()}));
        }
        let reason = outbound::finish_reason(stop.as_ref(), told, context, &mut self.losses);
        said.finish(self.index, reason);
    }

    fn text(&mut self, text: &str, said: &mut Said<'_>) {
        if !text.is_empty() {
            self.length += text.chars().count() as u64;
            said.text(self.index, "content", text);
        }
    }

    fn cite(&mut self, from: u64, citations: &[Citation]) {
        for citation in citations {
            match outbound::annotation(citation, (from, self.length)) {
                Some(annotation) => self.annotations.push(annotation.to_value()),
                None => outbound::lose_block(&mut self.losses, "citations"),
            }
        }
    }

    /// A block that the caller shall send back. It has an index, by which clients add up deltas of lists.
    fn thought(&mut self, mut block: Json<'_>, said: &mut Said<'_>) {
        block.set("index", self.thoughts);
        self.thoughts += 1;
        said.delta(self.index, &json!({"thinking_blocks": [block]}));
    }

    /// A function that was called without arguments is called with an empty object.
    fn end_call(&mut self, call: &mut Call, said: &mut Said<'_>) {
        match call.form {
            Form::WrappedCustom => call.more(self.index, &outbound::custom_input(&call.held), said),
            Form::Function | Form::Legacy if !call.has_arguments => call.more(self.index, "{}", said),
            Form::Text if !call.has_arguments => self.text("{}", said),
            Form::Function | Form::Legacy | Form::Text | Form::Custom => {}
        }
    }
}

impl Call {
    fn more(&self, choice: u32, more: &str, said: &mut Said<'_>) {
        let index = self.index;
        match self.form {
            Form::Custom | Form::WrappedCustom => {
                said.delta(choice, &json!({"tool_calls": [{"index": index, "custom": {"input": more}}]}));
            }
            Form::Legacy => said.delta(choice, &json!({"function_call": {"arguments": more}})),
            Form::Function | Form::Text => said.arguments(choice, index, more),
        }
    }
}
