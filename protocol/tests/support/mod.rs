//! What the tests of this crate share: ways through the codecs, and the recorded corpus.

pub(crate) mod corpus;
pub(crate) mod grammar;

use bytes::Bytes;
use protocol::{
    Dialect, Strictness, Target, Traits, WireShape,
    answer::Answer,
    codec::{StreamDecoder, StreamEncoder},
    error::WireError,
    event::Event,
    pipe::{Pipe, Seen},
    sse::Parser,
    translate::AnswerContext,
};

/// Both shapes.
pub(crate) const SHAPES: [WireShape; 2] = [WireShape::OpenaiChat, WireShape::AnthropicMessages];

/// The shape that is not `shape`.
pub(crate) fn other(shape: WireShape) -> WireShape {
    match shape {
        WireShape::OpenaiChat => WireShape::AnthropicMessages,
        WireShape::AnthropicMessages => WireShape::OpenaiChat,
    }
}

/// A model to translate for, with what a [`Target`] borrows.
pub(crate) struct TargetModel {
    shape: WireShape,
    name: &'static str,
    traits: Traits,
    dialect: Dialect,
}

impl TargetModel {
    pub(crate) fn new(shape: WireShape, name: &'static str) -> Self {
        Self { shape, name, traits: Traits::for_model(name), dialect: Dialect::default() }
    }

    /// A model of a shape that takes most.
    pub(crate) fn lenient(shape: WireShape) -> Self {
        match shape {
            WireShape::OpenaiChat => Self::new(shape, "gpt-4o"),
            WireShape::AnthropicMessages => Self::new(shape, "claude-sonnet-4-6"),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            shape: self.shape,
            model: self.name,
            max_output_tokens: None,
            traits: &self.traits,
            dialect: &self.dialect,
            strictness: Strictness::Lenient,
        }
    }
}

/// What an encoder knows of a request that nothing was changed in.
pub(crate) fn context(stream: bool) -> AnswerContext {
    AnswerContext {
        model: "asked-model".to_owned(),
        include_usage: true,
        stream,
        created: 1_790_000_000,
        fallback_id: "id-of-the-answer".to_owned(),
        request_id: "req_1".to_owned(),
        ..AnswerContext::default()
    }
}

/// The events of a stream that arrives in these pieces.
pub(crate) fn decode_stream<'a>(shape: WireShape, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut parser, mut decoder, mut events) = (Parser::new(), StreamDecoder::new(shape), Vec::new());
    for piece in pieces {
        parser.push(piece);
        while let Some(frame) = parser.frame().expect("no recorded frame is too large") {
            decoder.frame(&frame, &mut events);
        }
    }
    if let Some(frame) = parser.end() {
        decoder.frame(&frame, &mut events);
    }
    decoder.end(&mut events);
    events
}

/// The stream that tells these events in a shape.
pub(crate) fn encode_stream(
    shape: WireShape,
    events: impl IntoIterator<Item = Event>,
    context: AnswerContext,
) -> Vec<u8> {
    let (mut encoder, mut out) = (StreamEncoder::new(shape, context), Vec::new());
    for event in events {
        encoder.event(event, &mut out);
    }
    out
}

/// What a pipe makes of these pieces: the caller's bytes and the last word on them.
pub(crate) fn through(mut pipe: Pipe, pieces: impl IntoIterator<Item = Bytes>) -> (Vec<u8>, Seen) {
    let mut out = Vec::new();
    for piece in pieces {
        pipe.push(piece, &mut out);
    }
    let seen = pipe.end(&mut out);
    (out.concat(), seen)
}

/// A whole answer in another shape, read again.
pub(crate) fn re_encoded(answer: &Answer, to: WireShape) -> Result<Answer, WireError> {
    protocol::codec::decode_answer(to, &protocol::codec::encode_answer(to, answer, &context(false)).0)
}
