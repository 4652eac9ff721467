//! Reads a streamed answer, event by event. Tolerates what servers of this shape were seen to do: usage anywhere, a
//! second `message_start`, blocks and deltas that nobody knows, `[DONE]`. An end without its marker is an error.

use serde_json::{Map, Value};

use super::{
    answer_decode::{opaque, stop_of, text},
    citations, error,
    usage::WireUsage,
};
use crate::{
    error::{ErrorKind, WireError},
    event::{BlockStart, Delta, Event, Start},
    request::ToolKind,
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
        match serde_json::from_str(&frame.data) {
            Ok(Value::Object(fields)) => self.event(&fields, frame.event, out),
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

    fn event(&mut self, fields: &Map<String, Value>, name: Option<&str>, out: &mut Vec<Event>) {
        let kind = fields.get("type").and_then(Value::as_str).or(name).unwrap_or_default();
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
            "message_stop" => self.finish(out),
            "ping" => out.push(Event::Ping),
            "error" => self.fail(error::of_event(fields), out),
            _ if fields.get("error").is_some_and(|error| !error.is_null()) => {
                self.fail(error::of_event(fields), out);
            }
            _ => {}
        }
    }

    /// The first start counts. One within the answer closes what was open, because its indexes begin again.
    fn message_start(&mut self, fields: &Map<String, Value>, out: &mut Vec<Event>) {
        let none = Map::new();
        let message = fields.get("message").and_then(Value::as_object).unwrap_or(&none);
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

    fn block_start(&mut self, fields: &Map<String, Value>, out: &mut Vec<Event>) {
        let Some(Value::Object(block)) = fields.get("content_block") else { return };
        let wire = wire_index(fields);
        if let Some(place) = self.place(wire) {
            self.close(place, out);
        }
        let string = |key: &str| text(block, key).unwrap_or_default();
        match string("type").as_str() {
            "text" => {
                let index = self.begin(wire, Kind::Text, BlockStart::Text, out);
                tell(index, Delta::Text(string("text")), out);
                for citation in block.get("citations").and_then(Value::as_array).into_iter().flatten() {
                    tell(index, Delta::Citation(citations::decode(citation.clone())), out);
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
                let value = Value::Object(block.clone());
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

    fn block_delta(&mut self, fields: &Map<String, Value>, out: &mut Vec<Event>) {
        let Some(Value::Object(delta)) = fields.get("delta") else { return };
        let kind = text(delta, "type").unwrap_or_default();
        let Some(place) = self.place_or_begin(wire_index(fields), &kind, out) else { return };
        let string = |key: &str| text(delta, key).unwrap_or_default();
        let block = &mut self.open[place];
        match (kind.as_str(), &mut block.kind) {
            ("text_delta", Kind::Text) => tell(block.index, Delta::Text(string("text")), out),
            ("citations_delta", Kind::Text) => {
                if let Some(citation) = delta.get("citation").filter(|citation| citation.is_object()) {
                    tell(block.index, Delta::Citation(citations::decode(citation.clone())), out);
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
                value.extend(delta.iter().filter(|(key, _)| *key != "type").map(|(key, v)| (key.clone(), v.clone())));
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

    fn message_delta(&mut self, fields: &Map<String, Value>, out: &mut Vec<Event>) {
        if self.usage.merge(fields.get("usage")) {
            out.extend(self.usage.usage().map(Event::Usage));
        }
        let stop = fields.get("delta").and_then(Value::as_object).and_then(stop_of);
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

fn wire_index(fields: &Map<String, Value>) -> u64 {
    fields.get("index").and_then(Value::as_u64).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        answer::{Answer, Block, StopReason},
        fold::accumulate,
        request::{Issuer, Opaque, ToolCall},
    };

    fn events(frames: &[Value]) -> Vec<Event> {
        let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
        for frame in frames {
            decoder.frame(&Frame::new(frame["type"].as_str(), &frame.to_string()), &mut out);
        }
        decoder.end(&mut out);
        out
    }

    fn answer(frames: &[Value]) -> Answer {
        accumulate(events(frames)).expect("a stream that ends well")
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
            "model": "claude", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}}})
    }

    fn begin(index: u64, block: Value) -> Value {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    fn delta(index: u64, delta: Value) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    fn stop(index: u64) -> Value {
        json!({"type": "content_block_stop", "index": index})
    }

    fn ending(reason: &str) -> [Value; 2] {
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        [
            json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}}),
            json!({"type": "message_stop"}),
        ]
    }

    fn text(text: &str) -> Value {
        json!({"type": "text_delta", "text": text})
    }

    #[test]
    fn reads_text_usage_and_the_reason() {
        let [reason, end] = ending("end_turn");
        let answer = answer(&[
            start(),
            begin(0, json!({"type": "text", "text": ""})),
            json!({"type": "ping"}),
            delta(0, text("he")),
            delta(0, text("y")),
            stop(0),
            reason,
            end,
        ]);
        assert_eq!(answer.choices[0].blocks, [Block::Text { text: "hey".into(), citations: Vec::new() }]);
        assert_eq!(answer.choices[0].stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::EndTurn));
        let usage = answer.usage.expect("said");
        assert_eq!((usage.input, usage.cache_read, usage.output), (10, 4, 20));
        assert_eq!((answer.id.as_str(), answer.model.as_str()), ("msg_1", "claude"));
    }

    #[test]
    fn reads_thinking_and_calls() {
        let [reason, end] = ending("tool_use");
        let answer = answer(&[
            start(),
            begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            delta(0, json!({"type": "signature_delta", "signature": "s=="})),
            stop(0),
            begin(1, json!({"type": "redacted_thinking", "data": "dark"})),
            stop(1),
            begin(2, json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
            delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "{\"x\":"})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
            stop(2),
            begin(3, json!({"type": "tool_use", "id": "b", "name": "g", "input": {}})),
            stop(3),
            reason,
            end,
        ]);
        let opaque = |data: &str| Opaque { issuer: Issuer::Anthropic, data: data.into() };
        let call = |id: &str, name: &str, arguments: &str| {
            Block::ToolCall(ToolCall {
                id: id.into(),
                name: name.into(),
                arguments: arguments.into(),
                kind: ToolKind::Function,
            })
        };
        assert_eq!(
            answer.choices[0].blocks,
            [
                Block::Thinking { text: "hm".into(), proof: Some(opaque("s==")) },
                Block::RedactedThinking(opaque("dark")),
                call("a", "f", r#"{"x":1}"#),
                call("b", "g", "{}"),
            ]
        );
    }

    #[test]
    fn a_second_start_changes_neither_id_nor_what_was_said() {
        let [reason, end] = ending("tool_use");
        let tool = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
        let mut second = start();
        second["message"]["id"] = json!("msg_2");
        let answer = answer(&[
            start(),
            begin(0, tool.clone()),
            delta(0, json!({"type": "input_json_delta", "partial_json": "{\"cut"})),
            second,
            begin(0, tool),
            delta(0, json!({"type": "input_json_delta", "partial_json": "{}"})),
            stop(0),
            reason,
            end,
        ]);
        assert_eq!((answer.id.as_str(), answer.choices[0].blocks.len()), ("msg_1", 2));
    }

    #[test]
    fn a_block_that_nobody_knows_is_told_whole() {
        let [reason, end] = ending("end_turn");
        let answer = answer(&[
            start(),
            begin(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
            delta(0, json!({"type": "input_json_delta", "partial_json": "{\"query\": \"q\"}"})),
            stop(0),
            begin(1, json!({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}})),
            stop(1),
            begin(2, json!({"type": "compaction", "content": null})),
            delta(2, json!({"type": "compaction_delta", "content": "so far"})),
            stop(2),
            reason,
            end,
        ]);
        let raw = |value: Value| Block::Raw { name: value["type"].as_str().unwrap_or_default().into(), value };
        assert_eq!(
            answer.choices[0].blocks,
            [
                raw(json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}})),
                raw(json!({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}})),
                raw(json!({"type": "compaction", "content": "so far"})),
            ]
        );
    }

    #[test]
    fn unknown_events_and_deltas_are_passed_over() {
        let [reason, end] = ending("end_turn");
        let answer = answer(&[
            json!({"type": "never_heard_of"}),
            start(),
            begin(0, json!({"type": "text", "text": ""})),
            delta(0, json!({"type": "novel_delta", "novel": 1})),
            delta(0, text("hi")),
            delta(9, json!({"type": "input_json_delta", "partial_json": "{}"})),
            stop(0),
            stop(7),
            reason,
            end,
        ]);
        assert_eq!(answer.choices[0].blocks, [Block::Text { text: "hi".into(), citations: Vec::new() }]);
    }

    #[test]
    fn an_end_without_its_marker_is_an_error() {
        let cut = [start(), begin(0, json!({"type": "text", "text": ""})), delta(0, text("h"))];
        for length in 0..=cut.len() {
            let last = events(&cut[..length]).pop();
            assert!(matches!(last, Some(Event::Error(error)) if error.kind == ErrorKind::Unreachable));
        }
    }

    #[test]
    fn an_error_event_ends_the_stream() {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        let events = events(&[start(), error, json!({"type": "message_stop"})]);
        let Some(Event::Error(error)) = events.last() else { panic!("no error") };
        assert_eq!((error.kind, error.status, error.message.as_str()), (ErrorKind::Overloaded, 503, "Overloaded"));
        assert!(!events.contains(&Event::End));
    }

    #[test]
    fn done_ends_what_has_its_reason_and_nothing_else() {
        let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
        let [reason, _] = ending("end_turn");
        decoder.frame(&Frame::new(None, "[DONE]"), &mut out);
        assert!(out.is_empty());
        for frame in [start(), reason] {
            decoder.frame(&Frame::new(None, &frame.to_string()), &mut out);
        }
        decoder.frame(&Frame::new(None, "[DONE]"), &mut out);
        decoder.end(&mut out);
        assert_eq!(out.last(), Some(&Event::End));
    }

    #[test]
    fn frames_that_are_no_json_are_an_error() {
        let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
        decoder.frame(&Frame::new(None, "<html>"), &mut out);
        assert!(matches!(out.as_slice(), [Event::Error(_)]));
    }
}
