//! Writes an answer whose length is not known: its head, then each piece as a chunk (RFC 9112, 7.1) as soon as it is there.
//! Holds nothing but what the client has still to take. Knows no requests and no drain.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
    response::Parts,
};
use http_body::Body as _;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep},
};

use super::{client::Client, outgoing::Outgoing};
use crate::body::Body;

/// The end of a chunked body, without trailers.
const END: &[u8] = b"0\r\n\r\n";

/// Whether an answer can be written so: its length is not known, and its request has been read to its end.
pub(super) fn is_for(answer: &Response<Body>) -> bool {
    let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
    let has_body = !status.is_informational() && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_framed = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| headers.contains_key(name));
    has_body && !is_framed && body.follows_request() && body.size_hint().exact().is_none()
}

/// An answer on its way to a client.
pub(super) struct Chunked {
    /// Absent once all of it was taken.
    body: Option<Body>,
    outgoing: Outgoing,
    /// How long a client may take nothing.
    patience: Duration,
    /// Runs while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Chunked {
    /// Nothing of it is written yet. A client that takes nothing for `patience` is given up.
    pub(super) fn new(answer: Response<Body>, patience: Duration) -> Self {
        let (parts, body) = answer.into_parts();
        let mut outgoing = Outgoing::default();
        outgoing.push_as_it_is(head(&parts).into());
        Self { body: Some(body), outgoing, patience, stalled: None }
    }

    /// Writes what there is. Ready once all of it is written; errs where the answer breaks off or the client is gone.
    pub(super) fn poll<I>(&mut self, client: &mut Client<I>, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        if self.poll_write(client, context)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(gone) = client.poll_gone(context) {
            return Poll::Ready(Err(gone));
        }
        match &mut self.stalled {
            None => Poll::Pending,
            Some(stalled) => stalled.as_mut().poll(context).map(|()| Err(stall())),
        }
    }

    fn poll_write<I>(&mut self, client: &mut Client<I>, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let is_waiting = self.take_pieces(context)?;
            while !self.outgoing.is_empty() {
                let sent = self.outgoing.poll_send(client, context);
                ready!(self.note(sent))?;
            }
            if is_waiting || self.body.is_none() {
                // TLS has taken what the client may not have.
                let flushed = Pin::new(&mut *client).poll_flush(context);
                ready!(self.note(flushed))?;
                return if is_waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    /// Has the time run while the client takes nothing.
    fn note<T>(&mut self, taken: Poll<T>) -> Poll<T> {
        match &taken {
            Poll::Ready(_) => self.stalled = None,
            Poll::Pending => {
                self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
            }
        }
        taken
    }

    /// Takes as many pieces as there are, within reason: they go out with one call. Says whether the next has still to come.
    fn take_pieces(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        while let Some(body) = &mut self.body
            && self.outgoing.has_room()
        {
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(frame)) => {
                    // Trailers were promised to nobody.
                    let Ok(piece) = frame?.into_data() else { continue };
                    if !piece.is_empty() {
                        self.outgoing.push_chunk(piece);
                    }
                }
                Poll::Ready(None) => {
                    self.body = None;
                    self.outgoing.push_as_it_is(Bytes::from_static(END));
                }
            }
        }
        Ok(false)
    }
}

fn stall() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")
}

/// The head of an answer in chunks, as the HTTP library writes heads.
fn head(parts: &Parts) -> Vec<u8> {
    let Parts { status, headers, .. } = parts;
    let mut head = Vec::with_capacity(size(headers));
    let mut put = |text: &[u8]| head.extend_from_slice(text);
    put(b"HTTP/1.1 ");
    put(status.as_str().as_bytes());
    put(b" ");
    put(status.canonical_reason().unwrap_or_default().as_bytes());
    put(b"\r\n");
    for (name, value) in headers {
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
        put(b"\r\n");
    }
    put(b"transfer-encoding: chunked\r\n");
    if !headers.contains_key(DATE) {
        put(b"date: ");
        // It errs for years before the first, which this is not.
        put(DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default().as_bytes());
        put(b"\r\n");
    }
    put(b"\r\n");
    head
}

/// About what a head of these takes.
fn size(headers: &HeaderMap) -> usize {
    const REST: usize = 128;
    REST + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>()
}
