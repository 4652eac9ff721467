//! Streams and whole answers are two spellings of one thing: events fold into an [`Answer`], and an answer unfolds into
//! events.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    answer::{Answer, Block, Choice, Stop},
    error::{ErrorKind, WireError},
    event::{BlockStart, Delta, Event, Start},
    request::{Opaque, ToolCall},
};

/// The answer that a stream tells. Errs with the stream's own error, or where it stops before its end.
pub fn accumulate(events: impl IntoIterator<Item = Event>) -> Result<Answer, WireError> {
    let mut accumulator = Accumulator::default();
    for event in events {
        accumulator.push(event)?;
    }
    accumulator.finish()
}

/// Folds events one by one.
#[derive(Debug, Default)]
pub struct Accumulator {
    answer: Answer,
    choices: BTreeMap<u32, Growing>,
    ended: bool,
}

/// A choice that is still told.
#[derive(Debug, Default)]
struct Growing {
    blocks: BTreeMap<u32, Block>,
    stop: Option<Stop>,
    logprobs: Option<Value>,
}

impl Accumulator {
    /// Takes the next event. Errs on [`Event::Error`]; the answer is lost then.
    pub fn push(&mut self, event: Event) -> Result<(), WireError> {
        match event {
            Event::Start(start) => self.start(start),
            Event::BlockStart { choice, index, block } => {
                self.choice(choice).blocks.insert(index, begin(block));
            }
            Event::Delta { choice, index, delta } => {
                if let Some(block) = self.choice(choice).blocks.get_mut(&index) {
                    grow(block, delta);
                }
            }
            Event::Logprobs { choice, value } => join_logprobs(&mut self.choice(choice).logprobs, value),
            Event::Usage(usage) => self.answer.usage = Some(usage),
            Event::Stop { choice, stop } => self.choice(choice).stop = Some(stop),
            Event::End => self.ended = true,
            Event::Error(error) => return Err(error),
            Event::BlockStop { .. } | Event::Ping => {}
        }
        Ok(())
    }

    /// The answer. Errs where no [`Event::End`] came.
    pub fn finish(mut self) -> Result<Answer, WireError> {
        if !self.ended {
            return Err(WireError::new(ErrorKind::Unreachable, "the stream stopped before its end"));
        }
        self.answer.choices = self.choices.into_values().map(Growing::close).collect();
        Ok(self.answer)
    }

    fn start(&mut self, start: Start) {
        self.answer.id = start.id;
        self.answer.model = start.model;
        self.answer.created = start.created;
        self.answer.service_tier = start.service_tier;
    }

    fn choice(&mut self, choice: u32) -> &mut Growing {
        self.choices.entry(choice).or_default()
    }
}

impl Growing {
    fn close(self) -> Choice {
        Choice { blocks: self.blocks.into_values().collect(), stop: self.stop, logprobs: self.logprobs }
    }
}

fn begin(start: BlockStart) -> Block {
    match start {
        BlockStart::Text => Block::Text { text: String::new(), citations: Vec::new() },
        BlockStart::Refusal => Block::Refusal(String::new()),
        BlockStart::Thinking => Block::Thinking { text: String::new(), proof: None },
        BlockStart::RedactedThinking { issuer, data } => Block::RedactedThinking(Opaque { issuer, data }),
        BlockStart::ToolCall { id, name, kind } => {
            Block::ToolCall(ToolCall { id, name, arguments: String::new(), kind })
        }
        BlockStart::Raw { name, value } => Block::Raw { name, value },
    }
}

/// Adds a delta to its block. A delta that does not fit its block adds nothing.
fn grow(block: &mut Block, delta: Delta) {
    match (block, delta) {
        (Block::Text { text, .. } | Block::Refusal(text), Delta::Text(more)) => text.push_str(&more),
        (Block::Text { citations, .. }, Delta::Citation(citation)) => citations.push(citation),
        (Block::Thinking { text, .. }, Delta::Thinking(more)) => text.push_str(&more),
        (Block::Thinking { proof, .. }, Delta::Proof { issuer, data }) => match proof {
            Some(proof) => proof.data.push_str(&data),
            None => *proof = Some(Opaque { issuer, data }),
        },
        (Block::ToolCall(call), Delta::Arguments(more)) => call.arguments.push_str(&more),
        _ => {}
    }
}

/// Appends the lists of one `logprobs` object to those of another, name by name.
fn join_logprobs(sum: &mut Option<Value>, more: Value) {
    let (Some(Value::Object(sum)), Value::Object(more)) = (sum.as_mut(), &more) else {
        *sum = Some(more);
        return;
    };
    for (name, value) in more {
        append(sum, name, value);
    }
}

fn append(sum: &mut Map<String, Value>, name: &str, value: &Value) {
    match (sum.get_mut(name), value) {
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
        (Some(Value::Array(_)), Value::Null) => {}
        _ => {
            sum.insert(name.to_owned(), value.clone());
        }
    }
}

