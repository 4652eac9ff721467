//! HTTP/1 as far as both ends of a measurement read it: heads, lengths and chunks, without allocating.

use anyhow::{Context, bail, ensure};

/// The most headers that a head may have.
const HEADERS: usize = 48;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// After the chunk of no bytes.
    Chunked,
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) authorization: &'a [u8],
    /// Bytes of the head.
    pub(crate) length: usize,
    pub(crate) body: Framing,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    /// Bytes of the head.
    pub(crate) length: usize,
    pub(crate) body: Framing,
}

/// Reads a request's head; nothing where it is not whole yet.
pub(crate) fn request_head(bytes: &[u8]) -> anyhow::Result<Option<RequestHead<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).context("reading a request's head")? else {
        return Ok(None);
    };
    let authorization = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("authorization"));
    Ok(Some(RequestHead {
        method: request.method.unwrap_or_default(),
        path: request.path.unwrap_or_default(),
        authorization: authorization.map_or(b"", |header| header.value),
        length,
        body: framing(request.headers)?.unwrap_or(Framing::Length(0)),
    }))
}

/// Reads an answer's head; nothing where it is not whole yet.
pub(crate) fn answer_head(bytes: &[u8]) -> anyhow::Result<Option<AnswerHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = answer.parse(bytes).context("reading an answer's head")? else {
        return Ok(None);
    };
    let body = framing(answer.headers)?.context("an answer that ends with its connection cannot be measured")?;
    Ok(Some(AnswerHead { status: answer.code.unwrap_or_default(), length, body }))
}

fn framing(headers: &[httparse::Header<'_>]) -> anyhow::Result<Option<Framing>> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).context("a length is no text")?;
            return Ok(Some(Framing::Length(text.trim().parse().with_context(|| format!("`{text}` is no length"))?)));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Some(Framing::Chunked));
        }
    }
    Ok(None)
}

/// Where a chunked body stands.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Chunks {
    at: At,
}

#[derive(Debug, Default, Clone, Copy)]
enum At {
    /// In the line with the size, which is so much up to here.
    #[default]
    Start,
    Size(usize),
    Extension(usize),
    Data(usize),
    /// In the line's end after the data.
    DataEnd,
    /// After the last chunk: whether the line has something in it.
    Trailer(bool),
    Ended,
}

impl Chunks {
    pub(crate) fn is_ended(self) -> bool {
        matches!(self.at, At::Ended)
    }

    /// Takes bytes of the body, and gives their payload to `each`.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let At::Data(left) = self.at {
                let (data, after) = bytes.split_at(left.min(bytes.len()));
                each(data);
                self.at = if data.len() == left { At::DataEnd } else { At::Data(left - data.len()) };
                bytes = after;
                continue;
            }
            self.at = self.at.after(byte)?;
            bytes = rest;
        }
        Ok(())
    }
}

impl At {
    fn after(self, byte: u8) -> anyhow::Result<Self> {
        Ok(match (self, byte) {
            (Self::Start, _) => Self::Size(digit(byte)?),
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::Extension(size),
            (Self::Size(0) | Self::Extension(0), b'\n') => Self::Trailer(false),
            (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size),
            (Self::Size(size), b';') | (Self::Extension(size), _) => Self::Extension(size),
            (Self::Size(size), _) => Self::Size(size * 16 + digit(byte)?),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Start,
            (Self::DataEnd, _) => bail!("a chunk is longer than it says"),
            (Self::Trailer(some), b'\r') => Self::Trailer(some),
            (Self::Trailer(false), b'\n') => Self::Ended,
            (Self::Trailer(true), b'\n') => Self::Trailer(false),
            (Self::Trailer(_), _) => Self::Trailer(true),
            (Self::Data(_), _) => unreachable!("data is taken in one piece"),
            (Self::Ended, _) => bail!("something follows the end of a body"),
        })
    }
}

fn digit(byte: u8) -> anyhow::Result<usize> {
    let value = char::from(byte).to_digit(16);
    ensure!(value.is_some(), "`{}` is no digit of a chunk's size", byte.escape_ascii());
    Ok(value.unwrap_or_default() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nage: 1\r\n\r\n";
        for cut in 0..=body.len() {
            let (mut chunks, mut payload) = (Chunks::default(), Vec::new());
            for part in [&body[..cut], &body[cut..]] {
                chunks.take(part, |data| payload.extend_from_slice(data)).unwrap();
            }
            assert_eq!((payload.as_slice(), chunks.is_ended()), (&b"hello world"[..], true), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_said() {
        let told = |body: &[u8]| Chunks::default().take(body, |_| {}).unwrap_err().to_string();
        assert_eq!(told(b"x\r\n"), "`x` is no digit of a chunk's size");
        assert_eq!(told(b"1\r\nab"), "a chunk is longer than it says");
        assert_eq!(told(b"0\r\n\r\nHTTP"), "something follows the end of a body");
    }

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert!(answer_head(&head[..20]).unwrap().is_none());
        let read = answer_head(head).unwrap().unwrap();
        assert_eq!((read.status, read.length, read.body), (200, head.len(), Framing::Length(12)));
        let head = b"POST /v1/messages HTTP/1.1\r\nauthorization: Bearer x\r\ntransfer-encoding: chunked\r\n\r\n";
        let read = request_head(head).unwrap().unwrap();
        assert_eq!((read.path, read.authorization, read.body), ("/v1/messages", &b"Bearer x"[..], Framing::Chunked));
    }
}
