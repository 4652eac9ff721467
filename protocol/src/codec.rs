//! The codec of a shape, chosen by its name. Every shape has the same functions; what they do is the shape's own matter.

use crate::{
    Loss, Refusal, Target, WireShape,
    answer::Answer,
    anthropic_messages,
    error::WireError,
    event::Event,
    openai_chat,
    request::Request,
    skim::{Brief, Content},
    sse::Frame,
    translate::{AnswerContext, Encoded},
};

/// Reads a request. Errs where it is malformed, naming the path.
pub fn decode_request(shape: WireShape, body: &[u8]) -> Result<Request, Refusal> {
    match shape {
        WireShape::OpenaiChat => openai_chat::decode_request(body),
        WireShape::AnthropicMessages => anthropic_messages::decode_request(body),
    }
}

/// Writes a request for its target, in the target's shape. Errs where the target cannot serve it.
pub fn encode_request(request: &Request, target: &Target<'_>) -> Result<Encoded, Refusal> {
    match target.shape {
        WireShape::OpenaiChat => openai_chat::encode_request(request, target),
        WireShape::AnthropicMessages => anthropic_messages::encode_request(request, target),
    }
}

/// Reads a whole answer. Errs on anything else: an error object, another shape, HTML.
pub fn decode_answer(shape: WireShape, body: &[u8]) -> Result<Answer, WireError> {
    match shape {
        WireShape::OpenaiChat => openai_chat::decode_answer(body),
        WireShape::AnthropicMessages => anthropic_messages::decode_answer(body),
    }
}

/// What a whole answer says beside its content, where its form is plain; none: [`decode_answer`] tells. `content` says
/// whether the content is there or was left out, as the watch of whole answers leaves it out, and is counted.
pub(crate) fn brief<'a>(shape: WireShape, answer: &'a str, content: &mut Content) -> Option<Brief<'a>> {
    match shape {
        WireShape::OpenaiChat => openai_chat::brief(answer, content),
        WireShape::AnthropicMessages => anthropic_messages::brief(answer, content),
    }
}

/// Writes a whole answer, and says what it could not carry.
pub fn encode_answer(shape: WireShape, answer: &Answer, context: &AnswerContext) -> (Vec<u8>, Vec<Loss>) {
    match shape {
        WireShape::OpenaiChat => openai_chat::encode_answer(answer, context),
        WireShape::AnthropicMessages => anthropic_messages::encode_answer(answer, context),
    }
}

/// Reads the body of a failure, whatever it is.
pub fn decode_error(shape: WireShape, status: u16, body: &[u8]) -> WireError {
    match shape {
        WireShape::OpenaiChat => openai_chat::decode_error(status, body),
        WireShape::AnthropicMessages => anthropic_messages::decode_error(status, body),
    }
}

/// Writes the body of a failure.
pub fn encode_error(shape: WireShape, error: &WireError, request_id: &str) -> Vec<u8> {
    match shape {
        WireShape::OpenaiChat => openai_chat::encode_error(error, request_id),
        WireShape::AnthropicMessages => anthropic_messages::encode_error(error, request_id),
    }
}

/// The status that a failure has in this shape.
pub fn error_status(shape: WireShape, error: &WireError) -> u16 {
    match shape {
        WireShape::OpenaiChat => openai_chat::error_status(error),
        WireShape::AnthropicMessages => anthropic_messages::error_status(error),
    }
}

/// Writes a failure as the last event of a stream.
pub fn encode_error_event(shape: WireShape, error: &WireError, request_id: &str) -> Vec<u8> {
    match shape {
        WireShape::OpenaiChat => openai_chat::encode_error_event(error, request_id),
        WireShape::AnthropicMessages => anthropic_messages::encode_error_event(error, request_id),
    }
}

/// A sign of life within a stream, which clients pass over.
pub fn keep_alive(shape: WireShape) -> &'static [u8] {
    match shape {
        WireShape::OpenaiChat => openai_chat::keep_alive(),
        WireShape::AnthropicMessages => anthropic_messages::keep_alive(),
    }
}

/// Reads a stream, frame by frame.
#[derive(Debug)]
pub enum StreamDecoder {
    /// Of OpenAI Chat Completions.
    OpenaiChat(openai_chat::StreamDecoder),
    /// Of Anthropic Messages.
    AnthropicMessages(anthropic_messages::StreamDecoder),
}

impl StreamDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new(shape: WireShape) -> Self {
        match shape {
            WireShape::OpenaiChat => Self::OpenaiChat(openai_chat::StreamDecoder::new()),
            WireShape::AnthropicMessages => Self::AnthropicMessages(anthropic_messages::StreamDecoder::new()),
        }
    }

    /// Takes the next frame; what it says is appended to `out`.
    pub fn frame(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) {
        match self {
            Self::OpenaiChat(decoder) => decoder.frame(frame, out),
            Self::AnthropicMessages(decoder) => decoder.frame(frame, out),
        }
    }

    /// Takes the next frame where all that it does is to go on with what is open, as most do, and says how many bytes of
    /// content it adds. None: nothing was taken, [`StreamDecoder::frame`] is to read it.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        match self {
            Self::OpenaiChat(decoder) => decoder.skim(frame),
            Self::AnthropicMessages(decoder) => decoder.skim(frame),
        }
    }

    /// Takes a frame that only goes on with a text, and appends what it says. False: nothing was taken.
    pub(crate) fn go_on(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) -> bool {
        match self {
            Self::OpenaiChat(decoder) => decoder.go_on(frame, out),
            Self::AnthropicMessages(decoder) => decoder.go_on(frame, out),
        }
    }

    /// The upstream closed the stream: an error unless its end marker was seen.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        match self {
            Self::OpenaiChat(decoder) => decoder.end(out),
            Self::AnthropicMessages(decoder) => decoder.end(out),
        }
    }
}

/// Writes a stream, event by event.
#[derive(Debug)]
pub enum StreamEncoder {
    /// Of OpenAI Chat Completions.
    OpenaiChat(openai_chat::StreamEncoder),
    /// Of Anthropic Messages.
    AnthropicMessages(anthropic_messages::StreamEncoder),
}

impl StreamEncoder {
    /// An encoder at the beginning of a stream.
    pub fn new(shape: WireShape, context: AnswerContext) -> Self {
        match shape {
            WireShape::OpenaiChat => Self::OpenaiChat(openai_chat::StreamEncoder::new(context)),
            WireShape::AnthropicMessages => Self::AnthropicMessages(anthropic_messages::StreamEncoder::new(context)),
        }
    }

    /// Takes the next event; its frames are appended to `out`.
    pub fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        match self {
            Self::OpenaiChat(encoder) => encoder.event(event, out),
            Self::AnthropicMessages(encoder) => encoder.event(event, out),
        }
    }

    /// What could not be carried so far.
    pub fn losses(&self) -> Vec<Loss> {
        match self {
            Self::OpenaiChat(encoder) => encoder.losses(),
            Self::AnthropicMessages(encoder) => encoder.losses(),
        }
    }
}
