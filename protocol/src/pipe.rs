//! An answer on its way from an upstream to a caller, one piece of bytes at a time.
//!
//! Of the same shape, the bytes pass untouched while they are watched; of another, they are decoded and encoded. Either
//! way the pipe says when the answer has begun, when it has ended and whether it failed, and what was learnt of it. It
//! knows no clock and no connection: timeouts and keep-alives are its owner's.

mod checked;
mod cross;
mod tally;

use bytes::Bytes;

use crate::{
    Loss, WireShape,
    answer::StopReason,
    error::WireError,
    translate::AnswerContext,
    usage::Usage,
    watch::{StreamWatch, WholeWatch},
};
use checked::Checked;
pub use checked::Wanted;
use cross::Cross;
pub(crate) use tally::Tally;

/// An answer on its way.
#[derive(Debug)]
pub enum Pipe {
    /// A stream in the caller's own shape.
    SameStream(Box<StreamWatch>),
    /// A whole answer in the caller's own shape.
    SameWhole(Box<WholeWatch>),
    /// An answer in another shape.
    Cross(Box<Cross>),
    /// An answer that is no conversation's.
    Checked(Box<Checked>),
}

/// How far an answer has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whether it may be given to the caller: content was seen (streams), the shape's answer key was seen (whole, same
    /// shape), or all of it was read (whole, other shape). Stays true.
    pub content: bool,
    /// Whether its end marker was seen; an answer may end without content. Stays true.
    pub ended: bool,
    /// Why it failed: the upstream said so, broke off, or sent something else than an answer. Nothing of the failed
    /// event is in the caller's bytes; a stream that has begun is to be closed with the shape's error event.
    pub error: Option<WireError>,
}

/// What was learnt of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Tokens; absent: the upstream did not say, as yet.
    pub usage: Option<Usage>,
    /// The model that answered, as the upstream calls it.
    pub model: Option<String>,
    /// The upstream's id of the answer.
    pub upstream_id: Option<String>,
    /// Why it ended; of several choices the first.
    pub stop: Option<StopReason>,
    /// What could not be carried to the caller's shape.
    pub losses: Vec<Loss>,
    /// Bytes of text, reasoning and tool arguments so far, for estimates.
    pub output_bytes: u64,
}

impl Pipe {
    /// An answer in the caller's own shape. `streamed` says how the upstream answers. With `hide_usage`, the usage
    /// event that was asked for on the caller's behalf is left out.
    pub fn same(shape: WireShape, streamed: bool, hide_usage: bool) -> Pipe {
        if streamed {
            Pipe::SameStream(Box::new(StreamWatch::new(shape, hide_usage)))
        } else {
            Pipe::SameWhole(Box::new(WholeWatch::new(shape)))
        }
    }

    /// An answer from an upstream of shape `from` for a caller of shape `to`. `streamed` says how the upstream answers;
    /// `context.stream` how the caller is answered, which may differ. The shapes may be the same: then an answer is
    /// rewritten from a stream to a whole one, or the reverse.
    pub fn cross(from: WireShape, to: WireShape, streamed: bool, context: AnswerContext) -> Pipe {
        Pipe::Cross(Box::new(Cross::new(from, to, streamed, context)))
    }

    /// An answer that is no conversation's and passes untranslated.
    pub fn checked(wanted: Wanted) -> Pipe {
        Pipe::Checked(Box::new(Checked::new(wanted)))
    }

    /// Takes the next bytes of the upstream's body; the caller's are appended to `out`. After a failure all is ignored.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Seen {
        match self {
            Pipe::SameStream(watch) => watch.push(chunk, out),
            Pipe::SameWhole(watch) => watch.push(chunk, out),
            Pipe::Cross(cross) => cross.push(&chunk, out),
            Pipe::Checked(checked) => checked.push(&chunk),
        }
    }

    /// The upstream's body is over. Fails where the answer is not.
    pub fn end(&mut self, out: &mut Vec<Bytes>) -> Seen {
        match self {
            Pipe::SameStream(watch) => watch.end(out),
            Pipe::SameWhole(watch) => watch.end(),
            Pipe::Cross(cross) => cross.end(out),
            Pipe::Checked(checked) => checked.end(out),
        }
    }

    /// What was learnt so far.
    pub fn facts(&self) -> Facts {
        match self {
            Pipe::SameStream(watch) => watch.facts(),
            Pipe::SameWhole(watch) => watch.facts(),
            Pipe::Cross(cross) => cross.facts(),
            Pipe::Checked(checked) => checked.facts(),
        }
    }

    /// What was learnt, of an answer that has ended: nobody is to ask for it again.
    pub fn into_facts(self) -> Facts {
        match self {
            Pipe::SameWhole(mut watch) => watch.take_facts(),
            Pipe::SameStream(_) | Pipe::Cross(_) | Pipe::Checked(_) => self.facts(),
        }
    }
}

#[cfg(test)]
mod tests;
