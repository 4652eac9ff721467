//! Takes the events that most of a stream is made of by their form: one more piece of the text, reasoning or input that
//! is open already. Of the text only its size is read.

use super::{Kind, StreamDecoder};
use crate::{
    skim::{Reader, once},
    sse::Frame,
};

/// One more piece of a block.
struct Piece {
    wire: u64,
    more: More,
}

/// With what a block goes on.
#[derive(Clone, Copy)]
enum More {
    Text(usize),
    Thinking(usize),
    Input(usize),
}

impl StreamDecoder {
    /// Takes a delta that only goes on with what is open: the bytes that it adds. None: nothing was taken.
    pub(crate) fn skim(&mut self, frame: &Frame<'_>) -> Option<usize> {
        if self.ended {
            return None;
        }
        let Piece { wire, more } = block_delta(&frame.data)?;
        let place = self.place(wire)?;
        match (more, &mut self.open[place].kind) {
            (More::Text(bytes), Kind::Text) | (More::Thinking(bytes), Kind::Thinking) => Some(bytes),
            (More::Input(bytes), Kind::Call { told, .. }) => {
                *told |= bytes > 0;
                Some(bytes)
            }
            _ => None,
        }
    }
}

fn block_delta(data: &str) -> Option<Piece> {
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

fn delta(reader: &mut Reader<'_>) -> Option<More> {
    let (mut kind, mut text, mut thinking, mut input) = (None, None, None, None);
    reader.object(|reader, key| match key {
        b"type" => once(&mut kind, reader.plain()?),
        b"text" => once(&mut text, reader.length()?),
        b"thinking" => once(&mut thinking, reader.length()?),
        b"partial_json" => once(&mut input, reader.length()?),
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
