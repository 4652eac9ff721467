//! The head of an answer: where it ends in what was read, and what it says.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use memchr::memchr_iter;

use super::{
    fault::Malformed,
    fields::{FIELDS_MOST, fields},
    incoming::Incoming,
};

/// Most bytes of an answer's head, with those of the interim answers before it.
pub(super) const HEAD_MOST: usize = 64 << 10;
/// What every answer begins with.
const BEGINS: &[u8] = b"HTTP/1.";

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// Takes the head that the buffer begins with, and says how many bytes it had; none while its end is not there. `searched`
/// bytes are known to hold no end.
pub(super) fn take(buffer: &mut BytesMut, searched: &mut usize) -> Result<Option<(Head, usize)>, Malformed> {
    let Some(length) = end(buffer, *searched) else {
        *searched = buffer.len();
        // What is no HTTP may never have a line.
        let begins = buffer.iter().zip(BEGINS).all(|(byte, expected)| byte == expected);
        return if begins { Ok(None) } else { Err(Malformed::Head(httparse::Error::Version)) };
    };
    *searched = 0;
    if length > HEAD_MOST {
        return Err(Malformed::HeadTooLong);
    }
    parse(buffer.split_to(length).freeze()).map(|head| Some((head, length)))
}

/// Where lines of headers end: behind the first empty line. The first `searched` bytes are known to hold no end.
pub(super) fn end(buffer: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(2);
    memchr_iter(b'\n', &buffer[from..]).map(|at| from + at + 1).find_map(|next| match &buffer[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

fn parse(bytes: Bytes) -> Result<Head, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MOST];
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &bytes, &mut room);
    if status.map_err(Malformed::Head)? != Status::Complete(bytes.len()) {
        return Err(Malformed::HeadEnd);
    }
    let code = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    Ok(Head {
        version: if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 },
        status: code.ok_or(Malformed::Head(httparse::Error::Status))?,
        headers: fields(&bytes, parsed.headers).map_err(Malformed::Head)?,
    })
}

impl Head {
    pub(super) fn into_response(self, body: Incoming) -> Response<Incoming> {
        let mut response = Response::new(body);
        *response.version_mut() = self.version;
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
