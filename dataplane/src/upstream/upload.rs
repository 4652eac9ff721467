//! The body of a request on its way up: known whole, or passed on piece by piece as a caller sends it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use protocol::splice::Spliced;

/// The body of a request on its way up.
pub enum Upload {
    /// All of it, so that it can be sent again.
    Whole(Whole),
    /// What a caller sends, as it comes. Nothing is read ahead of the connection that takes it.
    Passing(Passing),
}

impl Upload {
    /// The body for whoever sends it now. A whole one stays, so that it can be sent again; another one leaves nothing.
    pub(super) fn take(&mut self) -> Self {
        match self {
            Upload::Whole(whole) => Upload::Whole(whole.clone()),
            Upload::Passing(_) => std::mem::take(self),
        }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Upload::Whole(Whole::default())
    }
}

impl From<Incoming> for Upload {
    fn from(rest: Incoming) -> Self {
        Upload::Passing(Passing { piece: None, rest })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Upload::Whole(whole) => Poll::Ready(whole.next().map(|piece| Ok(Frame::data(piece)))),
            Upload::Passing(Passing { piece, rest }) => match piece.take() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None => Pin::new(rest).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Whole(whole) => whole.is_over(),
            Upload::Passing(Passing { piece, rest }) => piece.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Whole(whole) => SizeHint::with_exact(whole.size()),
            Upload::Passing(Passing { piece: None, rest }) => rest.size_hint(),
            Upload::Passing(Passing { piece: Some(piece), rest }) => rest
                .size_hint()
                .exact()
                .map_or_else(SizeHint::new, |more| SizeHint::with_exact(more + piece.len() as u64)),
        }
    }
}

/// All of a body, in pieces that are sent one after the other, none of them empty.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    first: Option<Bytes>,
    rest: std::vec::IntoIter<Bytes>,
}

impl Whole {
    fn next(&mut self) -> Option<Bytes> {
        self.first.take().or_else(|| self.rest.next())
    }

    fn is_over(&self) -> bool {
        self.first.is_none() && self.rest.as_slice().is_empty()
    }

    fn size(&self) -> u64 {
        self.pieces().map(|piece| piece.len() as u64).sum()
    }

    /// What of it has not been taken.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(self.rest.as_slice())
    }
}

/// A body that comes piece by piece. One that was taken from the caller stays here until it was sent.
pub struct Passing {
    piece: Option<Bytes>,
    rest: Incoming,
}

impl Passing {
    /// The piece at hand, or else the next one, which is not empty. None: there are no more. Trailers are not passed on.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<&Bytes>, hyper::Error>> {
        while self.piece.is_none() {
            match ready!(Pin::new(&mut self.rest).poll_frame(context)).transpose()? {
                Some(frame) => self.piece = frame.into_data().ok().filter(|piece| !piece.is_empty()),
                None => return Poll::Ready(Ok(None)),
            }
        }
        Poll::Ready(Ok(self.piece.as_ref()))
    }

    /// The piece at hand.
    pub(super) fn piece(&self) -> Option<&Bytes> {
        self.piece.as_ref()
    }

    pub(super) fn piece_is_sent(&mut self) {
        self.piece = None;
    }
}

impl From<Bytes> for Whole {
    fn from(body: Bytes) -> Self {
        Spliced { first: body, rest: Vec::new() }.into()
    }
}

impl From<Spliced> for Whole {
    fn from(Spliced { first, mut rest }: Spliced) -> Self {
        rest.retain(|piece| !piece.is_empty());
        Self { first: (!first.is_empty()).then_some(first), rest: rest.into_iter() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn whole(first: &'static str, rest: &[&'static str]) -> Whole {
        let piece = |text: &'static str| Bytes::from_static(text.as_bytes());
        Spliced { first: piece(first), rest: rest.iter().map(|text| piece(text)).collect() }.into()
    }

    #[tokio::test]
    async fn pieces_are_one_body_of_a_known_size() {
        for (whole, expected) in [(whole("ab", &["", "c", "de", ""]), "abcde"), (whole("", &["a"]), "a")] {
            let mut body = Upload::Whole(whole.clone());
            assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
            let (mut sent, mut over) = (Vec::new(), body.is_end_stream());
            while !over {
                sent.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
                over = body.is_end_stream();
            }
            assert_eq!(sent, expected.as_bytes());
            assert!(body.frame().await.is_none());
        }
        assert!(Upload::Whole(whole("", &[])).is_end_stream());
    }
}
