//! The chunked transfer coding (RFC 9112, section 7.1), taken apart as it comes. Holds no more than a line.

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use memchr::{memchr, memchr_iter};

use super::{
    answer,
    fault::Malformed,
    fields::{FIELDS_MOST, fields},
    framing::up_to,
};

/// Most bytes of the extensions of all chunks, and of one line with a size.
pub(super) const EXTENSIONS_MOST: usize = 16 << 10;
/// Most bytes of trailers.
pub(super) const TRAILERS_MOST: usize = 16 << 10;

/// What most bodies end with behind their last data.
const END: &[u8] = b"\r\n0\r\n\r\n";

/// Chunks, and what is expected next of them.
#[derive(Default)]
pub(super) struct Chunks {
    next: Next,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Default)]
enum Next {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Nothing,
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Takes the next data, or trailers, that were read; none where more has to be read, or it is over.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        loop {
            match &mut self.next {
                Next::Size => {
                    let Some(size) = self.size(buffer)? else { return Ok(None) };
                    self.next = if size == 0 { Next::Trailers } else { Next::Data(size) };
                }
                Next::Data(left) => {
                    let data = up_to(left, buffer);
                    if *left == 0 {
                        self.next = Next::DataEnd;
                        self.end_at_once(buffer);
                    }
                    return Ok(data.map(Frame::data));
                }
                Next::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.next = Next::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Malformed::ChunkEnd),
                },
                Next::Trailers => return self.trailers(buffer),
                Next::Nothing => return Ok(None),
            }
        }
    }

    /// So that who has all data knows that it is all.
    fn end_at_once(&mut self, buffer: &mut BytesMut) {
        if buffer[..] == *END {
            buffer.clear();
            self.next = Next::Nothing;
        }
    }

    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let Some(end) = memchr(b'\n', buffer) else {
            return if buffer.len() < EXTENSIONS_MOST { Ok(None) } else { Err(Malformed::Extensions) };
        };
        let line = buffer[..end].strip_suffix(b"\r").ok_or(Malformed::ChunkLine)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = hexadecimal(&line[..digits]).ok_or(Malformed::ChunkSize)?;
        let blank = line[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &line[digits + blank..] {
            [] => {}
            [b';', extension @ ..] if !extension.contains(&b'\r') => self.extensions += extension.len(),
            [b';', ..] => return Err(Malformed::ChunkLine),
            _ => return Err(Malformed::ChunkSize),
        }
        if self.extensions >= EXTENSIONS_MOST {
            return Err(Malformed::Extensions);
        }
        buffer.advance(end + 1);
        Ok(Some(size))
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.next = Next::Nothing;
            return Ok(None);
        }
        let Some(length) = answer::end(buffer, 0) else {
            return if buffer.len() < TRAILERS_MOST { Ok(None) } else { Err(Malformed::TrailersTooLong) };
        };
        if length > TRAILERS_MOST {
            return Err(Malformed::TrailersTooLong);
        }
        let bytes = buffer.split_to(length).freeze();
        // In a head, the parser takes lines that end without a return; behind a body, nobody else does.
        if memchr_iter(b'\n', &bytes).any(|at| !bytes[..at].ends_with(b"\r")) {
            return Err(Malformed::Trailers);
        }
        let mut room = [httparse::EMPTY_HEADER; FIELDS_MOST];
        let Ok(httparse::Status::Complete((parsed, found))) = httparse::parse_headers(&bytes, &mut room) else {
            return Err(Malformed::Trailers);
        };
        if parsed != length {
            return Err(Malformed::Trailers);
        }
        let trailers = fields(&bytes, found).map_err(|_| Malformed::Trailers)?;
        self.next = Next::Nothing;
        Ok(Some(Frame::trailers(trailers)))
    }
}

/// A number of at least one digit; none where it is none, or too large.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let value = |number: u64, digit: &u8| number.checked_mul(16)?.checked_add(char::from(*digit).to_digit(16)?.into());
    if digits.is_empty() { None } else { digits.iter().try_fold(0, value) }
}
