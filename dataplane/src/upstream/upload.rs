//! The body of a request on its way up: known whole, or passed on piece by piece as a caller sends it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

/// The body of a request on its way up.
pub enum Upload {
    /// All of it, so that it can be sent again.
    Whole(Full<Bytes>),
    /// What a caller sends, as it comes. Nothing is read ahead of the connection that takes it.
    Passing(Incoming),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Upload::Whole(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Upload::Passing(incoming) => Pin::new(incoming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Whole(whole) => whole.is_end_stream(),
            Upload::Passing(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Whole(whole) => whole.size_hint(),
            Upload::Passing(incoming) => incoming.size_hint(),
        }
    }
}
