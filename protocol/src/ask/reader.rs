//! Which fields of a request are read, and what of them is kept.

use std::ops::Range;

use serde::de::Error;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{
    Ask, Needs, UsagePlace,
    content::{Content, Messages, Talk},
    conversation::Beginning,
    fields::{Elements, Fields, Value},
    path::Path,
    values::{boolean, member, nested, number, object, string},
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
    model_spans: SmallVec<[Range<usize>; 1]>,
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
            model_spans: SmallVec::new(),
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

    fn span_of(&self, raw: &str) -> Range<usize> {
        let start = raw.as_ptr() as usize - self.body.as_ptr() as usize;
        start..start + raw.len()
    }

    fn model<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        let raw = value.raw()?;
        self.model = string(raw)?.unwrap_or_default();
        let span = self.span_of(raw);
        self.model_spans.push(span);
        Ok(())
    }

    fn stream_options<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        let raw = value.raw()?;
        let span = self.span_of(raw);
        (self.include_usage, self.usage_place) = match raw {
            "null" => (None, UsagePlace::Null(span)),
            text => self.stream_options_object(text, span).map_err(V::Error::custom)?,
        };
        Ok(())
    }

    fn stream_options_object(
        &mut self,
        text: &str,
        span: Range<usize>,
    ) -> Result<(Option<bool>, UsagePlace), serde_json::Error> {
        let options = object(text, StreamOptions::default)?;
        let Some(value) = options.include_usage else {
            return Ok((None, UsagePlace::Object { inside: span.start + 1, empty: options.empty() }));
        };
        let asked = self.at("include_usage", |_| boolean::<serde_json::Error>(value))?;
        Ok((asked, UsagePlace::Value(self.span_of(value))))
    }

    fn read_messages<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        self.beginning.restart_messages();
        let (path, beginning) = (&mut self.path, &mut self.beginning);
        let mut messages = Messages { path, talk: Talk::default(), count: 0, beginning };
        value.list(&mut messages)?;
        (self.talk, self.messages) = (messages.talk, messages.count);
        Ok(())
    }

    fn read_system<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        let mut content = Content::new(&mut self.path, true);
        value.list(&mut content)?;
        let (talk, hash) = content.close();
        self.system = talk;
        self.beginning.instruct(hash);
        Ok(())
    }

    fn read_input<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        self.messages = 0;
        self.talk = Talk::default();
        value.list(&mut Inputs(self))
    }

    fn anthropic_user<'v, V: Value<'v>>(&mut self, value: V) -> Result<(), V::Error> {
        let Some(id) = member(value.raw()?, "user_id")? else { return Ok(()) };
        self.cache_key = session_of(&id);
        self.user = Some(id);
        Ok(())
    }

    fn chat_field<'v, V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match name {
            "stream_options" => self.at("stream_options", |this| this.stream_options(value)),
            "max_completion_tokens" => self.at("max_completion_tokens", |this| {
                this.max_completion_tokens = number(value.raw()?)?;
                Ok(())
            }),
            "n" => self.at("n", |this| {
                this.answers = number(value.raw()?)?;
                Ok(())
            }),
            "functions" => self.at("functions", |this| {
                this.functions = tools(value)?;
                Ok(())
            }),
            "parallel_tool_calls" => self.at("parallel_tool_calls", |this| {
                this.parallel_tools = boolean(value.raw()?)? == Some(true);
                Ok(())
            }),
            "response_format" => self.at("response_format", |this| {
                this.json_schema = member(value.raw()?, "type")?.as_deref() == Some("json_schema");
                Ok(())
            }),
            "reasoning_effort" => self.at("reasoning_effort", |this| {
                this.effort = string(value.raw()?)?.map(|effort| effort != "none");
                Ok(())
            }),
            "modalities" => self.at("modalities", |this| {
                this.speaks = value.raw()?.contains("\"audio\"");
                Ok(())
            }),
            "user" => self.at("user", |this| {
                this.user = string(value.raw()?)?;
                Ok(())
            }),
            "safety_identifier" => self.at("safety_identifier", |this| {
                this.safety_identifier = string(value.raw()?)?;
                Ok(())
            }),
            "prompt_cache_key" => self.at("prompt_cache_key", |this| {
                this.cache_key = string(value.raw()?)?;
                Ok(())
            }),
            _ => value.skip(),
        }
    }

    fn messages_field<'v, V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match name {
            "system" => self.at("system", |this| this.read_system(value)),
            "thinking" => self.at("thinking", |this| {
                this.thinking = member(value.raw()?, "type")?.map(|mode| mode != "disabled");
                Ok(())
            }),
            "output_config" => self.at("output_config", |this| {
                let raw = value.raw()?;
                this.json_schema = nested(raw, "format", "type")?.as_deref() == Some("json_schema");
                this.effort = member(raw, "effort")?.map(|effort| effort != "none");
                Ok(())
            }),
            "metadata" => self.at("metadata", |this| this.anthropic_user(value)),
            _ => value.skip(),
        }
    }
}

