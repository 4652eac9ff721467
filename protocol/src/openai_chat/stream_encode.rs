//! Writes a streamed answer for a chat client, event by event.
//!
//! A stop is held until the end, so that an answer that fails after it never looks complete. Citations are sent in one
//! piece before the stop: clients that add up deltas cannot add up unnumbered lists.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    choice_encode::Choice,
    error::{encode_error_event, keep_alive},
    outbound, usage,
};
use crate::{
    Loss,
    event::{Event, Start},
    sse,
    translate::AnswerContext,
    usage::Usage,
};

/// Writes one stream.
#[derive(Debug)]
pub struct StreamEncoder {
    context: AnswerContext,
    head: Head,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
    ended: bool,
    losses: Vec<Loss>,
}

/// What all chunks of a stream have in common.
#[derive(Debug, Default)]
struct Head {
    id: String,
    created: u64,
    service_tier: Option<String>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice],
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

/// A choice of a chunk.
#[derive(Debug, Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: u32,
    pub(super) delta: Value,
    pub(super) logprobs: Option<Value>,
    pub(super) finish_reason: Option<&'static str>,
}

impl StreamEncoder {
    /// An encoder at the beginning of a stream.
    pub fn new(context: AnswerContext) -> Self {
        let head = Head { id: context.fallback_id.clone(), created: context.created, service_tier: None };
        Self { context, head, choices: BTreeMap::new(), usage: None, ended: false, losses: Vec::new() }
    }

    /// Writes what an event says. After an end or an error nothing is written any more.
    pub fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(start) => self.start(start, out),
            Event::BlockStart { choice, index, block } => {
                self.told(choice, out, |choice, context, said| choice.begin(index, block, context, said));
            }
            Event::Delta { choice, index, delta } => {
                self.told(choice, out, |choice, _, said| choice.delta(index, delta, said));
            }
            Event::BlockStop { choice, index } => {
                self.told(choice, out, |choice, _, said| choice.end_block(index, said));
            }
            Event::Logprobs { choice, value } => self.told(choice, out, |choice, _, said| choice.logprobs(value, said)),
            Event::Stop { choice, stop } => self.told(choice, out, |choice, _, _| choice.stop = Some(stop)),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::End => self.end(out),
            Event::Error(error) => {
                out.extend(encode_error_event(&error, &self.context.request_id));
                self.ended = true;
            }
            Event::Ping => out.extend_from_slice(keep_alive()),
        }
    }

    /// What could not be said so far.
    pub fn losses(&self) -> Vec<Loss> {
        let of_choices = self.choices.values().flat_map(|choice| &choice.losses);
        let mut all = self.losses.clone();
        for loss in of_choices {
            outbound::lose(&mut all, loss.clone());
        }
        all
    }

    fn start(&mut self, start: Start, out: &mut Vec<u8>) {
        self.head.id = outbound::id(&start.id, &self.context).to_owned();
        self.head.created = start.created.unwrap_or(self.context.created);
        self.head.service_tier = outbound::service_tier(start.service_tier.as_deref()).map(str::to_owned);
        self.told(0, out, |_, _, _| {});
    }

    /// Lets a choice speak, behind the role that begins it, and writes what it says.
    fn told(
        &mut self,
        choice: u32,
        out: &mut Vec<u8>,
        speak: impl FnOnce(&mut Choice, &AnswerContext, &mut Vec<ChunkChoice>),
    ) {
        let mut said = Vec::new();
        let choice = self.choices.entry(choice).or_insert_with(|| Choice::begun(choice, &mut said));
        speak(choice, &self.context, &mut said);
        self.write(said, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let mut said = Vec::new();
        for choice in self.choices.values_mut() {
            choice.finish(&self.context, &mut said);
        }
        self.write(said, out);
        if let Some(usage) = self.usage.as_ref().filter(|_| self.context.include_usage) {
            self.chunk(&[], Some(usage::encode(usage)), out);
        }
        sse::write(out, None, "[DONE]");
        self.ended = true;
    }

    fn write(&self, said: Vec<ChunkChoice>, out: &mut Vec<u8>) {
        for choice in said {
            self.chunk(&[choice], None, out);
        }
    }

    fn chunk(&self, choices: &[ChunkChoice], usage: Option<Value>, out: &mut Vec<u8>) {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.context.model,
            choices,
            service_tier: self.head.service_tier.as_deref(),
            usage,
        };
        sse::write_json(out, None, &chunk);
    }
}

impl ChunkChoice {
    /// A delta of a choice.
    pub(super) fn delta(index: u32, delta: Value) -> Self {
        Self { index, delta, logprobs: None, finish_reason: None }
    }

    /// The delta that begins a choice.
    pub(super) fn role(index: u32) -> Self {
        Self::delta(index, json!({"role": "assistant", "content": ""}))
    }
}

#[cfg(test)]
mod tests;
