//! A connection that may speak HTTP/1 or HTTP/2, all of which the HTTP library does.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tower::Service;

use super::{Connection, Origin, say_end, watch::Watch};
use crate::{body::Body, lookout::Lookout};

/// How often it is asked whether a client that is silent is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves requests until the connection ends; the first has to come in time after `opened`.
pub(super) async fn serve<S>(
    connection: Connection<S>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    opened: Instant,
) where
    S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let Connection { peer, header_read_timeout, drain, service } = connection;
    let mut watch = Watch::new(peer, drain, header_read_timeout, opened);
    let ties = watch.ties.clone();
    let each = service_fn(move |request: Request<Incoming>| {
        ties.told.has_begun.store(true, Ordering::Relaxed);
        // HTTP/2 says by itself that a connection ends.
        let is_told = request.version() < Version::HTTP_2;
        // Requests of HTTP/2 are tasks of their own.
        let origin = Origin { peer, lookout: Lookout::nobody() };
        let (answer, ties) = (service.clone().call((origin, request)), ties.clone());
        async move {
            let mut answer = answer.await?.map(|body| body.watched(&ties.pace));
            if is_told {
                say_end(&mut answer, &ties.drain);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(header_read_timeout);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY);
    let connection = http.serve_connection(TokioIo::new(stream), each);
    tokio::pin!(connection);
    watch.drive(connection, auto::Connection::graceful_shutdown).await;
}
