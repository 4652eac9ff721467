//! Accepts connections and hands their requests to a service. Knows HTTP versions, TLS and drain; nothing of routes.

mod chunked;
mod client;
mod heads;
mod http1;
mod outgoing;
mod unknown;
mod watch;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::{debug, warn};

use crate::{body::Body, drain::Drain, lookout::Lookout};

/// How long a client may take nothing of an answer that is streamed to it.
const STALL: Duration = Duration::from_secs(120);

/// What a request came on.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Who looks at the time for it.
    pub lookout: Lookout,
}

/// A bound socket, not yet accepting.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    header_read_timeout: Duration,
}

impl Listener {
    /// Binds `address`. Errs when it is taken or not ours.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        header_read_timeout: Duration,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { socket, tls: tls.map(TlsAcceptor::from), header_read_timeout })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the drain closes it; each connection is a task of `connections`.
    pub async fn serve<S>(self, service: S, drain: Drain, connections: TaskTracker)
    where
        S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = drain.closed() => return,
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "cannot accept a connection; trying again in 50 ms");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let connection = Connection {
                peer,
                header_read_timeout: self.header_read_timeout,
                drain: drain.clone(),
                service: service.clone(),
            };
            // A task for each kind, so that one without TLS has no room for it.
            match self.tls.clone() {
                None => connections.spawn(connection.open(stream)),
                Some(acceptor) => connections.spawn(connection.open_tls(stream, acceptor)),
            };
        }
    }
}

struct Connection<S> {
    peer: SocketAddr,
    header_read_timeout: Duration,
    drain: Drain,
    service: S,
}

impl<S> Connection<S>
where
    S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    async fn open(self, stream: TcpStream) {
        self.hurry(&stream);
        let (opened, mut first) = (Instant::now(), [0; PREFACE.len()]);
        let begun = tokio::select! {
            biased;
            begun = tokio::time::timeout(self.header_read_timeout, stream.peek(&mut first)) => begun,
            () = self.drain.closed() => return,
        };
        match begun {
            Ok(Ok(0)) => {}
            Ok(Ok(size)) => self.speak(stream, Spoken::of_first_bytes(&first[..size]), opened).await,
            Ok(Err(error)) => debug!(%error, peer = %self.peer, "connection ended early"),
            Err(_) => debug!(peer = %self.peer, "closing a connection on which nothing came"),
        }
    }

    async fn open_tls(self, stream: TcpStream, acceptor: TlsAcceptor) {
        self.hurry(&stream);
        match tokio::time::timeout(self.header_read_timeout, Box::pin(acceptor.accept(stream))).await {
            Ok(Ok(stream)) => {
                let spoken = Spoken::agreed(stream.get_ref().1.alpn_protocol());
                self.speak(stream, spoken, Instant::now()).await;
            }
            Ok(Err(error)) => debug!(%error, peer = %self.peer, "TLS handshake failed"),
            Err(_) => debug!(peer = %self.peer, "TLS handshake took too long"),
        }
    }

    /// Has each event sent at once, however short.
    fn hurry(&self, stream: &TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, peer = %self.peer, "cannot set TCP_NODELAY");
        }
    }

    /// Serves requests until the connection ends; the first has to come in time after `opened`.
    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        spoken: Spoken,
        opened: Instant,
    ) {
        match spoken {
            Spoken::Http1 => http1::serve(self, stream, opened).await,
            // On the heap, because most connections are not of this kind, and it takes more.
            Spoken::Unknown => Box::pin(unknown::serve(self, stream, opened)).await,
        }
    }
}

/// Has whoever keeps a connection hear in time that it ends: a request that meets its end is lost.
fn say_end(answer: &mut Response<Body>, drain: &Drain) {
    if drain.is_unready() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What an HTTP/2 connection without TLS begins with; no request of HTTP/1 does.
const PREFACE: &[u8; 4] = b"PRI ";

/// What is known of a connection's version before it is served. The HTTP library finds it out too, but reads a connection
/// that it has to look at into twice the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Unknown,
}

impl Spoken {
    fn of_first_bytes(first: &[u8]) -> Self {
        if PREFACE.starts_with(first) { Self::Unknown } else { Self::Http1 }
    }

    /// What was agreed on with TLS.
    fn agreed(protocol: Option<&[u8]>) -> Self {
        if protocol == Some(b"http/1.1") { Self::Http1 } else { Self::Unknown }
    }
}

#[cfg(test)]
mod tests;
