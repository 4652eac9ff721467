//! Accepts connections: TLS, then HTTP/2.

use std::{sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::Server;
use crate::counts::Refusal;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// After a failed accept (no file descriptors left, usually).
const PAUSE: Duration = Duration::from_millis(100);

/// One client needs one stream at a time, two while it changes over.
const STREAMS: u32 = 16;

impl Server {
    /// Serves a listener until [`Server::shut_down`] has ended all streams.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        let acceptor = TlsAcceptor::from(tls);
        let connections = TaskTracker::new();
        let stop = self.0.stop.clone();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(self.clone(), socket, acceptor.clone(), stop.clone()));
                }
                Err(error) => {
                    debug!(%error, "a connection could not be accepted: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }
}

async fn connection(server: Server, socket: TcpStream, acceptor: TlsAcceptor, stop: CancellationToken) {
    // Deltas are small and must not wait for the acknowledgement of what was sent before.
    let _ = socket.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(socket)).await else {
        server.0.counts.refuse(Refusal::Handshake);
        return;
    };
    let service = TowerToHyperService::new(server.service());
    let heartbeat = server.0.settings.heartbeat;
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    http.keep_alive_interval(heartbeat).keep_alive_timeout(heartbeat * 2);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(HANDSHAKE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended: {error}");
    }
}
