//! What bytes go over: TCP, or TLS on it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncBufRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::io::poll_read_buf;

/// What bytes go over.
pub(in crate::upstream) enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted. On the heap: it is twenty times as large.
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(test)]
    Piped(tokio::io::DuplexStream),
}

impl Stream {
    /// Whether there may be something to read. Asked before room is made for it; with TLS that is known only afterwards.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(tcp) => tcp.poll_read_ready(context),
            Stream::Tls(_) => Poll::Ready(Ok(())),
            #[cfg(test)]
            Stream::Piped(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the room that the buffer has.
    pub(super) fn poll_read(&mut self, buffer: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => poll_read_buf(Pin::new(tcp), context, buffer),
            Stream::Tls(tls) => poll_read_buf(Pin::new(&mut **tls), context, buffer),
            #[cfg(test)]
            Stream::Piped(pipe) => poll_read_buf(Pin::new(pipe), context, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, parts: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, parts),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(context, parts),
            #[cfg(test)]
            Stream::Piped(pipe) => Pin::new(pipe).poll_write_vectored(context, parts),
        }
    }

    /// Sends what was written: TLS may have taken more than went out.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_flush(context),
            #[cfg(test)]
            Stream::Piped(pipe) => Pin::new(pipe).poll_flush(context),
        }
    }

    /// Whether the other side is open and says nothing. What is TLS's own, as tickets for the next session, is taken in.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Stream::Plain(tcp) => tcp.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_fill_buf(&mut context).is_pending(),
            #[cfg(test)]
            Stream::Piped(pipe) => {
                poll_read_buf(Pin::new(pipe), &mut context, &mut BytesMut::with_capacity(1)).is_pending()
            }
        }
    }
}
