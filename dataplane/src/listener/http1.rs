//! A connection that speaks HTTP/1. The HTTP library reads its requests and writes their answers, but for those whose length
//! is not known: they may be open for long, and the library holds 16 KB for as long as it serves a connection. Such an answer
//! takes the connection over and is written here; then the library goes on.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::Pin,
    sync::atomic::Ordering,
};

use http::{
    HeaderValue, Method, Request, Response, Version,
    header::{CONNECTION, TRANSFER_ENCODING, UPGRADE},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};
use tower::Service;
use tracing::debug;

use super::{
    Connection, Origin, STALL,
    chunked::{self, Chunked},
    client::Client,
    heads::Heads,
    say_end,
    watch::Watch,
};
use crate::{body::Body, lookout::Lookout};

/// Serves requests until the connection ends; the first has to come in time after `opened`.
///
/// No `async fn`, which would hold what it is given beside what it makes of it.
pub(super) fn serve<S>(
    connection: Connection<S>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    opened: Instant,
) -> impl Future<Output = ()> + Send + 'static
where
    S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let Connection { peer, header_read_timeout, drain, service } = connection;
    let mut watch = Watch::new(peer, drain, header_read_timeout, opened);
    let (ties, kept) = (watch.ties.clone(), watch.kept.clone());
    let mut each = service_fn(move |request: Request<Incoming>| {
        ties.told.has_begun.store(true, Ordering::Relaxed);
        let is_plain = is_plain(&request);
        let origin = Origin { peer, lookout: Lookout::of(kept.clone()) };
        let answer = service.clone().call((origin, request));
        let ties = ties.clone();
        async move {
            let mut answer = answer.await?;
            say_end(&mut answer, &ties.drain);
            if is_plain && chunked::is_for(&answer) {
                ties.told.take_over(answer);
                return pending().await;
            }
            Ok::<_, Infallible>(answer.map(|body| body.watched(&ties.pace)))
        }
    });
    let mut client = Client::new(stream, watch.ties.told.is_blocked.clone());
    async move {
        loop {
            let mut http = http1::Builder::new();
            http.timer(Heads(watch.kept.clone())).header_read_timeout(header_read_timeout);
            // On the heap, where it gives its place back to an answer that takes over.
            let mut served = Box::pin(http.serve_connection(TokioIo::new(client), each));
            let Some(answer) = watch.drive(served.as_mut(), http1::Connection::graceful_shutdown).await else { return };
            let parts = Pin::into_inner(served).into_parts();
            (client, each) = (parts.io.into_inner().having_said(&parts.read_buf), parts.service);
            drop(parts.read_buf);
            let ends = answer.headers().contains_key(CONNECTION);
            let mut answer = Chunked::new(answer, STALL);
            if let Err(error) = poll_fn(|context| answer.poll(&mut client, context)).await {
                return debug!(%error, %peer, "connection ended early");
            }
            if ends || watch.ties.drain.is_closed() {
                // Whoever has closed its end already misses nothing, and who takes nothing is not waited for.
                let _ = Box::pin(timeout(STALL, client.shutdown())).await;
                return;
            }
        }
    }
}

/// Whether nothing about a request but its answer's length decides how that is written, and what becomes of the connection
/// afterwards.
fn is_plain(request: &Request<Incoming>) -> bool {
    let (method, headers) = (request.method(), request.headers());
    let has_answer_with_body = matches!(*method, Method::GET | Method::POST);
    let stays = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    request.version() == Version::HTTP_11
        && has_answer_with_body
        && ![UPGRADE, TRANSFER_ENCODING].iter().any(|name| headers.contains_key(name))
        && headers.get_all(CONNECTION).iter().all(stays)
}
