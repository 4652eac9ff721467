//! Watches an answer in the caller's own shape: its bytes pass untouched, a decoder on the side reads what they say.

mod rope;
mod skeleton;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    WireShape, codec,
    codec::StreamDecoder,
    error::{ErrorKind, WireError},
    event::Event,
    pipe::{Facts, Seen, Tally},
    skim::{Brief, Content},
    sse::{Frame, Parser},
};
use rope::Rope;
use skeleton::{Scan, Skeleton};

/// Most bytes of a whole answer that are held until it shows that it is one.
const MAX_UNCOMMITTED: usize = 256 << 10;

/// Watches a stream. Frames pass whole, so that a stream that breaks within one can still be closed by an error event;
/// chunks that end with a frame, as nearly all do, pass as they came.
#[derive(Debug)]
pub struct StreamWatch {
    parser: Parser,
    decoder: StreamDecoder,
    hide_usage: bool,
    rope: Rope,
    tally: Tally,
    events: Vec<Event>,
}

impl StreamWatch {
    pub(crate) fn new(shape: WireShape, hide_usage: bool) -> Self {
        Self {
            parser: Parser::new(),
            decoder: StreamDecoder::new(shape),
            hide_usage,
            rope: Rope::default(),
            tally: Tally::default(),
            events: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Seen {
        if self.tally.has_failed() {
            return self.tally.seen();
        }
        self.parser.push(&chunk);
        self.rope.push(chunk);
        let mut passing = 0;
        loop {
            let frame = match self.parser.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(fault) => {
                    self.tally.fail(WireError::new(ErrorKind::ServerError, fault.to_string()));
                    break;
                }
            };
            let length = frame.raw.len();
            match look(&frame, &mut self.decoder, &mut self.events, &mut self.tally, self.hide_usage) {
                Verdict::Pass => passing += length,
                Verdict::Hide => {
                    self.rope.take(std::mem::take(&mut passing), out);
                    self.rope.skip(length);
                }
                Verdict::Stop => break,
            }
        }
        if !self.tally.has_failed() {
            passing += self.parser.idle().len();
        }
        self.rope.take(passing, out);
        self.tally.seen()
    }

    pub(crate) fn end(&mut self, out: &mut Vec<Bytes>) -> Seen {
        if self.tally.has_failed() {
            return self.tally.seen();
        }
        let verdict = self.parser.end().map_or(Verdict::Pass, |frame| {
            look(&frame, &mut self.decoder, &mut self.events, &mut self.tally, self.hide_usage)
        });
        self.events.clear();
        self.decoder.end(&mut self.events);
        self.events.iter().for_each(|event| self.tally.note(event));
        if verdict == Verdict::Pass && !self.tally.has_failed() {
            self.rope.take_all(out);
        }
        self.tally.seen()
    }

    pub(crate) fn facts(&self) -> Facts {
        self.tally.facts()
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Hide,
    Stop,
}

fn look(
    frame: &Frame<'_>,
    decoder: &mut StreamDecoder,
    events: &mut Vec<Event>,
    tally: &mut Tally,
    hide_usage: bool,
) -> Verdict {
    if tally.has_ended() {
        return Verdict::Pass;
    }
    if let Some(bytes) = decoder.skim(frame) {
        tally.add_content(bytes);
        return Verdict::Pass;
    }
    events.clear();
    decoder.frame(frame, events);
    events.iter().for_each(|event| tally.note(event));
    let only_usage = hide_usage && events.iter().all(|event| matches!(event, Event::Start(_) | Event::Usage(_)));
    if tally.has_failed() {
        Verdict::Stop
    } else if only_usage && is_usage_chunk(&frame.data) {
        Verdict::Hide
    } else {
        Verdict::Pass
    }
}

/// Whether a chunk is the one that `include_usage` adds: usage without choices.
fn is_usage_chunk(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<IgnoredAny>,
        #[serde(rename = "usage")]
        _usage: IgnoredAny,
    }
    serde_json::from_str::<Chunk>(data).is_ok_and(|chunk| chunk.choices.is_empty())
}

/// Most bytes of a piece that is looked at whether it is a whole answer.
const MAX_AT_ONCE: usize = 64 << 10;

/// Watches a whole answer with bounded memory. Its owner holds the bytes back until [`Seen::content`].
#[derive(Debug)]
pub struct WholeWatch {
    shape: WireShape,
    /// The first piece where it was taken for all of the answer.
    whole: Option<Bytes>,
    skeleton: Skeleton,
    read: usize,
    tally: Tally,
}

impl WholeWatch {
    pub(crate) fn new(shape: WireShape) -> Self {
        Self { shape, whole: None, skeleton: Skeleton::new(shape), read: 0, tally: Tally::default() }
    }

