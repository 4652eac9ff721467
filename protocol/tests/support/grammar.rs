//! What an emitted stream of each shape must look like.

use std::collections::BTreeMap;

use protocol::{
    WireShape,
    sse::{Frame, Parser},
};
use serde_json::Value;

/// Checks the block grammar of a whole emitted stream.
pub(crate) fn check(shape: WireShape, stream: &[u8]) -> Result<(), String> {
    let mut parser = Parser::new();
    parser.push(stream);
    let mut grammar = match shape {
        WireShape::OpenaiChat => Grammar::Chat(Box::default()),
        WireShape::AnthropicMessages => Grammar::Messages(Messages::default()),
    };
    while let Some(frame) = parser.frame().map_err(|fault| fault.to_string())? {
        grammar.frame(&frame).map_err(|fault| format!("{fault}: {}", frame.data))?;
    }
    if !parser.unfinished().is_empty() {
        return Err("bytes behind the last frame".to_owned());
    }
    grammar.end()
}

enum Grammar {
    Chat(Box<Chat>),
    Messages(Messages),
}

impl Grammar {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        match self {
            Grammar::Chat(chat) => chat.frame(frame),
            Grammar::Messages(messages) => messages.frame(frame),
        }
    }

    fn end(&self) -> Result<(), String> {
        let done = match self {
            Grammar::Chat(chat) => chat.done,
            Grammar::Messages(messages) => messages.state == State::Stopped,
        };
        ensure(done, "the end marker is missing")
    }
}

fn ensure(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// message_start (content_block_start delta* content_block_stop)* message_delta message_stop
#[derive(Default)]
struct Messages {
    state: State,
    blocks: u64,
}

#[derive(Default, Clone, PartialEq)]
enum State {
    #[default]
    New,
    Between,
    /// Within a block of this type; whether its signature was seen.
    Block(String, bool),
    Delta,
    Stopped,
}

impl Messages {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let data: Value = serde_json::from_str(&frame.data).map_err(|fault| fault.to_string())?;
        let name = data["type"].as_str().unwrap_or_default();
        ensure(frame.event == Some(name), "the event line names the type")?;
        let next = match (self.state.clone(), name) {
            (state, "ping") => state,
            (State::New, "message_start") => {
                ensure(data["message"]["content"] == Value::Array(Vec::new()), "a message starts empty")?;
                ensure(data["message"]["usage"]["input_tokens"].is_u64(), "a message starts with usage")?;
                State::Between
            }
            (State::Between, "content_block_start") => {
                self.indexed(&data)?;
                State::Block(data["content_block"]["type"].as_str().unwrap_or_default().to_owned(), false)
            }
            (State::Block(block, signed), "content_block_delta") => {
                self.indexed(&data)?;
                let delta = data["delta"]["type"].as_str().unwrap_or_default();
                ensure(fits(&block, delta), "the delta fits its block")?;
                ensure(!signed, "a signature comes last")?;
                State::Block(block, delta == "signature_delta")
            }
            (State::Block(..), "content_block_stop") => {
                self.indexed(&data)?;
                self.blocks += 1;
                State::Between
            }
            (State::Between, "message_delta") => {
                ensure(data["delta"]["stop_reason"].is_string(), "a message stops for a reason")?;
                ensure(data["usage"]["output_tokens"].is_u64(), "a message stops with usage")?;
                State::Delta
            }
            (State::Delta, "message_stop") => State::Stopped,
            _ => return Err("an event at this place".to_owned()),
        };
        self.state = next;
        Ok(())
    }

    fn indexed(&self, data: &Value) -> Result<(), String> {
        ensure(data["index"].as_u64() == Some(self.blocks), "indexes are dense and blocks do not nest")
    }
}

fn fits(block: &str, delta: &str) -> bool {
    match delta {
        "text_delta" | "citations_delta" => block == "text",
        "thinking_delta" | "signature_delta" => block == "thinking",
        "input_json_delta" => block.ends_with("tool_use"),
        _ => false,
    }
}

/// chunks with the role first, tools opened by id and name, one finish reason a choice, usage last, then the end.
#[derive(Default)]
struct Chat {
    chunks: u64,
    head: Option<[Value; 3]>,
    /// Per choice: whether it has finished, and how many tools were opened.
    choices: BTreeMap<u64, (bool, u64)>,
    usage: bool,
    done: bool,
}

impl Chat {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        ensure(frame.event.is_none(), "chat frames have no event line")?;
        ensure(!self.done, "nothing follows the end marker")?;
        if frame.data == "[DONE]" {
            self.done = true;
            return ensure(self.choices.values().all(|(finished, _)| *finished), "every choice has a finish reason");
        }
        let data: Value = serde_json::from_str(&frame.data).map_err(|fault| fault.to_string())?;
        ensure(data["object"] == "chat.completion.chunk", "every chunk says what it is")?;
        let head = [&data["id"], &data["created"], &data["model"]].map(Clone::clone);
        ensure(*self.head.get_or_insert_with(|| head.clone()) == head, "id, time and model stay the same")?;
        ensure(!self.usage, "usage comes last")?;
        let choices = data["choices"].as_array().ok_or("a chunk has choices")?;
        if choices.is_empty() {
            self.usage = data["usage"].is_object();
            return ensure(self.usage, "a chunk without choices has usage");
        }
        self.chunks += 1;
        choices.iter().try_for_each(|choice| self.choice(choice))
    }

    fn choice(&mut self, choice: &Value) -> Result<(), String> {
        let index = choice["index"].as_u64().ok_or("a choice has an index")?;
        let delta = choice["delta"].as_object().ok_or("a choice has a delta")?;
        let is_first = !self.choices.contains_key(&index);
        ensure(delta.contains_key("role") == is_first, "the role is in the first delta alone")?;
        let (finished, tools) = self.choices.entry(index).or_default();
        ensure(!*finished, "nothing follows a finish reason")?;
        *finished = choice["finish_reason"].is_string();
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let place = call["index"].as_u64().ok_or("a tool call has an index")?;
            let named = ["function", "custom"].iter().any(|kind| call[kind]["name"].is_string());
            ensure((place == *tools) == (call["id"].is_string() && named), "a tool call opens with id and name, once")?;
            ensure(place <= *tools, "tool calls are dense")?;
            *tools += u64::from(place == *tools);
        }
        Ok(())
    }
}
