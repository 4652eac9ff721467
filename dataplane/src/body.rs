//! What a response is made of: a text that is there as a whole, or an answer that is played while the client reads it,
//! and that is watched for clients that take nothing of it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::pace::{Offered, Pace};

/// What a response is made of. An error breaks the connection, so that a cut answer cannot look whole.
pub struct Body {
    made_of: MadeOf,
    /// Absent: nobody watches how fast it is taken.
    offered: Option<Offered>,
}

enum MadeOf {
    /// Absent once it was taken.
    Whole(Option<Bytes>),
    Played {
        body: Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>,
        follows_request: bool,
    },
}

impl Body {
    /// All of it is there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = Some(bytes.into()).filter(|bytes| !bytes.is_empty());
        Self { made_of: MadeOf::Whole(bytes), offered: None }
    }

    /// It is made while it is read, and the request has been read to its end.
    pub fn played(body: impl http_body::Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self { made_of: MadeOf::Played { body: Box::pin(body), follows_request: true }, offered: None }
    }

    /// It is made while it is read, and the request may still be coming.
    pub(crate) fn carried(body: impl http_body::Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self { made_of: MadeOf::Played { body: Box::pin(body), follows_request: false }, offered: None }
    }

    /// Whether nothing more of the request is to be read.
    pub(crate) fn follows_request(&self) -> bool {
        match &self.made_of {
            MadeOf::Whole(_) => false,
            MadeOf::Played { follows_request, .. } => *follows_request,
        }
    }

    /// The same, watched. One whose length is known as it is there as a whole holds nothing and passes as it is.
    pub(crate) fn watched(mut self, pace: &Pace) -> Self {
        if self.size_hint().exact().is_none() {
            self.offered = Some(pace.follow());
        }
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = match &mut self.made_of {
            MadeOf::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            MadeOf::Played { body, .. } => body.as_mut().poll_frame(context),
        };
        if let Some(offered) = &self.offered {
            offered.note(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.made_of {
            MadeOf::Whole(bytes) => bytes.is_none(),
            MadeOf::Played { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.made_of {
            MadeOf::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            MadeOf::Played { body, .. } => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Body").finish_non_exhaustive()
    }
}
