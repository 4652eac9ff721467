//! Reads one choice of a streamed chat answer: opens and closes blocks as what the deltas hold changes.
//!
//! Words and reasoning are open one at a time. Tool calls are told apart by their index, or by id where a host sends no
//! index or the same one for all, and stay open until the stream ends: their pieces may come interleaved, and even after
//! the finish reason.

use super::{
    answer_decode::{arguments, citation},
    reasoning::{Piece, pieces, thinking_part},
    stop,
};
use crate::{
    event::{BlockStart, Delta, Event},
    json::{Json, Object},
    request::{Opaque, ToolKind},
};

/// A choice that is being told.
#[derive(Debug)]
pub(super) struct Choice {
    choice: u32,
    /// The index of the next block.
    next: u32,
    /// The block of words or reasoning that is open.
    open: Option<Open>,
    calls: Vec<Call>,
    refusal: String,
    finish: Option<String>,
}

#[derive(Debug)]
struct Open {
    index: u32,
    kind: Kind,
    /// Bytes of its text so far.
    length: usize,
}

/// A block that is open one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Refusal,
    Thinking,
}

#[derive(Debug)]
struct Call {
    /// Its index in the stream's own count; absent for the one legacy function.
    place: Option<u64>,
    id: String,
    name: String,
    kind: ToolKind,
    /// Its block, once its name is known.
    block: Option<u32>,
    /// Arguments that came before the name.
    pending: String,
}

