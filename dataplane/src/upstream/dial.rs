//! Opens one connection to a host: name, address check, TCP, TLS, HTTP handshake, all within the connect timeout. The
//! address that was checked is the address that is connected to; nothing is looked up twice.

use std::{
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use table::{HttpVersion, address};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    error::SendError,
    h1, race,
    resolver::{Resolve, Resolved},
    upload::Upload,
};

/// The most bytes of the headers of an HTTP/2 answer.
const HEADERS_MOST: u32 = 64 * 1024;
/// What an HTTP/2 stream may send ahead of a slow reader; bounds the memory of one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Room for a hundred slow readers on one HTTP/2 connection, so that they do not stop the others.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
/// How often a busy HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What the URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A name, to be resolved.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Opens connections to one host.
pub(super) struct Dialer {
    pub(super) place: Place,
    pub(super) port: u16,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) version: HttpVersion,
    pub(super) allow_private: bool,
    pub(super) timeout: Duration,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tasks: TaskTracker,
}

/// A connection that is ready for a request.
pub(super) struct Dialed {
    pub(super) wire: Wire,
    /// How long the addresses of the name hold; absent where the URL names an address.
    pub(super) valid_for: Option<Duration>,
}

/// A connection as its version is spoken.
pub(super) enum Wire {
    H1(h1::Connection),
    /// The sending half, with the number of streams that the host takes at once.
    H2(http2::SendRequest<Upload>, Arc<AtomicUsize>),
}

impl Dialer {
    pub(super) fn new(
        url: &url::Url,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        host: &table::Host,
        resolver: Arc<dyn Resolve>,
        tasks: TaskTracker,
    ) -> Result<Self, String> {
        let place = match url.host() {
            Some(url::Host::Domain(name)) => Place::Name(name.to_owned()),
            Some(url::Host::Ipv4(address)) => Place::Address(address.into()),
            Some(url::Host::Ipv6(address)) => Place::Address(address.into()),
            None => return Err("the base URL names no host".to_owned()),
        };
        Ok(Self {
            place,
            port: url.port_or_known_default().ok_or("the base URL names no port")?,
            tls: tls.map(|(config, name)| (TlsConnector::from(config), name)),
            version: host.http.version,
            allow_private: host.allow_private_addresses,
            timeout: host.timeouts.connect,
            resolver,
            tasks,
        })
    }

    /// Opens a connection, or says why not.
    pub(super) async fn dial(&self) -> Result<Dialed, SendError> {
        let opened = tokio::time::timeout(self.timeout, self.open()).await;
        opened.unwrap_or(Err(SendError::ConnectTimeout(self.timeout)))
    }

    async fn open(&self) -> Result<Dialed, SendError> {
        let (addresses, valid_for) = self.addresses().await?;
        let tcp = race::connect(&addresses, self.port)
            .await
            .map_err(|error| SendError::Connect { to: self.name(), reason: error.to_string() })?;
        let wire = self.greet(tcp).await?;
        Ok(Dialed { wire, valid_for })
    }

    /// The addresses that may be connected to. Errs when there is none left.
    async fn addresses(&self) -> Result<(Vec<IpAddr>, Option<Duration>), SendError> {
        let (mut addresses, valid_for) = match &self.place {
            Place::Address(address) => (vec![*address], None),
            Place::Name(name) => {
                let resolved = self.resolver.resolve(name).await;
                let Resolved { addresses, valid_for } =
                    resolved.map_err(|reason| SendError::Resolve { name: name.clone(), reason })?;
                (addresses, Some(valid_for))
            }
        };
        let forbidden = addresses.iter().copied().find(|it| !address::is_permitted(*it, self.allow_private));
        addresses.retain(|it| address::is_permitted(*it, self.allow_private));
        match forbidden {
            Some(address) if addresses.is_empty() => Err(SendError::Forbidden { address }),
            Some(_) | None => Ok((addresses, valid_for)),
        }
    }

    async fn greet(&self, tcp: TcpStream) -> Result<Wire, SendError> {
        let Some((connector, name)) = &self.tls else {
            return match self.version {
                HttpVersion::H2 => self.share(tcp).await,
                HttpVersion::H1 | HttpVersion::Auto => Ok(Wire::H1(h1::Connection::new(h1::Stream::Plain(tcp)))),
            };
        };
        let tls = connector
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| SendError::Tls { to: self.name(), reason: error.to_string() })?;
        let is_offered = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        match is_offered || self.version == HttpVersion::H2 {
            true => self.share(tls).await,
            false => Ok(Wire::H1(h1::Connection::new(h1::Stream::Tls(Box::new(tls))))),
        }
    }

    async fn share<S>(&self, stream: S) -> Result<Wire, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| SendError::Connect { to: self.name(), reason: error.to_string() };
        let (sender, connection) = http2_settings().handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let streams = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        self.tasks.spawn(drive(connection, streams.clone()));
        Ok(Wire::H2(sender, streams))
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Name(name) => format!("{name}:{}", self.port),
            Place::Address(address) => std::net::SocketAddr::new(*address, self.port).to_string(),
        }
    }
}

fn http2_settings() -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_MOST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http2
}

/// Runs an HTTP/2 connection to its end and tells how many streams the host takes, which it may change at any time.
async fn drive<S>(mut connection: http2::Connection<TokioIo<S>, Upload, TokioExecutor>, streams: Arc<AtomicUsize>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = std::future::poll_fn(|context| {
        let polled = std::pin::Pin::new(&mut connection).poll(context);
        if polled.is_pending() {
            streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
        }
        polled
    })
    .await;
    if let Err(error) = ended {
        debug!(%error, "an upstream connection ended early");
    }
}
