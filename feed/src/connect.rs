//! One connection: dials, checks the server's certificate against trust that is read anew, and speaks HTTP/2.

use std::{
    io,
    path::PathBuf,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use futures::future::BoxFuture;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use table::Secret;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status, Streaming, body::Body, metadata::AsciiMetadataValue};

use crate::{
    tls,
    wire::{ClientMessage, ConfigClient, ServerMessage},
};

/// From dialing to the end of the handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often an open connection is asked whether it is.
const ALIVE: Duration = Duration::from_secs(15);

/// So many bytes may be on their way unread: a chunk and more.
const WINDOW: u32 = 4 << 20;

/// Chunks have 1 MiB; what is far above is no message of ours.
const MAX_SERVER_MESSAGE: usize = 32 << 20;

type Dial = dyn Fn() -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync;
type Trust = dyn Fn() -> io::Result<Vec<u8>> + Send + Sync;
type Token = dyn Fn() -> io::Result<Secret<String>> + Send + Sync;

/// Where the server is, whom to trust, and what to show.
pub struct Connector {
    name: ServerName<'static>,
    uri: http::Uri,
    dial: Box<Dial>,
    trust: Box<Trust>,
    token: Box<Token>,
}

/// An open connection. Closed when dropped.
pub struct Connection {
    pub(crate) client: ConfigClient<Http2>,
    authorization: AsciiMetadataValue,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Opens a stream: sends what `words` gives, and gives what the server says. A [`Client`](crate::client::Client) does
    /// this and keeps a table; whoever measures a server does it without one.
    pub async fn sync(
        &mut self,
        words: impl futures::Stream<Item = ClientMessage> + Send + 'static,
    ) -> Result<Streaming<ServerMessage>, Status> {
        let request = self.request(words);
        Ok(self.client.sync(request).await?.into_inner())
    }

    /// A request that shows the token.
    pub(crate) fn request<T>(&self, messages: T) -> Request<T> {
        let mut request = Request::new(messages);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}

impl Connector {
    /// To the server whose certificate is for `name`, reached by `dial`; `trust` (a PEM bundle) and `token` are read anew
    /// for each connection. Errs when the name is none.
    pub fn new<D>(
        name: &str,
        dial: impl Fn() -> D + Send + Sync + 'static,
        trust: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static,
        token: impl Fn() -> io::Result<Secret<String>> + Send + Sync + 'static,
    ) -> anyhow::Result<Self>
    where
        D: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let server = ServerName::try_from(name.to_owned());
        Ok(Self {
            name: server.with_context(|| format!("`{name}` is not the name of a server"))?,
            uri: format!("https://{name}").parse().with_context(|| format!("`{name}` is not the name of a server"))?,
            dial: Box::new(move || Box::pin(dial())),
            trust: Box::new(trust),
            token: Box::new(token),
        })
    }

    /// A new connection.
    pub async fn open(&self) -> anyhow::Result<Connection> {
        let token = (self.token)().context("reading the token")?;
        let authorization = format!("Bearer {}", token.expose().trim());
        let mut authorization: AsciiMetadataValue =
            authorization.parse().ok().context("the token holds characters that no token has")?;
        authorization.set_sensitive(true);
        let trust = tls::client_config(&(self.trust)().context("reading the bundle of authorities")?)?;
        let send =
            timeout(TIMEOUT, self.handshake(TlsConnector::from(trust))).await.context("connecting took too long")?;
        let (send, driver) = send?;
        let client = ConfigClient::with_origin(Http2(send), self.uri.clone());
        let client = client.max_decoding_message_size(MAX_SERVER_MESSAGE);
        Ok(Connection { client, authorization, _driver: driver })
    }

    async fn handshake(&self, tls: TlsConnector) -> anyhow::Result<(http2::SendRequest<Body>, AbortOnDropHandle<()>)> {
        let socket = (self.dial)().await.context("dialing")?;
        socket.set_nodelay(true)?;
        let stream = tls.connect(self.name.clone(), socket).await.context("the TLS handshake")?;
        let mut http = http2::Builder::new(TokioExecutor::new());
        // So that a server which is gone without a word is known to be gone.
        http.keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE * 2);
        http.timer(TokioTimer::new()).initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (send, connection) = http.handshake(TokioIo::new(stream)).await.context("the HTTP/2 handshake")?;
        let driver = tokio::spawn(async move {
            // How a connection ended is heard from its stream.
            let _ = connection.await;
        });
        Ok((send, AbortOnDropHandle::new(driver)))
    }
}

/// Reads a file whenever it is asked: a bundle that another process replaces.
pub fn bundle_file(path: impl Into<PathBuf>) -> impl Fn() -> io::Result<Vec<u8>> + Send + Sync {
    let path = path.into();
    move || std::fs::read(&path)
}

/// Reads a file whenever it is asked: a token that another process replaces.
pub fn token_file(path: impl Into<PathBuf>) -> impl Fn() -> io::Result<Secret<String>> + Send + Sync {
    let path = path.into();
    move || std::fs::read_to_string(&path).map(Secret::new)
}

/// An HTTP/2 connection as the service that the generated client calls.
#[derive(Clone)]
pub(crate) struct Http2(http2::SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