/// The stream that tells an answer: each block in one piece, usage before the stop reasons, the end last.
pub fn unfold(answer: Answer) -> Vec<Event> {
    let mut events = vec![Event::Start(Start {
        id: answer.id,
        model: answer.model,
        created: answer.created,
        service_tier: answer.service_tier,
    })];
    let mut stops = Vec::new();
    for (choice, told) in (0..).zip(answer.choices) {
        for (index, block) in (0..).zip(told.blocks) {
            unfold_block(choice, index, block, &mut events);
        }
        events.extend(told.logprobs.map(|value| Event::Logprobs { choice, value }));
        stops.extend(told.stop.map(|stop| Event::Stop { choice, stop }));
    }
    events.extend(answer.usage.map(Event::Usage));
    events.extend(stops);
    events.push(Event::End);
    events
}

fn unfold_block(choice: u32, index: u32, block: Block, events: &mut Vec<Event>) {
    let (start, deltas) = match block {
        Block::Text { text, citations } => {
            let cited = citations.into_iter().map(Delta::Citation);
            (BlockStart::Text, told(text, Delta::Text).into_iter().chain(cited).collect())
        }
        Block::Refusal(text) => (BlockStart::Refusal, told(text, Delta::Text)),
        Block::Thinking { text, proof } => {
            let proof = proof.map(|Opaque { issuer, data }| Delta::Proof { issuer, data });
            (BlockStart::Thinking, told(text, Delta::Thinking).into_iter().chain(proof).collect())
        }
        Block::RedactedThinking(Opaque { issuer, data }) => (BlockStart::RedactedThinking { issuer, data }, Vec::new()),
        Block::ToolCall(ToolCall { id, name, arguments, kind }) => {
            (BlockStart::ToolCall { id, name, kind }, told(arguments, Delta::Arguments))
        }
        Block::Raw { name, value } => (BlockStart::Raw { name, value }, Vec::new()),
    };
    events.push(Event::BlockStart { choice, index, block: start });
    events.extend(deltas.into_iter().map(|delta| Event::Delta { choice, index, delta }));
    events.push(Event::BlockStop { choice, index });
}

fn told(text: String, delta: impl FnOnce(String) -> Delta) -> Vec<Delta> {
    if text.is_empty() { Vec::new() } else { vec![delta(text)] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        answer::{Citation, StopReason},
        request::{Issuer, ToolKind},
        usage::Usage,
    };

    fn opaque(data: &str) -> Opaque {
        Opaque { issuer: Issuer::Anthropic, data: data.to_owned() }
    }

    fn answer() -> Answer {
        let call = |id: &str, arguments: &str| {
            Block::ToolCall(ToolCall {
                id: id.to_owned(),
                name: "f".to_owned(),
                arguments: arguments.to_owned(),
                kind: ToolKind::Function,
            })
        };
        let first = Choice {
            blocks: vec![
                Block::Thinking { text: "hm".to_owned(), proof: Some(opaque("sig")) },
                Block::RedactedThinking(opaque("dark")),
                Block::Text { text: "hi".to_owned(), citations: vec![Citation::Other(json!({"page": 1}))] },
                call("a", r#"{"x":1}"#),
                call("b", ""),
                Block::Raw { name: "server_tool_use".to_owned(), value: json!({"id": "s"}) },
            ],
            stop: Some(Stop::new(StopReason::ToolUse)),
            logprobs: Some(json!({"content": [{"token": "h"}]})),
        };
        let second = Choice {
            blocks: vec![Block::Refusal("no".to_owned())],
            stop: Some(Stop::new(StopReason::Refusal)),
            logprobs: None,
        };
        Answer {
            id: "id".to_owned(),
            model: "m".to_owned(),
            created: Some(7),
            choices: vec![first, second],
            usage: Some(Usage { input: 1, output: 2, ..Usage::default() }),
            service_tier: Some("default".to_owned()),
        }
    }

    #[test]
    fn an_answer_that_was_unfolded_accumulates_to_itself() {
        assert_eq!(accumulate(unfold(answer())), Ok(answer()));
    }

    #[test]
    fn a_stream_without_its_end_is_no_answer() {
        let mut events = unfold(answer());
        events.pop();
        assert_eq!(accumulate(events).unwrap_err().kind, ErrorKind::Unreachable);
    }

    #[test]
    fn an_error_within_a_stream_is_the_outcome() {
        let error = WireError::new(ErrorKind::Overloaded, "later");
        let events = [Event::Start(Start::default()), Event::Error(error.clone()), Event::End];
        assert_eq!(accumulate(events), Err(error));
    }

    #[test]
    fn log_probabilities_of_several_pieces_are_joined_by_name() {
        let piece = |value| Event::Logprobs { choice: 0, value };
        let events = [
            Event::Start(Start::default()),
            piece(json!({"content": [1], "refusal": null})),
            piece(json!({"content": [2], "refusal": [3]})),
            Event::End,
        ];
        let answer = accumulate(events).unwrap();
        assert_eq!(answer.choices[0].logprobs, Some(json!({"content": [1, 2], "refusal": [3]})));
    }
}
