//! Opens a connection to one node: TCP without delay, TLS where it is asked for. Sends no command. The cryptography is
//! named here, as for hosts, and what the client library would choose is not asked.

use std::{net::SocketAddr, sync::Arc};

use redis_client::{AsyncConnectionConfig, RedisConnectionInfo, aio::MultiplexedConnection};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    error::StoreError,
    target::{Address, Tls},
};
use crate::upstream::tls::{custom_roots, system_roots};

/// Commands that may wait to be written, beyond which callers wait.
const QUEUE: usize = 1024;
/// Bytes that are gathered before they are written even though more commands wait.
const GATHERED: usize = 64 * 1024;

/// How connections are opened.
#[derive(Clone)]
pub(super) struct Dialer {
    tls: Option<TlsConnector>,
}

/// An open connection. The driver has to be run for it to do anything, and ends when it breaks.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: futures::future::BoxFuture<'static, ()>,
    /// Our end.
    pub(super) local: SocketAddr,
}

impl Dialer {
    /// Errs, in words for the operator, when the authorities cannot be read.
    pub(super) fn new(tls: Option<&Tls>) -> anyhow::Result<Self> {
        let tls = tls.map(connector).transpose()?;
        Ok(Self { tls })
    }

    pub(super) async fn dial(&self, address: &Address) -> Result<Dialed, StoreError> {
        let lost = |what: &str, error: &dyn std::fmt::Display| StoreError::Lost(format!("{what} {address}: {error}"));
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let stream = connecting.await.map_err(|error| lost("connecting to", &error))?;
        stream.set_nodelay(true).map_err(|error| lost("connecting to", &error))?;
        let local = stream.local_addr().map_err(|error| lost("connecting to", &error))?;
        let Some(tls) = &self.tls else { return greet(stream, local).await };
        let name = ServerName::try_from(address.host.clone()).map_err(|error| lost("TLS with", &error))?;
        let stream = tls.connect(name, stream).await.map_err(|error| lost("TLS with", &error))?;
        greet(stream, local).await
    }
}

fn connector(tls: &Tls) -> anyhow::Result<TlsConnector> {
    let roots = match &tls.ca {
        None => system_roots(),
        Some(pem) => {
            let pem = std::str::from_utf8(pem).map_err(|_| anyhow::anyhow!("the CA bundle is not valid PEM"))?;
            custom_roots(pem).map_err(anyhow::Error::msg)?
        }
    };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn greet<S>(stream: S, local: SocketAddr) -> Result<Dialed, StoreError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Times are kept by the callers, who know what a late answer means.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
        .set_write_backpressure_boundary(GATHERED);
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    let opened = MultiplexedConnection::new_with_config(&nobody, stream, config).await;
    let (connection, driver) = opened.map_err(|error| StoreError::Lost(error.to_string()))?;
    Ok(Dialed { connection, driver: Box::pin(driver), local })
}
