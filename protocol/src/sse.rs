//! Server-sent events: an incremental parser over any chunking, and a writer.
//!
//! The parser knows lines and fields, nothing of what a frame's data mean. It takes CR, LF and CRLF in any mixture, a
//! byte order mark, comments, `field:value` with or without a space, and data of several lines.

use std::{borrow::Cow, ops::Range};

use memchr::memchr2;
use serde::Serialize;

/// Most bytes of one frame. A longer one is [`TooLarge`].
pub const MAX_FRAME: usize = 16 << 20;

/// Buffers above this size are given back once they are empty.
const KEPT_CAPACITY: usize = 64 << 10;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The value of its `event:` line; absent where it has none.
    pub event: Option<&'a str>,
    /// Its `data:` lines, joined by line feeds; bytes that are not UTF-8 are replaced.
    pub data: Cow<'a, str>,
    /// The frame as it stood, from the end of the one before it to its blank line.
    pub raw: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame made in memory, for those who need no raw bytes.
    pub fn new(event: Option<&'a str>, data: &'a str) -> Self {
        Self { event, data: Cow::Borrowed(data), raw: &[] }
    }
}

/// A frame grew beyond [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {} MiB", MAX_FRAME >> 20)]
pub struct TooLarge;

/// Cuts a byte stream into frames: [`Parser::push`] every chunk, then take frames by [`Parser::frame`] until there is
/// none, and [`Parser::end`] once the stream is over.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    /// Where the current frame begins.
    start: usize,
    /// Where the current line begins.
    line: usize,
    /// Up to here no line end was found.
    searched: usize,
    /// A CR ended the buffer: a LF that follows belongs to it.
    after_cr: bool,
    /// Whether anything was read before, so that a byte order mark is one no more.
    begun: bool,
    fields: Fields,
}

/// The lines of the current frame, as ranges from its start.
#[derive(Debug, Default)]
struct Fields {
    event: Option<Range<usize>>,
    data: Option<Range<usize>>,
    /// The data lines behind the first, which few frames have.
    more_data: Vec<Range<usize>>,
}

impl Fields {
    fn is_empty(&self) -> bool {
        self.event.is_none() && self.data.is_none()
    }
}

impl Parser {
    /// A parser at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        self.forget_taken();
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete frame; none: more bytes are needed. Errs once a frame is too large; the stream is lost then.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, TooLarge> {
        if !self.skip_mark() {
            return Ok(None);
        }
        loop {
            let Some(line) = self.take_line() else { return self.need_more() };
            if !line.is_empty() {
                self.note_field(line);
                continue;
            }
            let fields = std::mem::take(&mut self.fields);
            if fields.data.is_some() {
                let from = std::mem::replace(&mut self.start, self.line);
                return Ok(Some(assemble(&self.buffer[from..self.start], &fields)));
            }
        }
    }

    /// The comments and blank lines since the last frame that no frame has begun after, taken out so that they may go
    /// on at once. Those that are not taken before the next [`Parser::push`] are forgotten.
    pub fn idle(&mut self) -> &[u8] {
        if !self.fields.is_empty() {
            return &[];
        }
        let from = std::mem::replace(&mut self.start, self.line);
        &self.buffer[from..self.start]
    }

