//! One request or answer on its way between two shapes: what the encoding gives beside its bytes, and what the answer
//! needs to be put back into the caller's words.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher},
};

use crate::{Loss, Refusal, Target, WireShape, ask::Ask, codec};

/// A request as its target takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The JSON body.
    pub body: Vec<u8>,
    /// Headers that belong to this body (the API version that it is written for, betas that it uses), in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// What was approximated or dropped, in the caller's words.
    pub losses: Vec<Loss>,
    /// What the answer must undo.
    pub back: Back,
}

/// What the encoding of a request changed that its answer must undo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// Tool names as they were sent, and as the caller wrote them; those alone that differ.
    pub tool_names: BTreeMap<String, String>,
    /// Custom tools, by the name that was sent, that went out as functions with the one string parameter `input`.
    pub custom_tools: BTreeSet<String>,
    /// Tool call ids as they were sent, and as the caller wrote them; those alone that differ.
    pub tool_ids: BTreeMap<String, String>,
    /// The function whose arguments are the text of the answer: how a schema is asked of a model that knows none.
    pub json_tool: Option<String>,
}

impl Back {
    /// The caller's name of a tool that was sent as `sent`.
    pub fn tool_name<'a>(&'a self, sent: &'a str) -> &'a str {
        self.tool_names.get(sent).map_or(sent, String::as_str)
    }

    /// Whether `sent` is the function whose arguments are the text of the answer.
    pub fn is_json_tool(&self, sent: &str) -> bool {
        self.json_tool.as_deref() == Some(sent)
    }

    /// The caller's id of a tool call that was sent as `sent`.
    pub fn tool_id<'a>(&'a self, sent: &'a str) -> &'a str {
        self.tool_ids.get(sent).map_or(sent, String::as_str)
    }
}

/// What the encoder of an answer knows of its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerContext {
    /// The model as the caller wrote it: echoed.
    pub model: String,
    /// Whether a streamed answer shows its usage; shapes that always do ignore it.
    pub include_usage: bool,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the caller used the functions that preceded tools, and so is answered in kind.
    pub legacy_functions: bool,
    /// What the encoding of the request changed.
    pub back: Back,
    /// Seconds since the epoch, for shapes that date their answers.
    pub created: u64,
    /// The answer's id in the caller's shape, prefix included: the upstream's is of another family.
    pub fallback_id: String,
    /// The request's id, for shapes whose errors name it.
    pub request_id: String,
}

/// Translates a request of shape `from` for its target. Errs where it is malformed, and where the target cannot serve
/// it ([`Refusal::malformed`] tells which).
pub fn request(body: &[u8], from: WireShape, target: &Target<'_>) -> Result<Encoded, Refusal> {
    codec::encode_request(&codec::decode_request(from, body)?, target)
}

/// What the answer to a request needs: the request as it was asked, what its encoding changed (nothing where the shapes
/// are the same), the time in seconds since the epoch, and the request's id.
pub fn context(ask: &Ask, back: Back, created: u64, request_id: &str) -> AnswerContext {
    AnswerContext {
        model: ask.model.clone(),
        include_usage: ask.include_usage.unwrap_or(false),
        stream: ask.stream,
        legacy_functions: ask.legacy_functions,
        back,
        created,
        fallback_id: answer_id(ask.shape, request_id),
        request_id: request_id.to_owned(),
    }
}

/// An answer's id in the caller's shape, the same for the same request.
fn answer_id(shape: WireShape, request_id: &str) -> String {
    const DIGITS: usize = 24;
    let prefix = match shape {
        WireShape::OpenaiChat => "chatcmpl-relay",
        WireShape::AnthropicMessages => "msg_relay",
    };
    let mut hasher = DefaultHasher::new();
    let mut next = || {
        hasher.write(request_id.as_bytes());
        hasher.finish()
    };
    let number = u128::from(next()) << 64 | u128::from(next());
    let mut id = String::with_capacity(prefix.len() + DIGITS);
    id.push_str(prefix);
    let digit = |place: usize| char::from(b"0123456789abcdef"[(number >> (4 * place)) as usize % 16]);
    id.extend((0..DIGITS).map(digit));
    id
}