impl Choice {
    pub(super) fn new(choice: u32) -> Self {
        Self { choice, next: 0, open: None, calls: Vec::new(), refusal: String::new(), finish: None }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether neither content nor a finish reason came.
    pub(super) fn is_empty(&self) -> bool {
        self.next == 0 && self.calls.is_empty() && self.finish.is_none()
    }

    /// Takes the next piece. Some hosts send a whole message where others send a delta.
    pub(super) fn chunk(&mut self, choice: &Json<'_>, out: &mut Vec<Event>) {
        let delta = choice["delta"].as_object().or_else(|| choice["message"].as_object());
        if let Some(delta) = delta {
            self.delta(delta, out);
        }
        self.logprobs(&choice["logprobs"], out);
        if let Some(finish) = choice["finish_reason"].as_str() {
            self.finish = Some(finish.to_owned());
            self.close_open(out);
        }
    }

    /// Takes words by their size alone, where they go on with the open block. False: nothing was taken.
    pub(super) fn goes_on(&mut self, kind: Kind, bytes: usize) -> Option<u32> {
        let open = self.open.as_mut().filter(|open| open.kind == kind)?;
        open.length += bytes;
        Some(open.index)
    }

    /// The block of the call that was told and that pieces of arguments at this place go on with.
    pub(super) fn call_at(&self, place: u64) -> Option<u32> {
        self.calls.iter().rfind(|call| call.place == Some(place))?.block
    }

    /// Tells why the choice ended. A stream that ended without saying so ended by itself.
    pub(super) fn stop(&mut self, out: &mut Vec<Event>) {
        self.close_all(out);
        let refusal = Some(self.refusal.as_str()).filter(|text| !text.is_empty());
        let stop = stop::decode(self.finish.as_deref().unwrap_or("stop"), !self.calls.is_empty(), refusal);
        out.push(Event::Stop { choice: self.choice, stop });
    }

    fn delta(&mut self, delta: &Object<'_>, out: &mut Vec<Event>) {
        for piece in pieces(delta) {
            self.reasoning(piece, out);
        }
        match delta.get("content") {
            Some(Json::String(text)) => self.words(Kind::Text, text, out),
            Some(Json::Array(parts)) => parts.iter().for_each(|part| self.part(part, out)),
            _ => {}
        }
        if let Some(refusal) = delta.get("refusal").and_then(Json::as_str) {
            self.refused(refusal, out);
        }
        for annotation in items(delta, "annotations") {
            self.annotation(annotation, out);
        }
        for call in items(delta, "tool_calls") {
            self.tool_call(call, out);
        }
        if let Some(call) = delta.get("function_call").filter(|call| call.is_object()) {
            self.function_call(call, out);
        }
    }

    fn part(&mut self, part: &Json<'_>, out: &mut Vec<Event>) {
        match part["type"].as_str() {
            Some("thinking") => self.words(Kind::Thinking, &thinking_part(part), out),
            Some("refusal") => self.refused(part["refusal"].as_str().unwrap_or_default(), out),
            Some("text") => self.words(Kind::Text, part["text"].as_str().unwrap_or_default(), out),
            Some(name) => {
                let (name, value) = (name.to_owned(), part.to_value());
                self.whole(BlockStart::Raw { name, value }, out);
            }
            None => {}
        }
    }

    fn reasoning(&mut self, piece: Piece, out: &mut Vec<Event>) {
        match piece {
            Piece::Text(text) => self.words(Kind::Thinking, &text, out),
            Piece::Proof(proof) => self.proof(proof, out),
            Piece::Redacted(Opaque { issuer, data }) => self.whole(BlockStart::RedactedThinking { issuer, data }, out),
            Piece::Block(text, proof) => {
                let is_told =
                    self.open.as_ref().is_some_and(|open| open.kind == Kind::Thinking && open.length == text.len());
                if !(is_told && proof.is_some()) {
                    self.words(Kind::Thinking, &text, out);
                }
                if let Some(proof) = proof {
                    self.proof(proof, out);
                }
            }
        }
    }

    fn refused(&mut self, text: &str, out: &mut Vec<Event>) {
        self.refusal.push_str(text);
        self.words(Kind::Refusal, text, out);
    }

    fn words(&mut self, kind: Kind, text: &str, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let index = self.opened(kind, out, text.len());
        let text = text.to_owned();
        let delta = if kind == Kind::Thinking { Delta::Thinking(text) } else { Delta::Text(text) };
        self.push(index, delta, out);
    }

    /// A proof ends its block.
    fn proof(&mut self, Opaque { issuer, data }: Opaque, out: &mut Vec<Event>) {
        let index = self.opened(Kind::Thinking, out, 0);
        self.push(index, Delta::Proof { issuer, data }, out);
        self.close_open(out);
    }

    fn annotation(&mut self, annotation: &Json<'_>, out: &mut Vec<Event>) {
        if let Some(Open { index, kind: Kind::Text, .. }) = self.open {
            self.push(index, Delta::Citation(citation(annotation)), out);
        }
    }

    /// The open block of a kind, opened if it is not.
    fn opened(&mut self, kind: Kind, out: &mut Vec<Event>, more: usize) -> u32 {
        if let Some(open) = self.open.as_mut().filter(|open| open.kind == kind) {
            open.length += more;
            return open.index;
        }
        self.close_open(out);
        let block = match kind {
            Kind::Text => BlockStart::Text,
            Kind::Refusal => BlockStart::Refusal,
            Kind::Thinking => BlockStart::Thinking,
        };
        let index = self.start(block, out);
        self.open = Some(Open { index, kind, length: more });
        index
    }

    fn whole(&mut self, block: BlockStart, out: &mut Vec<Event>) {
        self.close_open(out);
        let index = self.start(block, out);
        out.push(Event::BlockStop { choice: self.choice, index });
    }

    fn start(&mut self, block: BlockStart, out: &mut Vec<Event>) -> u32 {
        let index = self.next;
        self.next += 1;
        out.push(Event::BlockStart { choice: self.choice, index, block });
        index
    }

    fn push(&self, index: u32, delta: Delta, out: &mut Vec<Event>) {
        out.push(Event::Delta { choice: self.choice, index, delta });
    }

    fn tool_call(&mut self, delta: &Json<'_>, out: &mut Vec<Event>) {
        let (kind, body, text) = match delta["custom"].is_object() {
            true => (ToolKind::Custom, &delta["custom"], "input"),
            false => (ToolKind::Function, &delta["function"], "arguments"),
        };
        let name = body["name"].as_str().unwrap_or_default();
        let at = self.call_of(delta["index"].as_u64(), delta["id"].as_str().unwrap_or_default(), name, kind);
        self.grow(at, name, &arguments(&body[text]), out);
    }

    fn function_call(&mut self, delta: &Json<'_>, out: &mut Vec<Event>) {
        let name = delta["name"].as_str().unwrap_or_default();
        let known = self.calls.iter().position(|call| call.place.is_none());
        let at = known.unwrap_or_else(|| self.add(None, "fc_0", ToolKind::Function));
        self.grow(at, name, &arguments(&delta["arguments"]), out);
    }

    /// The call that a delta belongs to.
    fn call_of(&mut self, place: Option<u64>, id: &str, name: &str, kind: ToolKind) -> usize {
        let by_place = |call: &Call| place.is_some() && call.place == place;
        let by_id = |call: &Call| place.is_none() && !id.is_empty() && call.id == id;
        let known = self.calls.iter().rposition(|call| by_place(call) || by_id(call));
        let last = self.calls.len().checked_sub(1).filter(|_| place.is_none() && id.is_empty() && name.is_empty());
        match known.or(last) {
            // The same index with another id and a name of its own is another call of a host that does not count.
            Some(at) if id.is_empty() || name.is_empty() || self.calls[at].id == id => at,
            _ => {
                let count = self.calls.len() as u64;
                self.add(Some(place.unwrap_or(count)), id, kind)
            }
        }
    }

    fn add(&mut self, place: Option<u64>, id: &str, kind: ToolKind) -> usize {
        let count = self.calls.len();
        let id = if id.is_empty() { format!("call_{count}") } else { id.to_owned() };
        let (name, pending) = (String::new(), String::new());
        self.calls.push(Call { place, id, name, kind, block: None, pending });
        count
    }

    fn grow(&mut self, at: usize, name: &str, more: &str, out: &mut Vec<Event>) {
        if self.calls[at].block.is_none() {
            self.calls[at].name.push_str(name);
            if self.calls[at].name.is_empty() {
                self.calls[at].pending.push_str(more);
                return;
            }
            self.start_call(at, out);
        }
        if let (Some(index), false) = (self.calls[at].block, more.is_empty()) {
            self.push(index, Delta::Arguments(more.to_owned()), out);
        }
    }

    fn start_call(&mut self, at: usize, out: &mut Vec<Event>) {
        self.close_open(out);
        let call = &mut self.calls[at];
        let (id, name, kind) = (call.id.clone(), call.name.clone(), call.kind);
        let pending = std::mem::take(&mut call.pending);
        let index = self.start(BlockStart::ToolCall { id, name, kind }, out);
        self.calls[at].block = Some(index);
        if !pending.is_empty() {
            self.push(index, Delta::Arguments(pending), out);
        }
    }

    fn logprobs(&self, logprobs: &Json<'_>, out: &mut Vec<Event>) {
        let is_filled = |list: &Json<'_>| list.as_array().is_some_and(|list| !list.is_empty());
        if logprobs.as_object().is_some_and(|lists| lists.iter().any(|(_, list)| is_filled(list))) {
            out.push(Event::Logprobs { choice: self.choice, value: logprobs.to_value() });
        }
    }

    fn close_open(&mut self, out: &mut Vec<Event>) {
        if let Some(Open { index, .. }) = self.open.take() {
            out.push(Event::BlockStop { choice: self.choice, index });
        }
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        self.close_open(out);
        for at in 0..self.calls.len() {
            if self.calls[at].block.is_none() {
                self.start_call(at, out);
            }
            if let Some(index) = self.calls[at].block {
                out.push(Event::BlockStop { choice: self.choice, index });
            }
        }
    }
}

fn items<'m, 'a>(delta: &'m Object<'a>, key: &str) -> impl Iterator<Item = &'m Json<'a>> {
    delta.get(key).and_then(Json::as_array).into_iter().flatten()
}
