//! A connection: a stream, and one buffer that holds first the head of a request and then what comes back. Decides how much
//! is read at once, and what is kept while nothing comes.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;

use super::stream::Stream;

/// The buffer of a connection whose other side sends little at a time.
const PIECE_LEAST: usize = 4 << 10;
/// Most bytes that are read at once.
const PIECE_MOST: usize = 64 << 10;

/// A connection that one request at a time is sent on.
pub(in crate::upstream) struct Connection {
    pub(super) stream: Stream,
    /// The head of a request until it is sent; from then on what was read and not taken out yet.
    pub(super) buffer: BytesMut,
    /// How much is read at once; grows while the other side has more than that, and shrinks when it pauses.
    piece: usize,
}

impl Connection {
    pub(in crate::upstream) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), piece: PIECE_LEAST }
    }

    /// Whether nothing has come since the last answer, not even the end of the connection: only then it may be used again.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        self.buffer.is_empty() && self.stream.is_quiet()
    }

    /// Gives up all memory that is not needed while nobody asks anything.
    pub(in crate::upstream) fn rest(&mut self) {
        if self.buffer.is_empty() {
            (self.buffer, self.piece) = (BytesMut::new(), PIECE_LEAST);
        }
    }

    /// Reads behind what is in the buffer. How many bytes; zero: the other side has ended.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.stream.poll_readable(context)?.is_pending() {
            self.pause();
            return Poll::Pending;
        }
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        let polled = self.stream.poll_read(&mut self.buffer, context);
        if polled.is_pending() {
            self.pause();
        }
        let read = ready!(polled)?;
        if read == room {
            self.piece = (4 * self.piece).min(PIECE_MOST);
        }
        Poll::Ready(Ok(read))
    }

    /// Makes room behind what is in the buffer: that of bytes which were taken out and are used no more, else new.
    pub(super) fn make_room(&mut self) {
        let length = self.buffer.len();
        if self.buffer.capacity() - length >= self.piece / 4 {
            return;
        }
        let room = self.piece.saturating_sub(length).max(self.piece / 4);
        if !self.buffer.try_reclaim(room) {
            let mut larger = BytesMut::with_capacity(length + room);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }

    /// The buffer is for the answer from now on.
    pub(super) fn forget_head(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > PIECE_LEAST {
            self.buffer = BytesMut::new();
        }
    }

    /// A large buffer is given up while nothing comes.
    fn pause(&mut self) {
        if self.piece > PIECE_LEAST {
            self.rest();
        }
    }
}
