//! Takes the events that most of a stream is made of by their form: one more piece of the text, reasoning or input that
//! is open already.

use super::{Kind, StreamDecoder, tell};
use crate::{
    event::{Delta, Event},
    skim::{Reader, Text, once},
    sse::Frame,
};

/// One more piece of a block.
struct Piece<'a> {
    wire: u64,
    more: More<'a>,
}

/// With what a block goes on.
#[derive(Clone, Copy)]
enum More<'a> {
    Text(Text<'a>),
    Thinking(Text<'a>),
    Input(Text<'a>),
}

impl More<'_> {
    fn bytes(self) -> usize {
        let (Self::Text(text) | Self::Thinking(text) | Self::Input(text)) = self;
        text.bytes
    }

    fn read(self) -> Option<Delta> {
        match self {
            Self::Text(text) => text.read().map(Delta::Text),
            Self::Thinking(text) => text.read().map(Delta::Thinking),
            Self::Input(text) => text.read().map(Delta::Arguments),
        }
    }
}

impl StreamDecoder {
    /// Takes a delta that only goes on with what is open: the bytes that it adds. None: nothing was taken.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        let piece = self.piece(frame)?;
        self.take(&piece).map(|_| piece.more.bytes())
    }

    /// Takes the same and says it. False: nothing was taken.
    pub(crate) fn go_on(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) -> bool {
        let Some(piece) = self.piece(frame) else { return false };
        let Some(delta) = piece.more.read() else { return false };
        let index = self.take(&piece);
        index.inspect(|index| tell(*index, delta, out)).is_some()
    }

    fn piece<'a>(&self, frame: &'a Frame<'_>) -> Option<Piece<'a>> {
        if self.ended { None } else { block_delta(&frame.data) }
    }

    /// The block that goes on.
    fn take(&mut self, Piece { wire, more }: &Piece<'_>) -> Option<u32> {
        let place = self.place(*wire)?;
        let block = &mut self.open[place];
        match (more, &mut block.kind) {
            (More::Text(_), Kind::Text) | (More::Thinking(_), Kind::Thinking) => Some(block.index),
            (More::Input(text), Kind::Call { told, .. }) => {
                *told |= text.bytes > 0;
                Some(block.index)
            }
            _ => None,
        }
    }
}

fn block_delta(data: &str) -> Option<Piece<'_>> {
    let mut reader = Reader::new(data);
    let (mut kind, mut index, mut more) = (None, None, None);
    reader.object(|reader, key| match key {
        b"type" => once(&mut kind, reader.plain().filter(|kind| *kind == "content_block_delta")?),
        b"index" => once(&mut index, reader.count()?),
        b"delta" => once(&mut more, delta(reader)?),
        // Such an event may be hidden from the caller.
        b"choices" | b"usage" => None,
        _ => reader.skip().map(drop),
    })?;
    reader.end()?;
    kind?;
    Some(Piece { wire: index.unwrap_or(0), more: more? })
}

fn delta<'a>(reader: &mut Reader<'a>) -> Option<More<'a>> {
    let (mut kind, mut text, mut thinking, mut input) = (None, None, None, None);
    reader.object(|reader, key| match key {
        b"type" => once(&mut kind, reader.plain()?),
        b"text" => once(&mut text, reader.text()?),
        b"thinking" => once(&mut thinking, reader.text()?),
        b"partial_json" => once(&mut input, reader.text()?),
        _ => reader.skip().map(drop),
    })?;
    match kind? {
        "text_delta" => text.map(More::Text),
        "thinking_delta" => thinking.map(More::Thinking),
        "input_json_delta" => input.map(More::Input),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
