//! Reads a streamed answer, event by event. Tolerates what servers of this shape were seen to do: usage anywhere, a
//! second `message_start`, blocks and deltas that nobody knows, `[DONE]`. An end without its marker is an error.

mod skim;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{
    answer_decode::{opaque, stop_of, text},
    citations, error,
    usage::WireUsage,
};
use crate::{
    error::{ErrorKind, WireError},
    event::{BlockStart, Delta, Event, Start},
    json::{Json, Object},
    request::ToolKind,
    skim::Form,
    sse::Frame,
};

/// Reads one stream.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    started: bool,
    ended: bool,
    stopped: bool,
    usage: WireUsage,
    /// The next index in canonical form.
    next: u32,
    /// Blocks that are open, by their index on the wire.
    open: Vec<Open>,
    form: Form<skim::Sense>,
}

/// A block that is open.
#[derive(Debug)]
struct Open {
    wire: u64,
    index: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thinking,
    Redacted,
    /// A call, with the input of its start where no delta has come, and whether any has.
    Call {
        input: String,
        told: bool,
    },
    /// A block that is told when it is whole.
    Raw {
        name: String,
        value: Value,
        input: String,
    },
}

impl StreamDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a frame. After the end or an error, frames are ignored.
    pub fn frame(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) {
        if self.ended || frame.data.trim().is_empty() {
            return;
        }
        if frame.data.trim() == "[DONE]" {
            if self.stopped {
                self.finish(out);
            }
            return;
        }
        match Json::parse_str(&frame.data) {
            Ok(Json::Object(fields)) => self.event(&fields, frame.event, out),
            Ok(_) => {}
            Err(_) => self.fail(broken("an event of the upstream's stream is not JSON"), out),
        }
    }

    /// The stream is over: an error, unless it came to its end.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if !self.ended {
            self.fail(broken("the upstream broke off before the end of its answer"), out);
        }
    }

    fn event(&mut self, fields: &Object<'_>, name: Option<&str>, out: &mut Vec<Event>) {
        let kind = fields.get("type").and_then(Json::as_str).or(name).unwrap_or_default();
        match kind {
            "message_start" => self.message_start(fields, out),
            "content_block_start" => self.block_start(fields, out),
            "content_block_delta" => self.block_delta(fields, out),
            "content_block_stop" => {
                if let Some(place) = self.place(wire_index(fields)) {
                    self.close(place, out);
                }
            }
            "message_delta" => self.message_delta(fields, out),
            "message_stop" if !self.started => self.fail(broken("the upstream's stream holds no message"), out),
            "message_stop" => self.finish(out),
            "ping" => out.push(Event::Ping),
            "error" => self.fail(error::of_event(&fields.to_map()), out),
            _ if fields.get("error").is_some_and(|error| !error.is_null()) => {
                self.fail(error::of_event(&fields.to_map()), out);
            }
            _ => {}
        }
    }

    /// The first start counts. One within the answer closes what was open, because its indexes begin again.
    fn message_start(&mut self, fields: &Object<'_>, out: &mut Vec<Event>) {
        let none = Object::default();
        let message = fields.get("message").and_then(Json::as_object).unwrap_or(&none);
        self.close_all(out);
        let said = self.usage.merge(message.get("usage"));
        if !self.started {
            self.started = true;
            out.push(Event::Start(Start {
                id: text(message, "id").unwrap_or_default(),
                model: text(message, "model").unwrap_or_default(),
                created: None,
                service_tier: self.usage.service_tier(),
            }));
        }
        if said {
            out.extend(self.usage.usage().map(Event::Usage));
        }
    }

    fn block_start(&mut self, fields: &Object<'_>, out: &mut Vec<Event>) {
        let Some(Json::Object(block)) = fields.get("content_block") else { return };
        let wire = wire_index(fields);
        if let Some(place) = self.place(wire) {
            self.close(place, out);
        }
        let string = |key: &str| text(block, key).unwrap_or_default();
        match word(block, "type") {
            "text" => {
                let index = self.begin(wire, Kind::Text, BlockStart::Text, out);
                tell(index, Delta::Text(string("text")), out);
                for citation in block.get("citations").and_then(Json::as_array).into_iter().flatten() {
                    tell(index, Delta::Citation(citations::decode(citation)), out);
                }
            }
            "thinking" => {
                let index = self.begin(wire, Kind::Thinking, BlockStart::Thinking, out);
                tell(index, Delta::Thinking(string("thinking")), out);
                tell(index, proof(&string("signature")), out);
            }
            "redacted_thinking" => {
                let opaque = opaque(&string("data"));
                let start = BlockStart::RedactedThinking { issuer: opaque.issuer, data: opaque.data };
                self.begin(wire, Kind::Redacted, start, out);
            }
            "tool_use" => {
                let start = BlockStart::ToolCall { id: string("id"), name: string("name"), kind: ToolKind::Function };
                let input = super::answer_decode::input(block);
                self.begin(wire, Kind::Call { input, told: false }, start, out);
            }
            name => {
                let value = Value::Object(block.to_map());
                let kind = Kind::Raw { name: name.to_owned(), value, input: String::new() };
                self.open(wire, kind, out);
            }
        }
    }

    fn begin(&mut self, wire: u64, kind: Kind, block: BlockStart, out: &mut Vec<Event>) -> u32 {
        let index = self.open(wire, kind, out);
        out.push(Event::BlockStart { choice: 0, index, block });
        index
    }

    /// Opens a block. A stream that never said how it begins, begins here.
    fn open(&mut self, wire: u64, kind: Kind, out: &mut Vec<Event>) -> u32 {
        if !self.started {
            self.started = true;
            out.push(Event::Start(Start::default()));
        }
        let index = self.next;
        self.next += 1;
        self.open.push(Open { wire, index, kind });
        index
    }

    fn block_delta(&mut self, fields: &Object<'_>, out: &mut Vec<Event>) {
        let Some(Json::Object(delta)) = fields.get("delta") else { return };
        let kind = word(delta, "type");
        let Some(place) = self.place_or_begin(wire_index(fields), kind, out) else { return };
        let string = |key: &str| text(delta, key).unwrap_or_default();
        let block = &mut self.open[place];
        match (kind, &mut block.kind) {
            ("text_delta", Kind::Text) => tell(block.index, Delta::Text(string("text")), out),
            ("citations_delta", Kind::Text) => {
                if let Some(citation) = delta.get("citation").filter(|citation| citation.is_object()) {
                    tell(block.index, Delta::Citation(citations::decode(citation)), out);
                }
            }
            ("thinking_delta", Kind::Thinking) => tell(block.index, Delta::Thinking(string("thinking")), out),
            ("signature_delta", Kind::Thinking) => tell(block.index, proof(&string("signature")), out),
            ("input_json_delta", Kind::Call { told, .. }) => {
                let more = string("partial_json");
                *told |= !more.is_empty();
                tell(block.index, Delta::Arguments(more), out);
            }
            ("input_json_delta", Kind::Raw { input, .. }) => input.push_str(&string("partial_json")),
            // A delta of a block that is told whole carries the block's own fields.
            (_, Kind::Raw { value: Value::Object(value), .. }) => {
                let told = delta.iter().filter(|(key, _)| *key != "type");
                value.extend(told.map(|(key, told)| (key.to_owned(), told.to_value())));
            }
            _ => {}
        }
    }

    /// The open block of a delta. Some servers leave out the start of a text.
    fn place_or_begin(&mut self, wire: u64, delta: &str, out: &mut Vec<Event>) -> Option<usize> {
        if let Some(place) = self.place(wire) {
            return Some(place);
        }
        match delta {
            "text_delta" => self.begin(wire, Kind::Text, BlockStart::Text, out),
            "thinking_delta" => self.begin(wire, Kind::Thinking, BlockStart::Thinking, out),
            _ => return None,
        };
        self.place(wire)
    }

    fn place(&self, wire: u64) -> Option<usize> {
        self.open.iter().position(|block| block.wire == wire)
    }

    fn close(&mut self, place: usize, out: &mut Vec<Event>) {
        let Open { index, kind, .. } = self.open.remove(place);
        match kind {
            Kind::Call { input, told: false } => tell(index, Delta::Arguments(input), out),
            Kind::Raw { name, mut value, input } => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    value["input"] = input;
                }
                out.push(Event::BlockStart { choice: 0, index, block: BlockStart::Raw { name, value } });
            }
            Kind::Text | Kind::Thinking | Kind::Redacted | Kind::Call { told: true, .. } => {}
        }
        out.push(Event::BlockStop { choice: 0, index });
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        while !self.open.is_empty() {
            self.close(0, out);
        }
    }

    fn message_delta(&mut self, fields: &Object<'_>, out: &mut Vec<Event>) {
        if self.usage.merge(fields.get("usage")) {
            out.extend(self.usage.usage().map(Event::Usage));
        }
        let stop = fields.get("delta").and_then(Json::as_object).and_then(stop_of);
        if let Some(stop) = stop.filter(|_| !self.stopped) {
            self.close_all(out);
            self.stopped = true;
            out.push(Event::Stop { choice: 0, stop });
        }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.close_all(out);
        self.ended = true;
        out.push(Event::End);
    }

    fn fail(&mut self, error: WireError, out: &mut Vec<Event>) {
        self.ended = true;
        out.push(Event::Error(error));
    }
}

fn word<'m>(fields: &'m Object<'_>, key: &str) -> &'m str {
    fields.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn wire_index(fields: &Object<'_>) -> u64 {
    fields.get("index").and_then(Json::as_u64).unwrap_or(0)
}

fn proof(signature: &str) -> Delta {
    let opaque = opaque(signature);
    Delta::Proof { issuer: opaque.issuer, data: opaque.data }
}

/// A delta, unless it says nothing.
fn tell(index: u32, delta: Delta, out: &mut Vec<Event>) {
    let is_empty = match &delta {
        Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text) => text.is_empty(),
        Delta::Proof { data, .. } => data.is_empty(),
        Delta::Citation(_) => false,
    };
    if !is_empty {
        out.push(Event::Delta { choice: 0, index, delta });
    }
}

fn broken(message: &str) -> WireError {
    WireError::new(ErrorKind::Unreachable, message)
}
