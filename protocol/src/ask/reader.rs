//! Which fields of a request are read, and what of them is kept.

use std::ops::Range;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::{
    Ask, Needs, UsagePlace,
    content::{Content, Messages, Talk},
    conversation::Beginning,
    fields::{Elements, Fields, ListOf, ObjectOf, skip},
    path::Path,
    values::{boolean, member, nested, number, string},
};
use crate::WireShape;

/// What kind of body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Conversation,
    Embeddings,
}

/// Bytes that stand for one token of an input that comes as token numbers.
const BYTES_PER_TOKEN: usize = 4;

/// Reads the fields at the top of a body.
pub(super) struct Reader<'b> {
    body: &'b str,
    kind: Body,
    shape: WireShape,
    /// Where reading is, to be named if it fails.
    path: Path,
    model: String,
    model_spans: Vec<Range<usize>>,
    stream: bool,
    include_usage: Option<bool>,
    usage_place: UsagePlace,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    answers: Option<u64>,
    system: Talk,
    talk: Talk,
    messages: usize,
    tools: Tools,
    functions: Tools,
    parallel_tools: bool,
    speaks: bool,
    json_schema: bool,
    effort: Option<bool>,
    thinking: Option<bool>,
    user: Option<String>,
    safety_identifier: Option<String>,
    cache_key: Option<String>,
    beginning: Beginning,
}

/// What was counted of a list of tools.
#[derive(Default)]
struct Tools {
    count: usize,
    bytes: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(shape: WireShape, kind: Body, body: &'b str) -> Self {
        Self {
            body,
            kind,
            shape,
            path: Path::default(),
            model: String::new(),
            model_spans: Vec::new(),
            stream: false,
            include_usage: None,
            usage_place: UsagePlace::Absent,
            max_tokens: None,
            max_completion_tokens: None,
            answers: None,
            system: Talk::default(),
            talk: Talk::default(),
            messages: 0,
            tools: Tools::default(),
            functions: Tools::default(),
            parallel_tools: false,
            speaks: false,
            json_schema: false,
            effort: None,
            thinking: None,
            user: None,
            safety_identifier: None,
            cache_key: None,
            beginning: Beginning::default(),
        }
    }

    /// Where reading stopped; none: at the top.
    pub(super) fn path(&self) -> Option<String> {
        self.path.words()
    }

    pub(super) fn into_ask(self) -> Ask {
        let needs = Needs {
            tools: self.tools.count + self.functions.count > 0,
            parallel_tools: self.parallel_tools,
            vision: self.talk.images > 0,
            documents: self.talk.documents > 0,
            json_schema: self.json_schema,
            reasoning: self.thinking.or(self.effort).unwrap_or(false),
            audio_in: self.talk.sounds > 0,
            audio_out: self.speaks,
        };
        Ask {
            shape: self.shape,
            stream: self.stream,
            include_usage: self.include_usage,
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            answers: self.answers.unwrap_or(1),
            text_bytes: self.system.text_bytes + self.talk.text_bytes + self.tools.bytes + self.functions.bytes,
            messages: self.messages,
            tools: self.tools.count + self.functions.count,
            images: self.talk.images,
            documents: self.talk.documents,
            audio: needs.audio_in || needs.audio_out,
            needs,
            legacy_functions: self.functions.count > 0,
            end_user: self.safety_identifier.or(self.user),
            cache_key: self.cache_key,
            conversation: self.beginning.hash(),
            model: self.model,
            model_spans: self.model_spans,
            usage_place: self.usage_place,
        }
    }

