//! Takes the chunks that most of a stream is made of by their form: one choice, one more piece of the words, reasoning
//! or arguments that are open already. Of the text only its size is read.

use super::StreamDecoder;
use crate::{
    openai_chat::choice_decode::Kind,
    skim::{Reader, once},
    sse::Frame,
};

/// What a plain chunk says of its one choice.
struct Piece {
    choice: u32,
    more: More,
}

/// With what a choice goes on.
#[derive(Clone, Copy)]
enum More {
    Nothing,
    Words(Kind, usize),
    Arguments { place: u64, bytes: usize },
}

impl StreamDecoder {
    /// Takes a chunk that only goes on with what is open: the bytes that it adds. None: nothing was taken.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        if self.ended || !self.begun || frame.event == Some("error") {
            return None;
        }
        let Piece { choice, more } = chunk(&frame.data)?;
        let choice = self.choices.get_mut(&choice)?;
        let (taken, bytes) = match more {
            More::Nothing => (true, 0),
            More::Words(kind, bytes) => (choice.goes_on(kind, bytes), bytes),
            More::Arguments { place, bytes } => (choice.has_call(place), bytes),
        };
        taken.then_some(bytes)
    }
}

fn chunk(data: &str) -> Option<Piece> {
    let mut reader = Reader::new(data);
    let mut piece = None;
    reader.object(|reader, key| match key {
        b"choices" => once(&mut piece, only_choice(reader)?),
        b"error" | b"usage" | b"x_groq" => reader.null(),
        b"object" => reader.plain().filter(|object| *object != "error").map(drop),
        _ => reader.skip().map(drop),
    })?;
    reader.end()?;
    piece
}

fn only_choice(reader: &mut Reader<'_>) -> Option<Piece> {
    let mut piece = None;
    reader.array(|reader| once(&mut piece, choice(reader)?))?;
    piece
}

fn choice(reader: &mut Reader<'_>) -> Option<Piece> {
    let (mut index, mut more) = (None, None);
    reader.object(|reader, key| match key {
        b"index" => once(&mut index, reader.count()?),
        b"delta" => once(&mut more, delta(reader)?),
        b"finish_reason" | b"error" | b"object" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    Some(Piece { choice: u32::try_from(index.unwrap_or(0)).ok()?, more: more? })
}

/// A delta that adds to one thing at most.
fn delta(reader: &mut Reader<'_>) -> Option<More> {
    let (mut content, mut reasoning_content, mut reasoning, mut call) = (None, None, None, None);
    reader.object(|reader, key| match key {
        b"content" => once(&mut content, reader.length_or_null()?),
        b"reasoning_content" => once(&mut reasoning_content, reader.length_or_null()?),
        b"reasoning" => once(&mut reasoning, reader.length_or_null()?),
        b"refusal" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        b"tool_calls" => once(&mut call, only_call(reader)?),
        b"thinking_blocks" | b"reasoning_details" | b"annotations" => reader.nothing(),
        b"function_call" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    let filled = |bytes: &usize| *bytes > 0;
    let reasoning = reasoning_content.filter(filled).or(reasoning.filter(filled));
    match (content.filter(filled), reasoning, call.flatten()) {
        (None, None, None) => Some(More::Nothing),
        (Some(bytes), None, None) => Some(More::Words(Kind::Text, bytes)),
        (None, Some(bytes), None) => Some(More::Words(Kind::Thinking, bytes)),
        (None, None, call) => call,
        _ => None,
    }
}

/// No call, or a piece of the arguments of one.
fn only_call(reader: &mut Reader<'_>) -> Option<Option<More>> {
    if reader.takes_null()? {
        return Some(None);
    }
    let mut call = None;
    reader.array(|reader| once(&mut call, arguments(reader)?))?;
    Some(call)
}

fn arguments(reader: &mut Reader<'_>) -> Option<More> {
    let (mut place, mut bytes) = (None, None);
    reader.object(|reader, key| match key {
        b"index" => once(&mut place, reader.count()?),
        b"function" => once(&mut bytes, function(reader)?),
        b"id" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        b"custom" => reader.null(),
        _ => reader.skip().map(drop),
    })?;
    Some(More::Arguments { place: place?, bytes: bytes? })
}

fn function(reader: &mut Reader<'_>) -> Option<usize> {
    let mut arguments = None;
    reader.object(|reader, key| match key {
        b"arguments" => once(&mut arguments, reader.length_or_null()?),
        b"name" => reader.length_or_null().filter(|bytes| *bytes == 0).map(drop),
        _ => reader.skip().map(drop),
    })?;
    Some(arguments.unwrap_or(0))
}

#[cfg(test)]
mod tests;
