//! The shallow reading of a request: what routing and reserving need, and where the model's name stands for splicing.
//!
//! One pass over the bytes without building a tree, and a second one, slower, where an error needs its words. Whether the request makes sense is left to the codecs and to the
//! upstream; only JSON that is broken, and a field of the wrong type among those that are read, are refused. Of a key
//! that stands twice the last counts, as it does at every provider.

mod content;
mod conversation;
mod cursor;
mod fields;
mod path;
mod reader;
mod strings;
mod values;
mod worded;

use std::ops::Range;

use smallvec::SmallVec;

use crate::{Refusal, WireShape};
use reader::{Body, Reader};

/// What a request asks for, as far as routing and reserving need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The shape that it was read in.
    pub shape: WireShape,
    /// The model as the caller wrote it; never empty.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether a stream shall show its usage, as the caller said; absent: not said. Chat alone.
    pub include_usage: Option<bool>,
    /// The most tokens of one answer, as the caller said.
    pub max_tokens: Option<u64>,
    /// How many answers are wanted; one unless the caller said otherwise.
    pub answers: u64,
    /// Bytes of text in instructions, conversation and tools, for estimates. Media are not counted.
    pub text_bytes: usize,
    /// Messages; inputs of an embedding.
    pub messages: usize,
    /// Tools on offer.
    pub tools: usize,
    /// Pictures within the conversation.
    pub images: usize,
    /// Documents that are not plain text.
    pub documents: usize,
    /// Whether sound is sent or wanted.
    pub audio: bool,
    /// What the model has to be able to do.
    pub needs: Needs,
    /// Whether the functions that preceded tools are used.
    pub legacy_functions: bool,
    /// Whom the caller's application asks for: OpenAI's `safety_identifier` or `user`, Anthropic's `metadata.user_id`.
    pub end_user: Option<String>,
    /// What keeps requests of one prefix together: `prompt_cache_key`, or the session within `metadata.user_id`.
    pub cache_key: Option<String>,
    /// A hash of the instructions and the first user message: the same all through a conversation.
    pub conversation: u64,
    /// Every place of the model's name, quotes included. All are replaced, so that an upstream that takes the first of
    /// two cannot serve another model than was granted.
    pub(crate) model_spans: SmallVec<[Range<usize>; 1]>,
    /// Where usage of a stream is asked for, or could be.
    pub(crate) usage_place: UsagePlace,
}

/// What a model has to be able to do to serve a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Call tools.
    pub tools: bool,
    /// Call several tools in one answer; the caller said so.
    pub parallel_tools: bool,
    /// Look at pictures.
    pub vision: bool,
    /// Read documents that are not plain text.
    pub documents: bool,
    /// Keep to a JSON schema.
    pub json_schema: bool,
    /// Reason; the caller said so.
    pub reasoning: bool,
    /// Hear.
    pub audio_in: bool,
    /// Speak.
    pub audio_out: bool,
}

/// Where `stream_options.include_usage` stands in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UsagePlace {
    /// There are no stream options.
    #[default]
    Absent,
    /// They are `null`.
    Null(Range<usize>),
    /// They are an object without it, whose fields begin here.
    Object { inside: usize, empty: bool },
    /// Its value stands here.
    Value(Range<usize>),
}

/// Reads a chat or messages request. Errs where the JSON is broken or a field has the wrong type, naming its path.
pub fn read(shape: WireShape, body: &[u8]) -> Result<Ask, Refusal> {
    let ask = read_body(shape, Body::Conversation, body)?;
    if ask.messages == 0 {
        return Err(Refusal::malformed("messages", "`messages` must be a list of at least one message"));
    }
    Ok(ask)
}

/// Reads an embeddings request: `input` counts as text, and each of its strings or token lists as a message.
pub fn read_embeddings(body: &[u8]) -> Result<Ask, Refusal> {
    read_body(WireShape::OpenaiChat, Body::Embeddings, body)
}

fn read_body(shape: WireShape, kind: Body, body: &[u8]) -> Result<Ask, Refusal> {
    let text = simdutf8::basic::from_utf8(body).or_else(|_| std::str::from_utf8(body));
    let text = text.map_err(|fault| broken(format!("the body is not UTF-8: {fault}")))?;
    let mut reader = Reader::new(shape, kind, text);
    let ask = match cursor::read(text, &mut reader) {
        Ok(()) => reader.into_ask(),
        Err(cursor::Fault) => read_worded(shape, kind, text)?,
    };
    if ask.model.is_empty() {
        return Err(Refusal::malformed("model", "`model` must be a string that is not empty"));
    }
    Ok(ask)
}

/// What [`cursor`] does not take is taken here, or refused in words.
#[cold]
fn read_worded(shape: WireShape, kind: Body, text: &str) -> Result<Ask, Refusal> {
    let mut reader = Reader::new(shape, kind, text);
    worded::read(text, &mut reader).map_err(|fault| refusal(&reader, &fault))?;
    Ok(reader.into_ask())
}

fn refusal(reader: &Reader<'_>, fault: &serde_json::Error) -> Refusal {
    match (fault.classify(), reader.path()) {
        (serde_json::error::Category::Data, Some(path)) => {
            Refusal::malformed(path.clone(), format!("`{path}` has the wrong type: {fault}"))
        }
        _ => broken(format!("the body is not a JSON object: {fault}")),
    }
}

fn broken(message: String) -> Refusal {
    Refusal { param: None, message, malformed: true }
}

#[cfg(test)]
mod tests;
