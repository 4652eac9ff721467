//! Takes the chunks that most of a stream is made of by their form: one choice, one more piece of the words, reasoning
//! or arguments that are open already.

use super::StreamDecoder;
use crate::{
    event::{Delta, Event},
    openai_chat::choice_decode::Kind,
    skim::{Reader, Text, once},
    sse::Frame,
};

/// What a plain chunk says of its one choice.
struct Piece<'a> {
    sense: Sense,
    text: Text<'a>,
}

/// What becomes of the text of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sense {
    choice: u32,
    more: More,
    /// Whether log probabilities stand beside.
    logprobs: bool,
}

/// With what a choice goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum More {
    Nothing,
    Words(Kind),
    Arguments { place: u64 },
}

impl Piece<'_> {
    fn read(&self) -> Option<Delta> {
        match self.sense.more {
            More::Nothing => None,
            More::Words(Kind::Thinking) => self.text.read().map(Delta::Thinking),
            More::Words(Kind::Text | Kind::Refusal) => self.text.read().map(Delta::Text),
            More::Arguments { .. } => self.text.read().map(Delta::Arguments),
        }
    }
}

impl StreamDecoder {
    /// Takes a chunk that only goes on with what is open: the bytes that it adds. None: nothing was taken.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        let piece = self.piece(frame)?;
        self.take(&piece).map(|_| piece.text.bytes)
    }

    /// Takes a chunk that only goes on with a text, and says it. False: nothing was taken.
    pub(crate) fn go_on(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) -> bool {
        let Some(piece) = self.piece(frame).filter(|piece| !piece.sense.logprobs && piece.text.bytes > 0) else {
            return false;
        };
        let Some(delta) = piece.read() else { return false };
        let index = self.take(&piece).flatten();
        out.extend(index.map(|index| Event::Delta { choice: piece.sense.choice, index, delta }));
        index.is_some()
    }

    fn piece<'a>(&mut self, frame: &'a Frame<'_>) -> Option<Piece<'a>> {
        if self.ended || !self.begun || frame.event == Some("error") {
            return None;
        }
        if let Some((sense, text)) = self.form.fill(&frame.data) {
            return Some(Piece { sense, text });
        }
        let (piece, padding) = chunk(&frame.data)?;
        self.form.learn(&frame.data, piece.sense, piece.text, padding);
        Some(piece)
    }

    /// The block that goes on, where one does.
    fn take(&mut self, Piece { sense, text }: &Piece<'_>) -> Option<Option<u32>> {
        let choice = self.choices.get_mut(&sense.choice)?;
        match sense.more {
            More::Nothing => Some(None),
            More::Words(kind) => choice.goes_on(kind, text.bytes).map(Some),
            More::Arguments { place } => choice.call_at(place).map(Some),
        }
    }
}

/// What a chunk says, and with what OpenAI pads it so that its length does not tell the text's.
fn chunk(data: &str) -> Option<(Piece<'_>, Option<Text<'_>>)> {
    let mut reader = Reader::new(data);
    let (mut piece, mut padding) = (None, None);
    reader.object(|reader, key| match key {
        b"choices" => once(&mut piece, only_choice(reader)?),
        b"error" | b"usage" | b"x_groq" => reader.null(),
        b"object" => reader.plain().filter(|object| *object != "error").map(drop),
        b"obfuscation" => once(&mut padding, reader.text()?),
        _ => reader.skip().map(drop),
    })?;
    reader.end()?;
    Some((piece?, padding))
}

fn only_choice<'a>(reader: &mut Reader<'a>) -> Option<Piece<'a>> {
    let mut piece = None;
    reader.array(|reader| once(&mut piece, choice(reader)?))?;
    piece
}

fn choice<'a>(reader: &mut Reader<'a>) -> Option<Piece<'a>> {
    let (mut index, mut more, mut logprobs) = (None, None, false);
    reader.object(|reader, key| match key {
        b"index" => once(&mut index, reader.count()?),
        b"delta" => once(&mut more, delta(reader)?),
        b"logprobs" => reader.skip().map(|value| logprobs |= value != "null"),
        b"finish_reason" | b"error" | b"object" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    let (more, text) = more?;
    Some(Piece { sense: Sense { choice: u32::try_from(index.unwrap_or(0)).ok()?, more, logprobs }, text })
}

/// A delta that adds to one thing at most.
fn delta<'a>(reader: &mut Reader<'a>) -> Option<(More, Text<'a>)> {
    let (mut content, mut reasoning_content, mut reasoning, mut call) = (None, None, None, None);
    reader.object(|reader, key| match key {
        b"content" => once(&mut content, reader.text_or_null()?),
        b"reasoning_content" => once(&mut reasoning_content, reader.text_or_null()?),
        b"reasoning" => once(&mut reasoning, reader.text_or_null()?),
        b"refusal" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        b"tool_calls" => once(&mut call, only_call(reader)?),
        b"thinking_blocks" | b"reasoning_details" | b"annotations" => reader.nothing(),
        b"function_call" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    let filled = |text: &Text<'_>| text.bytes > 0;
    let reasoning = reasoning_content.filter(filled).or(reasoning.filter(filled));
    match (content.filter(filled), reasoning, call.flatten()) {
        (None, None, None) => Some((More::Nothing, Text::EMPTY)),
        (Some(text), None, None) => Some((More::Words(Kind::Text), text)),
        (None, Some(text), None) => Some((More::Words(Kind::Thinking), text)),
        (None, None, call) => call,
        _ => None,
    }
}

/// No call, or a piece of the arguments of one.
fn only_call<'a>(reader: &mut Reader<'a>) -> Option<Option<(More, Text<'a>)>> {
    if reader.takes_null()? {
        return Some(None);
    }
    let mut call = None;
    reader.array(|reader| once(&mut call, arguments(reader)?))?;
    Some(call)
}

fn arguments<'a>(reader: &mut Reader<'a>) -> Option<(More, Text<'a>)> {
    let (mut place, mut text) = (None, None);
    reader.object(|reader, key| match key {
        b"index" => once(&mut place, reader.count()?),
        b"function" => once(&mut text, function(reader)?),
        b"id" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        b"custom" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    Some((More::Arguments { place: place? }, text?))
}

fn function<'a>(reader: &mut Reader<'a>) -> Option<Text<'a>> {
    let mut arguments = None;
    reader.object(|reader, key| match key {
        b"arguments" => once(&mut arguments, reader.text_or_null()?),
        b"name" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        _ => reader.skip().map(drop),
    })?;
    Some(arguments.unwrap_or(Text::EMPTY))
}

#[cfg(test)]
mod tests;
