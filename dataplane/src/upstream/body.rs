//! The body of an answer. Gives its connection back when it was read to the end, and cancels the request when dropped
//! before.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{
    connections::{Exclusive, Stream},
    h1,
};

/// The body of an answer. Nothing is read ahead of whoever reads it, beyond one bounded buffer.
pub struct Body(Source);

/// Where a body comes from. What it comes over is absent once it is over, or broken.
enum Source {
    H1(h1::Incoming, Option<Exclusive>),
    H2(hyper::body::Incoming, Option<Stream>),
}

/// Why the rest of a body does not come.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct Broken(String);

impl Broken {
    fn from(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

impl Body {
    pub(super) fn lent(incoming: h1::Incoming, line: Exclusive) -> Self {
        let mut body = Self(Source::H1(incoming, Some(line)));
        body.settle();
        body
    }

    pub(super) fn shared(incoming: hyper::body::Incoming, line: Stream) -> Self {
        let mut body = Self(Source::H2(incoming, Some(line)));
        body.settle();
        body
    }

    /// Gives the connection back, where nothing more comes.
    fn settle(&mut self) {
        match &mut self.0 {
            Source::H1(incoming, line) if incoming.is_over() => {
                if let Some(line) = line.take().filter(|line| incoming.leaves(&line.connection)) {
                    line.finish();
                }
            }
            Source::H2(incoming, line) if http_body::Body::is_end_stream(incoming) => *line = None,
            Source::H1(..) | Source::H2(..) => {}
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.0 {
            Source::H1(_, None) => Poll::Ready(None),
            Source::H1(incoming, Some(line)) => {
                incoming.poll_frame(&mut line.connection, context).map_err(Broken::from)
            }
            Source::H2(incoming, _) => http_body::Body::poll_frame(Pin::new(incoming), context).map_err(Broken::from),
        }
    }

    fn let_go(&mut self) {
        match &mut self.0 {
            Source::H1(_, line) => *line = None,
            Source::H2(_, line) => *line = None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.poll(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.settle(),
            Poll::Ready(None) => {
                self.settle();
                self.let_go();
            }
            Poll::Ready(Some(Err(_))) => self.let_go(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::H1(incoming, _) => incoming.is_over(),
            Source::H2(incoming, _) => http_body::Body::is_end_stream(incoming),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::H1(incoming, _) => incoming.size_hint(),
            Source::H2(incoming, _) => http_body::Body::size_hint(incoming),
        }
    }
}
