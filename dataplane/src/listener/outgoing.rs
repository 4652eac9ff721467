//! What a client has still to take, in order: chunks with their framing, and texts as they are. Goes out with as few calls as
//! the system takes, and is copied nowhere.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// Most pieces that wait.
const MOST: usize = 16;
/// Most bytes that wait, before the last piece.
const MOST_BYTES: usize = 64 << 10;
/// Slices of a piece: its size, itself, the end of its line.
const SLICES: usize = 3;
/// Digits of the largest size, and the end of its line.
const LONGEST_SIZE: usize = usize::BITS as usize / 4 + 2;

/// What has still to be sent.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes of all pieces, with their framing.
    waiting: usize,
    /// How much of the first is sent.
    sent: usize,
}

struct Piece {
    /// The line with its size; empty: it is sent as it is.
    size: [u8; LONGEST_SIZE],
    size_len: u8,
    data: Bytes,
}

impl Piece {
    fn chunk(data: Bytes) -> Self {
        let mut size = [0; LONGEST_SIZE];
        let mut rest = &mut size[..];
        write!(rest, "{:x}\r\n", data.len()).expect("there is room for the largest size");
        let size_len = LONGEST_SIZE - rest.len();
        Self { size, size_len: u8::try_from(size_len).expect("a few digits"), data }
    }

    fn slices(&self) -> [&[u8]; SLICES] {
        let size = &self.size[..usize::from(self.size_len)];
        [size, &self.data, if size.is_empty() { b"" } else { b"\r\n" }]
    }

    fn len(&self) -> usize {
        self.slices().iter().map(|slice| slice.len()).sum()
    }
}

impl Outgoing {
    /// Whether more should be made ready before this was sent.
    pub(super) fn has_room(&self) -> bool {
        self.pieces.len() < MOST && self.waiting < MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// A chunk of a body, which must not be empty: that would end it.
    pub(super) fn push_chunk(&mut self, data: Bytes) {
        self.push(Piece::chunk(data));
    }

    /// Something that is no chunk.
    pub(super) fn push_as_it_is(&mut self, data: Bytes) {
        self.push(Piece { size: [0; LONGEST_SIZE], size_len: 0, data });
    }

    fn push(&mut self, piece: Piece) {
        self.waiting += piece.len();
        self.pieces.push_back(piece);
    }

    /// Sends as much as goes with one call; there must be something.
    pub(super) fn poll_send(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES * MOST];
        let mut count = 0;
        let mut behind = self.sent;
        for slice in self.pieces.iter().flat_map(Piece::slices) {
            let passed = behind.min(slice.len());
            behind -= passed;
            if passed < slice.len() && count < slices.len() {
                slices[count] = IoSlice::new(&slice[passed..]);
                count += 1;
            }
        }
        match ready!(Pin::new(to).poll_write_vectored(context, &slices[..count]))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => {
                self.forget(sent);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn forget(&mut self, sent: usize) {
        self.sent += sent;
        while let Some(len) = self.pieces.front().map(Piece::len).filter(|len| *len <= self.sent) {
            self.pieces.pop_front();
            self.sent -= len;
            self.waiting -= len;
        }
    }
}
