//! A request on its way: what of it was sent, and what is sent next. Head and body go out together where both are there, and
//! nothing of the body is copied. What was not sent stays in the upload.

use std::{
    io::{self, IoSlice, Write},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request};
use smallvec::SmallVec;

use super::{connection::Connection, fault::Fault, request};
use crate::upstream::upload::Upload;

/// What a chunk ends with.
const CHUNK_END: &[u8] = b"\r\n";
/// What a body in chunks ends with.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What is sent at once, in order.
type Parts<'a> = SmallVec<[&'a [u8]; 6]>;

/// A request on its way.
pub(super) struct Sending {
    stage: Stage,
    is_chunked: bool,
    /// Whether the head is at hand, in the connection's buffer.
    has_head: bool,
    /// The size of the chunk at hand.
    size: SmallVec<[u8; 18]>,
    /// Whether what is at hand is the last of the body.
    is_last: bool,
    /// So much of what is at hand was sent: head, size, piece, end.
    sent: usize,
    /// Whether anything at all was sent.
    has_begun: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Going,
    /// All of it was taken, but may not have gone out yet.
    Leaving,
    Over,
    /// The other side takes no more. It may have said why.
    Broken,
}

impl Sending {
    /// Writes the head into the buffer of the connection, which has to be empty.
    pub(super) fn begin(connection: &mut Connection, request: &Request<Upload>, host: &HeaderValue) -> Self {
        connection.make_room();
        let is_chunked = request::write(&mut connection.buffer, request, host);
        Self {
            stage: Stage::Going,
            is_chunked,
            has_head: true,
            size: SmallVec::new(),
            is_last: matches!(request.body(), Upload::Whole(_)),
            sent: 0,
            has_begun: false,
        }
    }

    /// Whether all of the request was sent.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether the buffer of the connection still holds the head.
    pub(super) fn is_at_the_head(&self) -> bool {
        self.has_head
    }

    /// Sends what can be sent. Ready when no more is to be sent, be it that the other side takes no more: its answer says
    /// why, if there is one. Errs where nothing was sent, or the body itself breaks off.
    pub(super) fn poll(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let went = match self.stage {
                Stage::Over | Stage::Broken => return Poll::Ready(Ok(())),
                Stage::Leaving => ready!(connection.stream.poll_flush(context)).map(|()| self.stage = Stage::Over),
                Stage::Going => {
                    let is_waiting = self.poll_piece(upload, context)?.is_pending();
                    let written = ready!(self.poll_write(connection, upload, context));
                    if written.is_ok() && is_waiting {
                        return self.wait(connection, context);
                    }
                    written
                }
            };
            if went.is_err() {
                if !self.has_begun {
                    return Poll::Ready(Err(Fault::Unsent));
                }
                self.stage = Stage::Broken;
                self.drop_head(connection);
            }
        }
    }

    /// Sends what the stream kept back; the next piece is not there yet.
    fn wait(&mut self, connection: &mut Connection, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if let Poll::Ready(Err(_)) = connection.stream.poll_flush(context) {
            self.stage = Stage::Broken;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Takes the next piece of a body that comes in pieces, where none is at hand.
    fn poll_piece(&mut self, upload: &mut Upload, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Upload::Passing(passing) = upload else { return Poll::Ready(Ok(())) };
        if self.is_last || !self.size.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match ready!(passing.poll_piece(context)).map_err(Fault::Upload)? {
            Some(_) if !self.is_chunked => {}
            Some(piece) => write!(SizeLine(&mut self.size), "{:x}\r\n", piece.len()).map_err(Fault::Broken)?,
            None => self.is_last = true,
        }
        if self.is_last && self.is_chunked {
            self.size.extend_from_slice(LAST_CHUNK);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all that is at hand.
    fn poll_write(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Connection { stream, buffer, .. } = &mut *connection;
            let parts = behind(self.at_hand(buffer, upload), self.sent);
            if parts.is_empty() {
                break;
            }
            let written = stream.poll_write(&parts, context);
            drop(parts);
            let sent = ready!(written)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            self.has_begun = true;
            if self.has_head && self.sent >= connection.buffer.len() {
                self.sent -= connection.buffer.len();
                self.drop_head(connection);
            }
        }
        self.sent = 0;
        self.size.clear();
        if let Upload::Passing(passing) = upload {
            passing.piece_is_sent();
        }
        if self.is_last {
            self.stage = Stage::Leaving;
        }
        Poll::Ready(Ok(()))
    }

    fn at_hand<'a>(&'a self, head: &'a [u8], upload: &'a Upload) -> Parts<'a> {
        let mut parts = Parts::new();
        if self.has_head {
            parts.push(head);
        }
        parts.push(&self.size);
        match upload {
            Upload::Whole(whole) => parts.extend(whole.pieces().map(Bytes::as_ref)),
            Upload::Passing(passing) => {
                if let Some(piece) = passing.piece() {
                    parts.push(piece);
                    parts.push(if self.is_chunked { CHUNK_END } else { &[] });
                }
            }
        }
        parts
    }

    fn drop_head(&mut self, connection: &mut Connection) {
        if std::mem::take(&mut self.has_head) {
            connection.forget_head();
        }
    }
}

/// What follows behind so many bytes.
fn behind<'a>(parts: Parts<'a>, mut sent: usize) -> SmallVec<[IoSlice<'a>; 6]> {
    let mut rest = SmallVec::new();
    for part in parts {
        let skipped = sent.min(part.len());
        sent -= skipped;
        if skipped < part.len() {
            rest.push(IoSlice::new(&part[skipped..]));
        }
    }
    rest
}

struct SizeLine<'a>(&'a mut SmallVec<[u8; 18]>);

impl Write for SizeLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
