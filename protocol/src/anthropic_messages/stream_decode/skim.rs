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
    sense: Sense,
    text: Text<'a>,
}

/// What becomes of the text of a delta.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sense {
    wire: u64,
    more: More,
}

/// With what a block goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum More {
    Text,
    Thinking,
    Input,
}

impl Piece<'_> {
    fn read(&self) -> Option<Delta> {
        match self.sense.more {
            More::Text => self.text.read().map(Delta::Text),
            More::Thinking => self.text.read().map(Delta::Thinking),
            More::Input => self.text.read().map(Delta::Arguments),
        }
    }
}

impl StreamDecoder {
    /// Takes a delta that only goes on with what is open: the bytes that it adds. None: nothing was taken.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        let piece = self.piece(frame)?;
        self.take(&piece).map(|_| piece.text.bytes)
    }

    /// Takes the same and says it. False: nothing was taken.
    pub(crate) fn go_on(&mut self, frame: &Frame<'_>, out: &mut Vec<Event>) -> bool {
        let Some(piece) = self.piece(frame) else { return false };
        let Some(delta) = piece.read() else { return false };
        let index = self.take(&piece);
        index.inspect(|index| tell(*index, delta, out)).is_some()
    }

    fn piece<'a>(&mut self, frame: &'a Frame<'_>) -> Option<Piece<'a>> {
        if self.ended {
            return None;
        }
        if let Some((sense, text)) = self.form.fill(&frame.data) {
            return Some(Piece { sense, text });
        }
        let piece = block_delta(&frame.data)?;
        self.form.learn(&frame.data, piece.sense, piece.text, None);
        Some(piece)
    }

    /// The block that goes on.
    fn take(&mut self, Piece { sense, text }: &Piece<'_>) -> Option<u32> {
        let place = self.place(sense.wire)?;
        let block = &mut self.open[place];
        match (sense.more, &mut block.kind) {
            (More::Text, Kind::Text) | (More::Thinking, Kind::Thinking) => Some(block.index),
            (More::Input, Kind::Call { told, .. }) => {
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
    let (more, text) = more?;
    Some(Piece { sense: Sense { wire: index.unwrap_or(0), more }, text })
}

fn delta<'a>(reader: &mut Reader<'a>) -> Option<(More, Text<'a>)> {
    let (mut kind, mut text, mut thinking, mut input) = (None, None, None, None);
    reader.object(|reader, key| match key {
        b"type" => once(&mut kind, reader.plain()?),
        b"text" => once(&mut text, reader.text()?),
        b"thinking" => once(&mut thinking, reader.text()?),
        b"partial_json" => once(&mut input, reader.text()?),
        _ => reader.skip().map(drop),
    })?;
    match kind? {
        "text_delta" => Some((More::Text, text?)),
        "thinking_delta" => Some((More::Thinking, thinking?)),
        "input_json_delta" => Some((More::Input, input?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