    pub(crate) fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Seen {
        if self.tally.has_failed() {
            return self.tally.seen();
        }
        self.read += chunk.len();
        if self.read == chunk.len() && self.note_whole(&chunk) {
            out.push(chunk.clone());
            self.whole = Some(chunk);
            return self.tally.seen();
        }
        if let Some(first) = self.whole.take() {
            self.tally.note_brief(Brief::default());
            // Its content was counted.
            self.skeleton.push(&first);
        }
        let Scan { skipped, broken } = self.skeleton.push(&chunk);
        self.tally.add_output(skipped);
        if self.skeleton.is_answer() {
            self.tally.commit();
        } else if let Some(reason) = broken {
            self.fail(reason);
        } else if self.read > MAX_UNCOMMITTED {
            self.commit_late();
        }
        if !self.tally.has_failed() {
            out.push(chunk);
        }
        self.tally.seen()
    }

    pub(crate) fn end(&mut self) -> Seen {
        if self.tally.has_failed() {
            return self.tally.seen();
        }
        if self.whole.is_some() {
            self.tally.end();
            return self.tally.seen();
        }
        if !self.skeleton.is_complete() {
            self.tally.fail(match self.read {
                0 => WireError::new(ErrorKind::ServerError, "the upstream's answer is empty"),
                _ => WireError::new(ErrorKind::Unreachable, "the upstream's answer was cut off"),
            });
            return self.tally.seen();
        }
        self.note_answer();
        if self.tally.is_committed() {
            self.tally.end();
        } else {
            self.fail("the answer has no content");
        }
        self.tally.seen()
    }

    pub(crate) fn facts(&self) -> Facts {
        self.tally.facts()
    }

    pub(crate) fn take_facts(&mut self) -> Facts {
        self.tally.take_facts()
    }

    /// Reads a piece that is a whole answer of plain form at once. False: it is not; nothing was taken.
    fn note_whole(&mut self, piece: &[u8]) -> bool {
        let ends = piece.trim_ascii_end().last() == Some(&b'}') && piece.len() <= MAX_AT_ONCE;
        let Some(text) = ends.then(|| str::from_utf8(piece).ok()).flatten() else { return false };
        let mut content = Content::Here(0);
        let Some(brief) = codec::brief(self.shape, text, &mut content) else { return false };
        self.tally.note_brief(brief);
        if let Content::Here(bytes) = content {
            self.tally.add_output(bytes);
        }
        self.tally.commit();
        true
    }

    /// Reads what is left of the answer: by its form where that is plain, else by its shape's decoder.
    fn note_answer(&mut self) {
        let frame = self.skeleton.json();
        let plain = |frame| codec::brief(self.shape, frame, &mut Content::LeftOut);
        if let Some(brief) = str::from_utf8(frame).ok().and_then(plain) {
            return self.tally.note_brief(brief);
        }
        match codec::decode_answer(self.shape, frame) {
            Ok(answer) => self.tally.note_brief(Brief::of(&answer)),
            Err(error) if !self.tally.is_committed() => self.tally.fail(error),
            // The caller has it: what its shape's own decoder thinks of the rest can no longer matter.
            Err(_) => {}
        }
    }

    /// Enough was held: what has the answer's key but not all else that marks it is taken for one.
    fn commit_late(&mut self) {
        if self.skeleton.has_key() {
            self.tally.commit();
        } else {
            self.fail("its first 256 KiB hold no answer");
        }
    }

    fn fail(&mut self, reason: &str) {
        let message = format!("the upstream's answer is not of the shape {}: {reason}", self.shape);
        self.tally.fail(WireError::new(ErrorKind::ServerError, message));
    }
}
