//! An answer that is decoded from the upstream's shape and encoded in the caller's, each streamed or whole.

use bytes::Bytes;

use super::{Facts, Seen, Tally};
use crate::{
    Loss, WireShape,
    answer::Answer,
    codec,
    codec::{StreamDecoder, StreamEncoder},
    error::{ErrorKind, WireError},
    event::{BlockStart, Delta, Event},
    fold,
    fold::Accumulator,
    sse,
    translate::AnswerContext,
};

/// Most bytes of an answer that has to be held whole.
const MAX_WHOLE: usize = 32 << 20;

/// Most bytes of a buffer that is kept for the next write.
const KEPT: usize = 64 << 10;

/// An answer between two shapes.
#[derive(Debug)]
pub struct Cross {
    from: WireShape,
    to: WireShape,
    upstream: Upstream,
    caller: Caller,
    tally: Tally,
    events: Vec<Event>,
    /// What is being written; empty between writes.
    bytes: Vec<u8>,
}

/// How the upstream answers.
#[derive(Debug)]
enum Upstream {
    Streamed(Box<Reading>),
    Whole(Vec<u8>),
}

/// A stream that is read.
#[derive(Debug)]
struct Reading {
    parser: sse::Parser,
    decoder: StreamDecoder,
}

/// How the caller is answered.
#[derive(Debug)]
enum Caller {
    Streamed(StreamEncoder),
    Whole { answer: Accumulator, size: usize, context: AnswerContext, losses: Vec<Loss> },
}

impl Cross {
    pub(super) fn new(from: WireShape, to: WireShape, streamed: bool, context: AnswerContext) -> Self {
        let upstream = if streamed {
            Upstream::Streamed(Box::new(Reading { parser: sse::Parser::new(), decoder: StreamDecoder::new(from) }))
        } else {
            Upstream::Whole(Vec::new())
        };
        let caller = if context.stream {
            Caller::Streamed(StreamEncoder::new(to, context))
        } else {
            Caller::Whole { answer: Accumulator::default(), size: 0, context, losses: Vec::new() }
        };
        Self { from, to, upstream, caller, tally: Tally::default(), events: Vec::new(), bytes: Vec::new() }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<Bytes>) -> Seen {
        if !self.tally.has_failed() {
            self.read(chunk);
            self.write(out);
        }
        self.seen()
    }

    pub(super) fn end(&mut self, out: &mut Vec<Bytes>) -> Seen {
        if !self.tally.has_failed() {
            match self.read_end() {
                Some(answer) => self.write_answer(&answer, out),
                None => self.write(out),
            }
        }
        self.seen()
    }

    /// A whole answer is given to its caller once all of it is there.
    fn seen(&self) -> Seen {
        let seen = self.tally.seen();
        match &self.caller {
            Caller::Streamed(_) => seen,
            Caller::Whole { .. } => Seen { content: seen.ended && seen.error.is_none(), ..seen },
        }
    }

    pub(super) fn facts(&self) -> Facts {
        let losses = match &self.caller {
            Caller::Streamed(encoder) => encoder.losses(),
            Caller::Whole { losses, .. } => losses.clone(),
        };
        Facts { losses, ..self.tally.facts() }
    }

    /// Turns bytes into events.
    fn read(&mut self, chunk: &[u8]) {
        match &mut self.upstream {
            Upstream::Streamed(reading) => {
                let Reading { parser, decoder } = reading.as_mut();
                parser.push(chunk);
                loop {
                    match parser.frame() {
                        Ok(Some(frame)) if decoder.go_on(&frame, &mut self.events) => {}
                        Ok(Some(frame)) => decoder.frame(&frame, &mut self.events),
                        Ok(None) => break,
                        Err(fault) => {
                            self.events.push(Event::Error(WireError::new(ErrorKind::ServerError, fault.to_string())));
                            break;
                        }
                    }
                }
            }
            Upstream::Whole(body) if body.len() + chunk.len() > MAX_WHOLE => self.events.push(too_large()),
            Upstream::Whole(body) => body.extend_from_slice(chunk),
        }
    }

    /// Turns what is left into events; an answer that is whole on both sides needs none, and comes back.
    fn read_end(&mut self) -> Option<Answer> {
        match &mut self.upstream {
            Upstream::Streamed(reading) => {
                let Reading { parser, decoder } = reading.as_mut();
                if let Some(frame) = parser.end() {
                    decoder.frame(&frame, &mut self.events);
                }
                decoder.end(&mut self.events);
            }
            Upstream::Whole(body) => match codec::decode_answer(self.from, body) {
                Ok(answer) => match self.caller {
                    Caller::Whole { .. } => return Some(answer),
                    Caller::Streamed(_) => self.events.extend(fold::unfold(answer)),
                },
                Err(error) => self.events.push(Event::Error(error)),
            },
        }
        None
    }

    fn write_answer(&mut self, answer: &Answer, out: &mut Vec<Bytes>) {
        let Caller::Whole { context, losses, .. } = &mut self.caller else { return };
        self.tally.note_answer(answer);
        let (bytes, lost) = codec::encode_answer(self.to, answer, context);
        *losses = lost;
        out.push(bytes.into());
    }

    /// Turns events into the caller's bytes, up to the first failure.
    fn write(&mut self, out: &mut Vec<Bytes>) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if self.tally.has_ended() || self.tally.has_failed() {
                break;
            }
            self.tally.note(&event);
            match event {
                Event::Error(_) => {}
                event => self.write_event(event, &mut bytes),
            }
        }
        self.events = events;
        if bytes.len() > KEPT {
            return out.push(bytes.into());
        }
        if !bytes.is_empty() {
            out.push(Bytes::copy_from_slice(&bytes));
            bytes.clear();
        }
        self.bytes = bytes;
    }

    fn write_event(&mut self, event: Event, bytes: &mut Vec<u8>) {
        match &mut self.caller {
            Caller::Streamed(encoder) => encoder.event(event, bytes),
            Caller::Whole { answer, size, .. } => {
                let is_end = event == Event::End;
                *size += weight(&event);
                if *size > MAX_WHOLE {
                    return self.tally.note(&too_large());
                }
                if let Err(error) = answer.push(event) {
                    return self.tally.fail(error);
                }
                if is_end {
                    self.write_whole(bytes);
                }
            }
        }
    }

    fn write_whole(&mut self, bytes: &mut Vec<u8>) {
        let Caller::Whole { answer, context, losses, .. } = &mut self.caller else { return };
        match std::mem::take(answer).finish() {
            Ok(answer) => (*bytes, *losses) = codec::encode_answer(self.to, &answer, context),
            Err(error) => self.tally.fail(error),
        }
    }
}

/// About how many bytes an event adds to an answer that is held whole.
fn weight(event: &Event) -> usize {
    const RECORD: usize = 64;
    match event {
        Event::Delta { delta: Delta::Text(text) | Delta::Thinking(text) | Delta::Arguments(text), .. } => text.len(),
        Event::Delta { delta: Delta::Proof { data, .. }, .. } => data.len(),
        Event::Logprobs { value, .. } | Event::BlockStart { block: BlockStart::Raw { value, .. }, .. } => {
            value.to_string().len()
        }
        Event::BlockStart { block: BlockStart::RedactedThinking { data, .. }, .. } => RECORD + data.len(),
        _ => RECORD,
    }
}

fn too_large() -> Event {
    let message = format!("the answer is larger than {} MiB and has to be held whole", MAX_WHOLE >> 20);
    Event::Error(WireError::new(ErrorKind::ServerError, message))
}
