//! There and back is where one began, for all that both shapes can say: texts, images, tools, calls and their results,
//! instructions, stop sequences, caps, sampling, tool choice, strictness and schemas. And nothing of it is a loss.

#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use proptest::{prelude::*, sample::select};
use protocol::{
    WireShape, codec,
    request::{OutputFormat, PartKind, Request, Role, ToolChoice},
};
use serde_json::{Map, Value, json};
use support::{TargetModel, other};

/// A conversation in words of neither shape.
#[derive(Clone, Debug)]
struct Talk {
    system: Vec<String>,
    rounds: Vec<Round>,
    tools: usize,
    choice: Option<&'static str>,
    one_at_a_time: bool,
    strict: Option<bool>,
    cap: u64,
    temperature: Option<u8>,
    stop: Vec<String>,
    schema: bool,
}

/// What a user says, and what the model answered; the last round has no answer.
#[derive(Clone, Debug)]
struct Round {
    said: Vec<Said>,
    answer: String,
    /// City by call.
    calls: Vec<String>,
    results: Vec<String>,
}

#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Inline(String),
    Address(String),
}

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9äß\u{1F600} .\"\\\\\n]{0,10}[a-z]"
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        4 => word().prop_map(Said::Text),
        1 => "[A-Za-z0-9+/]{8}".prop_map(Said::Inline),
        1 => "[a-z]{1,8}".prop_map(|name| Said::Address(format!("https://example.com/{name}.png"))),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let calls = prop::collection::vec((word(), word()), 0..3);
    (prop::collection::vec(said(), 1..3), word(), calls).prop_map(|(said, answer, calls)| {
        let (calls, results) = calls.into_iter().unzip();
        Round { said, answer, calls, results }
    })
}

fn talk() -> impl Strategy<Value = Talk> {
    let conversation = (prop::collection::vec(word(), 0..3), prop::collection::vec(round(), 1..4));
    let choice = prop::option::of(select(vec!["auto", "none", "required", "tool_0"]));
    let tools = (0..3_usize, choice, any::<bool>(), prop::option::of(any::<bool>()));
    let limits = (1..4000_u64, prop::option::of(0..=10_u8), prop::collection::vec("[A-Z]{1,4}", 0..4), any::<bool>());
    (conversation, tools, limits).prop_map(
        |((system, rounds), (tools, choice, one, strict), (cap, heat, stop, schema))| Talk {
            system,
            rounds,
            tools,
            choice: choice.filter(|_| tools > 0),
            one_at_a_time: one && tools > 0 && choice != Some("none"),
            strict,
            cap,
            temperature: heat,
            stop,
            schema,
        },
    )
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false})
}

impl Talk {
    fn wire(&self, shape: WireShape) -> Value {
        match shape {
            WireShape::OpenaiChat => self.chat(),
            WireShape::AnthropicMessages => self.messages(),
        }
    }

    fn chat(&self) -> Value {
        let mut messages: Vec<Value> =
            self.system.iter().map(|text| json!({"role": "system", "content": text})).collect();
        for (index, round) in self.rounds.iter().enumerate() {
            messages.push(json!({"role": "user", "content": round.said.iter().map(chat_part).collect::<Value>()}));
            if index + 1 < self.rounds.len() {
                messages.extend(round.chat(index));
            }
        }
        let mut body = self.limits("max_completion_tokens", "stop", messages);
        if self.tools > 0 {
            body.insert("tools".to_owned(), (0..self.tools).map(|index| self.chat_tool(index)).collect());
        }
        if let Some(choice) = self.choice {
            let named = json!({"type": "function", "function": {"name": choice}});
            body.insert("tool_choice".to_owned(), if choice == "tool_0" { named } else { choice.into() });
        }
        if self.one_at_a_time {
            body.insert("parallel_tool_calls".to_owned(), false.into());
        }
        if self.schema {
            let format = json!({"name": "response", "strict": true, "schema": schema()});
            body.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": format}));
        }
        body.into()
    }

    fn messages(&self) -> Value {
        let mut messages: Vec<Value> = Vec::new();
        let mut results: Vec<Value> = Vec::new();
        for (index, round) in self.rounds.iter().enumerate() {
            let mut content = std::mem::take(&mut results);
            content.extend(round.said.iter().map(messages_part));
            messages.push(json!({"role": "user", "content": content}));
            if index + 1 < self.rounds.len() {
                let (told, answered) = round.messages(index);
                messages.push(json!({"role": "assistant", "content": told}));
                results = answered;
            }
        }
        let mut body = self.limits("max_tokens", "stop_sequences", messages);
        if !self.system.is_empty() {
            let blocks = self.system.iter().map(|text| json!({"type": "text", "text": text}));
            body.insert("system".to_owned(), blocks.collect());
        }
        if self.tools > 0 {
            body.insert("tools".to_owned(), (0..self.tools).map(|index| self.messages_tool(index)).collect());
        }
        if let Some(choice) = self.messages_choice() {
            body.insert("tool_choice".to_owned(), choice);
        }
        if self.schema {
            body.insert("output_config".to_owned(), json!({"format": {"type": "json_schema", "schema": schema()}}));
        }
        body.into()
    }