    /// Reads the value of `name`, with its name on the path while it is read.
    fn at<T, X>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Result<T, X>) -> Result<T, X> {
        self.path.field(name);
        let value = read(self)?;
        self.path.pop();
        Ok(value)
    }

    fn span_of(&self, raw: &RawValue) -> Range<usize> {
        let start = raw.get().as_ptr() as usize - self.body.as_ptr() as usize;
        start..start + raw.get().len()
    }

    fn model<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let raw = map.next_value::<&RawValue>()?;
        self.model = string(raw)?.unwrap_or_default();
        let span = self.span_of(raw);
        self.model_spans.push(span);
        Ok(())
    }

    fn stream_options<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let raw = map.next_value::<&RawValue>()?;
        let span = self.span_of(raw);
        (self.include_usage, self.usage_place) = match raw.get() {
            "null" => (None, UsagePlace::Null(span)),
            text => self.stream_options_object(text, span).map_err(A::Error::custom)?,
        };
        Ok(())
    }

    fn stream_options_object(
        &mut self,
        text: &str,
        span: Range<usize>,
    ) -> Result<(Option<bool>, UsagePlace), serde_json::Error> {
        let mut options = StreamOptions::default();
        let mut json = serde_json::Deserializer::from_str(text);
        ObjectOf(&mut options).deserialize(&mut json)?;
        let Some(value) = options.include_usage else {
            return Ok((None, UsagePlace::Object { inside: span.start + 1, empty: options.empty() }));
        };
        let asked = self.at("include_usage", |_| boolean::<serde_json::Error>(value))?;
        Ok((asked, UsagePlace::Value(self.span_of(value))))
    }

    fn read_messages<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        self.beginning.restart_messages();
        let (path, beginning) = (&mut self.path, &mut self.beginning);
        let mut messages = Messages { path, talk: Talk::default(), count: 0, beginning };
        map.next_value_seed(ListOf(&mut messages))?;
        (self.talk, self.messages) = (messages.talk, messages.count);
        Ok(())
    }

    fn read_system<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let mut content = Content::new(&mut self.path, true);
        map.next_value_seed(ListOf(&mut content))?;
        let (talk, hash) = content.close();
        self.system = talk;
        self.beginning.instruct(hash);
        Ok(())
    }

    fn read_input<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        self.messages = 0;
        self.talk = Talk::default();
        map.next_value_seed(ListOf(&mut Inputs(self)))
    }

    fn anthropic_user<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let Some(id) = member(map.next_value()?, "user_id")? else { return Ok(()) };
        self.cache_key = session_of(&id);
        self.user = Some(id);
        Ok(())
    }

    fn chat_field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "stream_options" => self.at("stream_options", |this| this.stream_options(map)),
            "max_completion_tokens" => self.at("max_completion_tokens", |this| {
                this.max_completion_tokens = number(map.next_value()?)?;
                Ok(())
            }),
            "n" => self.at("n", |this| {
                this.answers = number(map.next_value()?)?;
                Ok(())
            }),
            "functions" => self.at("functions", |this| {
                this.functions = tools(map.next_value()?);
                Ok(())
            }),
            "parallel_tool_calls" => self.at("parallel_tool_calls", |this| {
                this.parallel_tools = boolean(map.next_value()?)? == Some(true);
                Ok(())
            }),
            "response_format" => self.at("response_format", |this| {
                this.json_schema = member(map.next_value()?, "type")?.as_deref() == Some("json_schema");
                Ok(())
            }),
            "reasoning_effort" => self.at("reasoning_effort", |this| {
                this.effort = string(map.next_value()?)?.map(|effort| effort != "none");
                Ok(())
            }),
            "modalities" => self.at("modalities", |this| {
                this.speaks = map.next_value::<&RawValue>()?.get().contains("\"audio\"");
                Ok(())
            }),
            "user" => self.at("user", |this| {
                this.user = string(map.next_value()?)?;
                Ok(())
            }),
            "safety_identifier" => self.at("safety_identifier", |this| {
                this.safety_identifier = string(map.next_value()?)?;
                Ok(())
            }),
            "prompt_cache_key" => self.at("prompt_cache_key", |this| {
                this.cache_key = string(map.next_value()?)?;
                Ok(())
            }),
            _ => skip(map),
        }
    }

    fn messages_field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "system" => self.at("system", |this| this.read_system(map)),
            "thinking" => self.at("thinking", |this| {
                this.thinking = member(map.next_value()?, "type")?.map(|mode| mode != "disabled");
                Ok(())
            }),
            "output_config" => self.at("output_config", |this| {
                let raw: &RawValue = map.next_value()?;
                this.json_schema = nested(raw, "format", "type")?.as_deref() == Some("json_schema");
                this.effort = member(raw, "effort")?.map(|effort| effort != "none");
                Ok(())
            }),
            "metadata" => self.at("metadata", |this| this.anthropic_user(map)),
            _ => skip(map),
        }
    }
}

