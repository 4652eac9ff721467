//! Sums up what the events of an answer say.

use super::{Facts, Seen};
use crate::{
    answer::{Answer, Block},
    error::WireError,
    event::{Delta, Event},
    skim::Brief,
};

/// What the events so far have said.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    facts: Facts,
    content: bool,
    ended: bool,
    error: Option<WireError>,
}

impl Tally {
    /// Takes an event.
    pub(crate) fn note(&mut self, event: &Event) {
        self.content |= event.is_content();
        match event {
            Event::Start(start) => {
                self.facts.model = named(&start.model);
                self.facts.upstream_id = named(&start.id);
            }
            Event::Delta { delta, .. } => self.facts.output_bytes += size(delta),
            Event::Usage(usage) => self.facts.usage = Some(usage.clone()),
            Event::Stop { choice, stop } => {
                if *choice == 0 || self.facts.stop.is_none() {
                    self.facts.stop = Some(stop.reason.clone());
                }
            }
            Event::End => self.ended = true,
            Event::Error(error) => self.fail(error.clone()),
            Event::BlockStart { .. } | Event::BlockStop { .. } | Event::Logprobs { .. } | Event::Ping => {}
        }
    }

    /// Takes what a whole answer says beside its content.
    pub(crate) fn note_brief(&mut self, brief: Brief<'_>) {
        self.facts.model = named(brief.model);
        self.facts.upstream_id = named(brief.id);
        self.facts.usage = brief.usage;
        self.facts.stop = brief.stop;
    }

    /// Takes a whole answer, which is complete.
    pub(crate) fn note_answer(&mut self, answer: &Answer) {
        self.note_brief(Brief::of(answer));
        let blocks = answer.choices.iter().flat_map(|choice| &choice.blocks);
        self.facts.output_bytes += blocks.map(size_of_block).sum::<u64>();
        self.content = true;
        self.ended = true;
    }

    /// Takes bytes of content.
    pub(crate) fn add_output(&mut self, bytes: usize) {
        self.facts.output_bytes += bytes as u64;
    }

    /// Takes a piece of content by its size; an empty one is none.
    pub(crate) fn add_content(&mut self, bytes: usize) {
        self.add_output(bytes);
        self.content |= bytes > 0;
    }

    /// The answer may be given to the caller.
    pub(crate) fn commit(&mut self) {
        self.content = true;
    }

    /// The answer is complete.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The answer failed; the first failure counts.
    pub(crate) fn fail(&mut self, error: WireError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.content
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen { content: self.content, ended: self.ended, error: self.error.clone() }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts.clone()
    }

    pub(crate) fn take_facts(&mut self) -> Facts {
        std::mem::take(&mut self.facts)
    }
}

fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

fn size_of_block(block: &Block) -> u64 {
    match block {
        Block::Text { text, .. } | Block::Refusal(text) | Block::Thinking { text, .. } => text.len() as u64,
        Block::ToolCall(call) => call.arguments.len() as u64,
        Block::RedactedThinking(_) | Block::Raw { .. } => 0,
    }
}

fn size(delta: &Delta) -> u64 {
    match delta {
        Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text) => text.len() as u64,
        Delta::Proof { .. } | Delta::Citation(_) => 0,
    }
}