    /// The stream is over: the frame that lacks only its blank line, where there is one. A frame that was cut within
    /// its data comes out cut.
    pub fn end(&mut self) -> Option<Frame<'_>> {
        if !self.begun && self.buffer.is_empty() {
            return None;
        }
        if self.line < self.buffer.len() {
            self.note_field(self.line..self.buffer.len());
            self.line = self.buffer.len();
        }
        let fields = std::mem::take(&mut self.fields);
        let from = std::mem::replace(&mut self.start, self.line);
        fields.data.is_some().then(|| assemble(&self.buffer[from..], &fields))
    }

    /// The bytes that were pushed and are in no frame yet.
    pub fn unfinished(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn forget_taken(&mut self) {
        self.idle();
        if self.start == self.buffer.len() && self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.line -= self.start;
        self.searched -= self.start;
        self.start = 0;
    }

    /// Passes over a byte order mark; false while it may still be coming.
    fn skip_mark(&mut self) -> bool {
        if self.begun {
            return true;
        }
        if self.buffer.len() < BOM.len() && BOM.starts_with(&self.buffer) {
            return false;
        }
        if self.buffer.starts_with(BOM) {
            (self.line, self.searched) = (BOM.len(), BOM.len());
        }
        self.begun = true;
        true
    }

    /// The next line without its end, as a range of the buffer.
    fn take_line(&mut self) -> Option<Range<usize>> {
        if self.after_cr && self.line < self.buffer.len() {
            self.after_cr = false;
            if self.buffer[self.line] == b'\n' {
                self.line += 1;
                self.searched = self.searched.max(self.line);
            }
        }
        let Some(offset) = memchr2(b'\r', b'\n', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + offset;
        let line = self.line..end;
        self.line = end + 1;
        if self.buffer[end] == b'\r' {
            match self.buffer.get(end + 1) {
                Some(b'\n') => self.line += 1,
                Some(_) => {}
                None => self.after_cr = true,
            }
        }
        self.searched = self.line;
        Some(line)
    }

    fn need_more(&self) -> Result<Option<Frame<'_>>, TooLarge> {
        if self.unfinished().len() > MAX_FRAME { Err(TooLarge) } else { Ok(None) }
    }

    fn note_field(&mut self, line: Range<usize>) {
        let text = &self.buffer[line.clone()];
        let (name, value) = match memchr::memchr(b':', text) {
            Some(colon) => {
                let space = usize::from(text.get(colon + 1) == Some(&b' '));
                (&text[..colon], line.start + colon + 1 + space..line.end)
            }
            None => (text, line.end..line.end),
        };
        let value = value.start - self.start..value.end - self.start;
        match name {
            b"data" if self.fields.data.is_some() => self.fields.more_data.push(value),
            b"data" => self.fields.data = Some(value),
            b"event" => self.fields.event = Some(value),
            _ => {}
        }
    }
}

fn assemble<'a>(raw: &'a [u8], fields: &Fields) -> Frame<'a> {
    let event = fields.event.clone().and_then(|range| std::str::from_utf8(&raw[range]).ok());
    let mut lines = fields.data.iter().chain(&fields.more_data).map(|range| text(&raw[range.clone()]));
    let data = match (fields.more_data.is_empty(), lines.next()) {
        (true, only) => only.unwrap_or_default(),
        (false, first) => Cow::Owned(first.into_iter().chain(lines).collect::<Vec<_>>().join("\n")),
    };
    Frame { event: event.filter(|name| !name.is_empty()), data, raw }
}

