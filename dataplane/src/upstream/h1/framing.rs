//! Where the body of an answer ends (RFC 9112, section 6.3), and whether the connection goes on behind it. Stricter than it
//! has to be where two ways to read a message would be two messages.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::{Frame, SizeHint};

use super::{
    answer::Head,
    chunks::Chunks,
    fault::{Fault, Malformed},
};

/// How a body is delimited, and what of it is still to come.
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All that comes.
    UntilClose,
}

impl Framing {
    /// The framing of the answer to a request, and whether the connection is kept behind it.
    pub(super) fn of(head: &Head, method: &Method) -> Result<(Self, bool), Malformed> {
        let is_kept = is_kept(head);
        if *method == Method::CONNECT && head.status.is_success() {
            return Ok((Framing::Length(0), false));
        }
        if *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status) {
            return Ok((Framing::Length(0), is_kept));
        }
        let has_length = head.headers.contains_key(CONTENT_LENGTH);
        if head.headers.contains_key(TRANSFER_ENCODING) {
            return match is_chunked(&head.headers) && head.version == Version::HTTP_11 {
                true if has_length => Err(Malformed::TwoLengths),
                true => Ok((Framing::Chunked(Chunks::default()), is_kept)),
                false => Err(Malformed::TransferEncoding),
            };
        }
        match has_length {
            true => Ok((Framing::Length(length(&head.headers)?), is_kept)),
            false => Ok((Framing::UntilClose, false)),
        }
    }

    /// Whether all of the body was taken.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.is_over(),
            Framing::UntilClose => false,
        }
    }

    /// Takes the next of the body that was read; none where more has to be read, or it is over.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Framing::Length(left) => Ok(up_to(left, buffer).map(Frame::data)),
            Framing::Chunked(chunks) => chunks.next(buffer),
            Framing::UntilClose => Ok((!buffer.is_empty()).then(|| Frame::data(buffer.split().freeze()))),
        }
    }

    /// The connection has ended. Errs where there was more to come.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self {
            Framing::UntilClose => {
                *self = Framing::Length(0);
                Ok(())
            }
            Framing::Length(_) | Framing::Chunked(_) => Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Framing::Length(left) => SizeHint::with_exact(*left),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }
}

/// Takes what there is, up to so many bytes.
pub(super) fn up_to(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    (length > 0).then(|| buffer.split_to(length).freeze())
}

/// One number, however often it is said.
fn length(headers: &HeaderMap) -> Result<u64, Malformed> {
    if let Some(number) = one_number(headers) {
        return Ok(number);
    }
    let mut said = None;
    for token in tokens(headers, CONTENT_LENGTH) {
        // `u64::from_str` would take a sign.
        let number = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|token| token.parse().ok()).ok_or(Malformed::ContentLength)?;
        if said.replace(number).is_some_and(|other: u64| other != number) {
            return Err(Malformed::ContentLength);
        }
    }
    said.ok_or(Malformed::ContentLength)
}

/// Nearly every answer says it in one line, and nothing else in that.
fn one_number(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(CONTENT_LENGTH).into_iter();
    let line = lines.next().filter(|_| lines.next().is_none())?.as_bytes();
    let add = |number: u64, byte: &u8| number.checked_mul(10)?.checked_add(char::from(*byte).to_digit(10)?.into());
    if line.is_empty() { None } else { line.iter().try_fold(0, add) }
}

/// Other codings were not asked for.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = tokens(headers, TRANSFER_ENCODING);
    let first = codings.next().flatten();
    first.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) && codings.next().is_none()
}

fn is_kept(head: &Head) -> bool {
    if !head.headers.contains_key(CONNECTION) {
        return head.version == Version::HTTP_11;
    }
    let says =
        |expected: &str| tokens(&head.headers, CONNECTION).flatten().any(|token| token.eq_ignore_ascii_case(expected));
    match head.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive") && !says("close"),
    }
}

/// The elements of a list header, in all its lines; none for what is no text.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    headers.get_all(name).into_iter().flat_map(|line| {
        let text = line.to_str().ok();
        let none = text.is_none().then_some(None);
        none.into_iter().chain(text.into_iter().flat_map(|text| text.split(',')).map(|token| Some(token.trim())))
    })
}
