//! The body of a request on its way up: known whole, or passed on piece by piece as a caller sends it.

use std::{
    pin::Pin,
    task::{Context, Poll},
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
            Upload::Whole(whole) => Poll::Ready(whole.next().map(|piece| Ok(Frame::data(piece)))),
            Upload::Passing(incoming) => Pin::new(incoming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Whole(whole) => whole.is_over(),
            Upload::Passing(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Whole(whole) => SizeHint::with_exact(whole.size()),
            Upload::Passing(incoming) => incoming.size_hint(),
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
        self.first.iter().chain(self.rest.as_slice()).map(|piece| piece.len() as u64).sum()
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
