//! Writes a streamed answer for a chat client, event by event.
//!
//! A stop is held until the end, so that an answer that fails after it never looks complete. Citations are sent in one
//! piece before the stop: clients that add up deltas cannot add up unnumbered lists.

use std::collections::BTreeMap;

use super::{
    choice_encode::Choice,
    chunk::{Chunks, Said},
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
    chunks: Chunks,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
    ended: bool,
    losses: Vec<Loss>,
}

impl StreamEncoder {
    /// An encoder at the beginning of a stream.
    pub fn new(context: AnswerContext) -> Self {
        let chunks = Chunks::new(&context.fallback_id, context.created, &context.model, None);
        Self { context, chunks, choices: BTreeMap::new(), usage: None, ended: false, losses: Vec::new() }
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
            Event::Logprobs { choice, value } => {
                self.told(choice, out, |choice, _, said| choice.logprobs(&value, said));
            }
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
        let id = outbound::id(&start.id, &self.context);
        let created = start.created.unwrap_or(self.context.created);
        let tier = outbound::service_tier(start.service_tier.as_deref());
        self.chunks = Chunks::new(id, created, &self.context.model, tier);
        self.told(0, out, |_, _, _| {});
    }

    /// Lets a choice speak, behind the role that begins it.
    fn told(&mut self, choice: u32, out: &mut Vec<u8>, speak: impl FnOnce(&mut Choice, &AnswerContext, &mut Said<'_>)) {
        let mut said = self.chunks.said(out);
        let choice = self.choices.entry(choice).or_insert_with(|| Choice::begun(choice, &mut said));
        speak(choice, &self.context, &mut said);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let mut said = self.chunks.said(out);
        for choice in self.choices.values_mut() {
            choice.finish(&self.context, &mut said);
        }
        if let Some(usage) = self.usage.as_ref().filter(|_| self.context.include_usage) {
            said.usage(&usage::encode(usage));
        }
        sse::write(out, None, "[DONE]");
        self.ended = true;
    }
}

#[cfg(test)]
mod tests;