impl<'de> Fields<'de> for Reader<'_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match (self.kind, self.shape, name) {
            (_, _, "model") => self.at("model", |this| this.model(map)),
            (Body::Embeddings, _, "input") => self.at("input", |this| this.read_input(map)),
            (Body::Embeddings, _, "user") => self.chat_field(name, map),
            (Body::Embeddings, _, _) => skip(map),
            (Body::Conversation, _, "stream") => self.at("stream", |this| {
                this.stream = boolean(map.next_value()?)?.unwrap_or(false);
                Ok(())
            }),
            (Body::Conversation, _, "max_tokens") => self.at("max_tokens", |this| {
                this.max_tokens = number(map.next_value()?)?;
                Ok(())
            }),
            (Body::Conversation, _, "messages") => self.at("messages", |this| this.read_messages(map)),
            (Body::Conversation, _, "tools") => self.at("tools", |this| {
                this.tools = tools(map.next_value()?);
                Ok(())
            }),
            (Body::Conversation, WireShape::OpenaiChat, _) => self.chat_field(name, map),
            (Body::Conversation, WireShape::AnthropicMessages, _) => self.messages_field(name, map),
        }
    }
}

/// The fields of `stream_options`.
#[derive(Default)]
struct StreamOptions<'de> {
    include_usage: Option<&'de RawValue>,
    others: usize,
}

impl StreamOptions<'_> {
    fn empty(&self) -> bool {
        self.include_usage.is_none() && self.others == 0
    }
}

impl<'de> Fields<'de> for StreamOptions<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name == "include_usage" {
            self.include_usage = Some(map.next_value()?);
            return Ok(());
        }
        self.others += 1;
        skip(map)
    }
}

/// The inputs of an embedding: a string, strings, tokens, or lists of tokens.
struct Inputs<'r, 'b>(&'r mut Reader<'b>);

impl<'de> Elements<'de> for Inputs<'_, '_> {
    fn element<A: SeqAccess<'de>>(&mut self, index: usize, list: &mut A) -> Result<bool, A::Error> {
        let Some(raw) = list.next_element::<&RawValue>()? else { return Ok(false) };
        let bytes = match raw.get().as_bytes().first() {
            Some(b'"') => raw.get().len() - 2,
            Some(b'[') => BYTES_PER_TOKEN * (1 + raw.get().matches(',').count()),
            _ => BYTES_PER_TOKEN,
        };
        let is_token = !raw.get().starts_with(['"', '[']);
        self.0.talk.text_bytes += bytes;
        self.0.messages += usize::from(!is_token || index == 0);
        Ok(true)
    }

    fn text(&mut self, text: &[u8]) {
        self.0.talk.text_bytes += text.len();
        self.0.messages = 1;
    }
}

/// Counts the elements of a list of objects at its top; zero for anything else.
fn tools(raw: &RawValue) -> Tools {
    let count = serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_or(0, |tools| tools.len());
    Tools { count, bytes: if count == 0 { 0 } else { raw.get().len() } }
}

/// The session in a `user_id` of Claude Code: a JSON object, or words joined by `_` in its older form.
fn session_of(user_id: &str) -> Option<String> {
    if user_id.starts_with('{') {
        let raw: &RawValue = serde_json::from_str(user_id).ok()?;
        return member::<serde_json::Error>(raw, "session_id").ok().flatten();
    }
    user_id.rsplit_once("_session_").map(|(_, session)| session.to_owned())
}