impl<'v> Fields<'v> for Reader<'_> {
    fn field<V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match (self.kind, self.shape, name) {
            (_, _, "model") => self.at("model", |this| this.model(value)),
            (Body::Embeddings, _, "input") => self.at("input", |this| this.read_input(value)),
            (Body::Embeddings, _, "user") => self.chat_field(name, value),
            (Body::Embeddings, _, _) => value.skip(),
            (Body::Conversation, _, "stream") => self.at("stream", |this| {
                this.stream = boolean(value.raw()?)?.unwrap_or(false);
                Ok(())
            }),
            (Body::Conversation, _, "max_tokens") => self.at("max_tokens", |this| {
                this.max_tokens = number(value.raw()?)?;
                Ok(())
            }),
            (Body::Conversation, _, "messages") => self.at("messages", |this| this.read_messages(value)),
            (Body::Conversation, _, "tools") => self.at("tools", |this| {
                this.tools = tools(value)?;
                Ok(())
            }),
            (Body::Conversation, WireShape::OpenaiChat, _) => self.chat_field(name, value),
            (Body::Conversation, WireShape::AnthropicMessages, _) => self.messages_field(name, value),
        }
    }
}

/// The fields of `stream_options`.
#[derive(Default)]
struct StreamOptions<'v> {
    include_usage: Option<&'v str>,
    others: usize,
}

impl StreamOptions<'_> {
    fn empty(&self) -> bool {
        self.include_usage.is_none() && self.others == 0
    }
}

impl<'v> Fields<'v> for StreamOptions<'v> {
    fn field<V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        if name == "include_usage" {
            self.include_usage = Some(value.raw()?);
            return Ok(());
        }
        self.others += 1;
        value.skip()
    }
}

/// The inputs of an embedding: a string, strings, tokens, or lists of tokens.
struct Inputs<'r, 'b>(&'r mut Reader<'b>);

impl<'v> Elements<'v> for Inputs<'_, '_> {
    fn element<V: Value<'v>>(&mut self, index: usize, value: V) -> Result<(), V::Error> {
        let raw = value.raw()?;
        let bytes = match raw.as_bytes().first() {
            Some(b'"') => raw.len() - 2,
            Some(b'[') => BYTES_PER_TOKEN * (1 + raw.matches(',').count()),
            _ => BYTES_PER_TOKEN,
        };
        let is_token = !raw.starts_with(['"', '[']);
        self.0.talk.text_bytes += bytes;
        self.0.messages += usize::from(!is_token || index == 0);
        Ok(())
    }

    fn text(&mut self, bytes: usize) {
        self.0.talk.text_bytes += bytes;
        self.0.messages = 1;
    }
}

/// Counts the elements of a list; zero for anything else.
fn tools<'v, V: Value<'v>>(value: V) -> Result<Tools, V::Error> {
    let (raw, count) = value.counted()?;
    Ok(Tools { count, bytes: if count == 0 { 0 } else { raw.len() } })
}

/// The session in a `user_id` of Claude Code: a JSON object, or words joined by `_` in its older form.
fn session_of(user_id: &str) -> Option<String> {
    if user_id.starts_with('{') {
        let raw: &RawValue = serde_json::from_str(user_id).ok()?;
        return member::<serde_json::Error>(raw.get(), "session_id").ok().flatten();
    }
    user_id.rsplit_once("_session_").map(|(_, session)| session.to_owned())
}
