//! Reads a streamed chat answer of any dialect, frame by frame.
//!
//! A stop is held until the end of the stream: some hosts send content after a finish reason, and one that breaks off
//! must not look like one that ended. Memory does not grow with the answer, but for refusals and unnamed tool calls.

mod skim;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::{
    answer_decode::{is_error, wrong},
    choice_decode::Choice,
    error, usage,
};
use crate::{
    error::{ErrorKind, WireError},
    event::{Event, Start},
    json::Json,
    skim::Form,
    sse::Frame,
    usage::Usage,
};

/// Reads one stream.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    start: Start,
    begun: bool,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
    ended: bool,
    form: Form<skim::Sense>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next frame. After an end or an error nothing is read any more.
    pub fn frame(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) {
        let data = frame.data.trim();
        if self.ended || data.is_empty() {
            return;
        }
        if data == "[DONE]" {
            return self.done(out);
        }
        let Ok(value) = Json::parse_str(data) else {
            return self.fail(wrong("has an event that is not JSON"), out);
        };
        if frame.event == Some("error") || is_error(&value) {
            return self.fail(error::from_value(200, &value.to_value()), out);
        }
        self.chunk(&value, out);
    }

    /// The upstream closed the stream. Hosts that send no end marker ended it if every choice has a finish reason.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        let is_whole = !self.choices.is_empty() && self.choices.values().all(Choice::is_finished);
        if is_whole {
            return self.finish(out);
        }
        self.fail(WireError::new(ErrorKind::Unreachable, "the upstream's stream broke off before its end"), out);
    }

    fn chunk(&mut self, chunk: &Json<'_>, out: &mut Vec<Event>) {
        self.note_start(chunk);
        let choices = chunk["choices"].as_array().unwrap_or_default();
        let usage = usage::decode(chunk);
        if !choices.is_empty() || usage.is_some() {
            self.begin(out);
        }
        for (place, choice) in choices.iter().enumerate() {
            if is_error(choice) {
                return self.fail(error::from_value(200, &choice.to_value()), out);
            }
            let index = choice["index"].as_u64().unwrap_or(place as u64);
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.choices.entry(index).or_insert_with(|| Choice::new(index)).chunk(choice, out);
        }
        if usage.is_some() && usage != self.usage {
            out.extend(usage.clone().map(Event::Usage));
            self.usage = usage;
        }
    }

    /// The first chunk of some hosts has filter results alone, and neither id nor model.
    fn note_start(&mut self, chunk: &Json<'_>) {
        if self.begun {
            return;
        }
        let text = |key: &str| chunk[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(id) = text("id") {
            self.start.id = id;
        }
        if let Some(model) = text("model") {
            self.start.model = model;
        }
        self.start.created = chunk["created"].as_u64().filter(|created| *created > 0).or(self.start.created);
        self.start.service_tier = text("service_tier").or_else(|| self.start.service_tier.take());
    }

    fn begin(&mut self, out: &mut Vec<Event>) {
        if !self.begun {
            self.begun = true;
            out.push(Event::Start(std::mem::take(&mut self.start)));
        }
    }

    fn done(&mut self, out: &mut Vec<Event>) {
        if self.choices.values().all(Choice::is_empty) {
            return self.fail(wrong("is an empty stream"), out);
        }
        self.finish(out);
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        for choice in self.choices.values_mut() {
            choice.stop(out);
        }
        out.push(Event::End);
        self.ended = true;
    }

    fn fail(&mut self, error: WireError, out: &mut Vec<Event>) {
        out.push(Event::Error(error));
        self.ended = true;
    }
}
