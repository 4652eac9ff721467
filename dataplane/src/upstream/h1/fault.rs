//! Why a connection is of no more use.

use std::io;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Fault {
    /// It broke before anything of the request was sent.
    #[error("the connection was closed before the request")]
    Unsent,
    /// It broke, or ended where more had to come.
    #[error("the connection was closed too early: {0}")]
    Broken(#[from] io::Error),
    /// What came is not what HTTP/1.1 allows, or more than is taken.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Whoever sends the request broke off.
    #[error("the body of the request broke off: {0}")]
    Upload(hyper::Error),
}

impl Fault {
    /// The other side has ended.
    pub(super) fn closed() -> Self {
        Fault::Broken(io::ErrorKind::UnexpectedEof.into())
    }
}

/// What HTTP/1.1 does not allow. Nothing here quotes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::upstream) enum Malformed {
    #[error("its head is not one of HTTP/1: {0}")]
    Head(httparse::Error),
    #[error("its head does not end where its lines do")]
    HeadEnd,
    #[error("its head is longer than {most} bytes", most = super::HEAD_MOST)]
    HeadTooLong,
    #[error("it switches to another protocol (101), which was not asked for")]
    Switching,
    #[error("its `content-length` is not one number")]
    ContentLength,
    #[error("its `transfer-encoding` is not `chunked` alone, or its version is not HTTP/1.1")]
    TransferEncoding,
    #[error("it has both `content-length` and `transfer-encoding`")]
    TwoLengths,
    #[error("the size of a chunk is not a hexadecimal number")]
    ChunkSize,
    #[error("the line before a chunk does not end as it must")]
    ChunkLine,
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    #[error("the extensions of its chunks are longer than {most} bytes", most = super::chunks::EXTENSIONS_MOST)]
    Extensions,
    #[error("its trailers are not headers of HTTP/1")]
    Trailers,
    #[error("its trailers are longer than {most} bytes", most = super::chunks::TRAILERS_MOST)]
    TrailersTooLong,
}