/// Checked first: replacing goes character by character even where there is nothing to replace.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Appends a frame. Line feeds in the data become several `data:` lines.
pub fn write(out: &mut Vec<u8>, event: Option<&str>, data: &str) {
    write_event(out, event);
    for line in data.split('\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Appends a frame whose data are a JSON value, written straight into `out`.
pub fn write_json(out: &mut Vec<u8>, event: Option<&str>, value: &impl Serialize) {
    write_event(out, event);
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, value).expect("a Vec takes every byte, and our values have string keys");
    out.extend_from_slice(b"\n\n");
}

/// Appends a frame whose data `write` writes, in one line.
pub(crate) fn write_with(out: &mut Vec<u8>, event: Option<&str>, write: impl FnOnce(&mut Vec<u8>)) {
    write_event(out, event);
    out.extend_from_slice(b"data: ");
    write(out);
    out.extend_from_slice(b"\n\n");
}

fn write_event(out: &mut Vec<u8>, event: Option<&str>) {
    if let Some(event) = event {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (Option<String>, String);

    fn frames_of(chunks: &[&[u8]]) -> Vec<Owned> {
        let mut parser = Parser::new();
        let mut out = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(frame) = parser.frame().unwrap() {
                out.push((frame.event.map(str::to_owned), frame.data.into_owned()));
            }
        }
        if let Some(frame) = parser.end() {
            out.push((frame.event.map(str::to_owned), frame.data.into_owned()));
        }
        out
    }

    fn event(name: &str, data: &str) -> Owned {
        (Some(name.to_owned()), data.to_owned())
    }

    fn plain(data: &str) -> Owned {
        (None, data.to_owned())
    }

    #[test]
    fn reads_events_data_and_comments() {
        let got = frames_of(&[b": hello\nevent: a\ndata: 1\n\n:\n\ndata:2\nid: 7\nretry: 10\n\n"]);
        assert_eq!(got, [event("a", "1"), plain("2")]);
    }

    #[test]
    fn joins_data_lines_and_keeps_all_but_one_space() {
        assert_eq!(frames_of(&[b"data: a\ndata:  b\ndata\ndata:\n\n"]), [plain("a\n b\n\n")]);
    }

    #[test]
    fn any_line_end_and_any_chunking_give_the_same_frames() {
        let expected = [event("x", "{\"a\":\"\u{e4}\"}"), plain("two\nlines"), plain("[DONE]")];
        for end in ["\n", "\r", "\r\n"] {
            let text =
                "\u{feff}event: x\ndata: {\"a\":\"\u{e4}\"}\n\n: c\n\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n";
            let bytes = text.replace('\n', end).into_bytes();
            assert_eq!(frames_of(&[&bytes]), expected, "{end:?} whole");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(frames_of(&single), expected, "{end:?} byte by byte");
            for cut in 0..bytes.len() {
                assert_eq!(frames_of(&[&bytes[..cut], &bytes[cut..]]), expected, "{end:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn mixed_line_ends_within_one_stream() {
        assert_eq!(frames_of(&[b"data: a\r\n\ndata: b\n\r\ndata: c\r\r"]), [plain("a"), plain("b"), plain("c")]);
    }

    #[test]
    fn raw_slices_and_idle_bytes_put_together_are_the_stream() {
        let stream = b": c\r\n\r\ndata: a\r\n\r\n: d\n\ndata: b\n\nevent: e\n\nevent: e\ndata: c\n\n: e";
        let mut parser = Parser::new();
        let mut seen = Vec::new();
        for chunk in stream.chunks(5) {
            parser.push(chunk);
            while let Some(frame) = parser.frame().unwrap() {
                seen.extend_from_slice(frame.raw);
            }
            seen.extend_from_slice(parser.idle());
        }
        seen.extend_from_slice(parser.unfinished());
        assert_eq!(seen, stream);
    }

    #[test]
    fn a_last_frame_without_its_blank_line_is_given_at_the_end() {
        assert_eq!(frames_of(&[b"data: [DONE]"]), [plain("[DONE]")]);
        assert_eq!(frames_of(&[b"data: [DONE]\n"]), [plain("[DONE]")]);
        assert_eq!(frames_of(&[b"\xEF\xBB"]), []);
        assert_eq!(frames_of(&[b"event: x\n\n"]), []);
    }

    #[test]
    fn a_frame_without_end_is_too_large_and_memory_is_given_back_after_large_frames() {
        let mut parser = Parser::new();
        parser.push(b"data: ");
        parser.push(&vec![b'x'; MAX_FRAME]);
        assert_eq!(parser.frame(), Err(TooLarge));

        let mut parser = Parser::new();
        parser.push(&vec![b'x'; KEPT_CAPACITY * 2]);
        parser.push(b"\n\n");
        assert_eq!(parser.frame(), Ok(None));
        parser.push(b"");
        assert_eq!(parser.buffer.capacity(), 0);
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = Vec::new();
        write(&mut out, Some("ping"), "a\nb");
        write_json(&mut out, None, &serde_json::json!({"n": 1}));
        assert_eq!(out, b"event: ping\ndata: a\ndata: b\n\ndata: {\"n\":1}\n\n");
        assert_eq!(frames_of(&[&out]), [event("ping", "a\nb"), plain("{\"n\":1}")]);
    }
}