    fn limits(&self, cap: &str, stop: &str, messages: Vec<Value>) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".to_owned(), "m".into());
        body.insert(cap.to_owned(), self.cap.into());
        body.insert("messages".to_owned(), messages.into());
        if !self.stop.is_empty() {
            body.insert(stop.to_owned(), self.stop.clone().into());
        }
        if let Some(tenths) = self.temperature {
            body.insert("temperature".to_owned(), (f64::from(tenths) / 10.0).into());
        }
        body
    }

    fn chat_tool(&self, index: usize) -> Value {
        let mut function = json!({"name": format!("tool_{index}"), "description": "d", "parameters": schema()});
        if let Some(strict) = self.strict {
            function["strict"] = strict.into();
        }
        json!({"type": "function", "function": function})
    }

    fn messages_tool(&self, index: usize) -> Value {
        let mut tool = json!({"name": format!("tool_{index}"), "description": "d", "input_schema": schema()});
        if let Some(strict) = self.strict {
            tool["strict"] = strict.into();
        }
        tool
    }

    fn messages_choice(&self) -> Option<Value> {
        let mut choice = match self.choice {
            None if self.one_at_a_time => json!({"type": "auto"}),
            None => return None,
            Some("required") => json!({"type": "any"}),
            Some("tool_0") => json!({"type": "tool", "name": "tool_0"}),
            Some(word) => json!({"type": word}),
        };
        if self.one_at_a_time {
            choice["disable_parallel_tool_use"] = true.into();
        }
        Some(choice)
    }
}

impl Round {
    fn id(round: usize, call: usize) -> String {
        format!("call_{round}_{call}")
    }

    fn chat(&self, round: usize) -> Vec<Value> {
        let call = |(index, city): (usize, &String)| {
            let function = json!({"name": "tool_0", "arguments": json!({"city": city}).to_string()});
            json!({"id": Self::id(round, index), "type": "function", "function": function})
        };
        let calls: Vec<Value> = self.calls.iter().enumerate().map(call).collect();
        let mut told = json!({"role": "assistant", "content": self.answer});
        if !calls.is_empty() {
            told["tool_calls"] = calls.into();
        }
        let result = |(index, text): (usize, &String)| json!({"role": "tool", "tool_call_id": Self::id(round, index), "content": text});
        std::iter::once(told).chain(self.results.iter().enumerate().map(result)).collect()
    }

    fn messages(&self, round: usize) -> (Vec<Value>, Vec<Value>) {
        let call = |(index, city): (usize, &String)| json!({"type": "tool_use", "id": Self::id(round, index), "name": "tool_0", "input": {"city": city}});
        let result = |(index, text): (usize, &String)| json!({"type": "tool_result", "tool_use_id": Self::id(round, index), "content": text});
        let told = std::iter::once(json!({"type": "text", "text": self.answer}));
        let told = told.chain(self.calls.iter().enumerate().map(call)).collect();
        (told, self.results.iter().enumerate().map(result).collect())
    }
}

fn chat_part(said: &Said) -> Value {
    match said {
        Said::Text(text) => json!({"type": "text", "text": text}),
        Said::Inline(data) => {
            json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}})
        }
        Said::Address(url) => json!({"type": "image_url", "image_url": {"url": url}}),
    }
}

fn messages_part(said: &Said) -> Value {
    match said {
        Said::Text(text) => json!({"type": "text", "text": text}),
        Said::Inline(data) => {
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
        }
        Said::Address(url) => json!({"type": "image", "source": {"type": "url", "url": url}}),
    }
}

/// What a request says, without the words of its shape.
#[derive(Debug, PartialEq)]
struct Meaning {
    said: Vec<(Role, PartKind)>,
    rest: Request,
}

fn meaning(shape: WireShape, body: &[u8]) -> Meaning {
    let mut request = codec::decode_request(shape, body).unwrap();
    let turns = std::mem::take(&mut request.turns);
    let said = turns.into_iter().flat_map(|turn| turn.parts.into_iter().map(move |part| (turn.role, part.kind)));
    let said = said.map(|(role, kind)| (if role == Role::Developer { Role::System } else { role }, kind)).collect();
    if let Some(OutputFormat::JsonSchema { name, strict, .. }) = &mut request.format {
        (*name, *strict) = (None, None);
    }
    let rest = Request {
        source: WireShape::OpenaiChat,
        model: String::new(),
        include_usage: false,
        // To decide by itself is the default; a choice may have been written only to forbid parallel calls.
        tool_choice: request.tool_choice.take().filter(|choice| *choice != ToolChoice::Auto),
        ..request
    };
    Meaning { said, rest }
}

/// The request for a model of the other shape; there must be no loss.
fn translated(from: WireShape, body: &[u8]) -> Vec<u8> {
    let model = TargetModel::lenient(other(from));
    let encoded = protocol::translate::request(body, from, &model.target()).unwrap();
    assert_eq!(encoded.losses, []);
    encoded.body
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_comes_back_as_it_was(talk in talk()) {
        for shape in support::SHAPES {
            let there = translated(shape, talk.wire(shape).to_string().as_bytes());
            let back = translated(other(shape), &there);
            prop_assert_eq!(meaning(shape, &back), meaning(shape, talk.wire(shape).to_string().as_bytes()));
        }
    }

    #[test]
    fn a_translation_says_what_the_other_shape_would_have_said(talk in talk()) {
        for shape in support::SHAPES {
            let there = translated(shape, talk.wire(shape).to_string().as_bytes());
            let direct = talk.wire(other(shape)).to_string();
            prop_assert_eq!(meaning(other(shape), &there), meaning(other(shape), direct.as_bytes()));
        }
    }
}
