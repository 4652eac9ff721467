//! A client's end of a connection of HTTP/1: what was read too early is read again, and it is known whether all that was to
//! be written is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once of what a client says while it is answered: as a rule nothing.
const EARLY: usize = 64;

/// A client.
pub(super) struct Client<I> {
    io: I,
    /// What it has said before somebody asked.
    early: Bytes,
    is_blocked: Arc<AtomicBool>,
}

impl<I> Client<I> {
    /// `is_blocked` says whether what was last written waits for the client.
    pub(super) fn new(io: I, is_blocked: Arc<AtomicBool>) -> Self {
        Self { io, early: Bytes::new(), is_blocked }
    }

    /// The same, which has said `early` before what it is known to have said.
    pub(super) fn having_said(mut self, early: &[u8]) -> Self {
        // A copy, because what holds it is larger.
        if !early.is_empty() {
            self.early = [early, &self.early].concat().into();
        }
        self
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl<I: AsyncRead + Unpin> Client<I> {
    /// Why it is gone, once it is. What it says meanwhile is kept, and nothing is read behind that.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.early.is_empty() {
            return Poll::Pending;
        }
        let mut bytes = [0; EARLY];
        let mut read = ReadBuf::new(&mut bytes);
        match ready!(Pin::new(&mut self.io).poll_read(context, &mut read)) {
            Ok(()) if read.filled().is_empty() => Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
            Ok(()) => {
                self.early = Bytes::copy_from_slice(read.filled());
                Poll::Pending
            }
            Err(error) => Poll::Ready(error),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Client<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, into);
        }
        let size = self.early.len().min(into.remaining());
        into.put_slice(&self.early.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Client<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
