//! Sends requests to one host. Decides how a request looks on the connection that it got, and repeats it once where a
//! kept connection turns out to be dead; redirects are answers like any other, never followed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, Uri, header::HOST, uri::PathAndQuery};
use rustls_pki_types::ServerName;
use table::{ClientCertificate, Host, WireShape};
use tokio_util::task::TaskTracker;

use super::{
    body::Body,
    connections::{Connections, Lease, Line},
    dial::Dialer,
    error::SendError,
    h1,
    resolver::Resolve,
    tls,
    upload::{Upload, Whole},
};

/// A kept connection that the host has closed fails within a round trip. What fails later was being worked on, and is
/// for the attempt loop to repeat, elsewhere.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// Sends requests to one host.
pub struct Client {
    connections: Arc<Connections>,
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    host_header: HeaderValue,
    base_path: String,
    /// The URIs of what hosts of every shape offer.
    known: Vec<(&'static str, Uri)>,
}

impl Client {
    /// Builds the client of a host. Errs, in words for the Host's owner, when its URL or certificates are unusable.
    pub(super) fn new(
        host: &Host,
        certificate: Option<&ClientCertificate>,
        resolver: Arc<dyn Resolve>,
        tasks: TaskTracker,
    ) -> Result<Self, String> {
        let url = url::Url::parse(&host.base_url).map_err(|error| format!("the base URL is not valid: {error}"))?;
        let (scheme, tls) = match url.scheme() {
            "http" => (http::uri::Scheme::HTTP, None),
            "https" => {
                let config = tls::config(&host.tls, host.http.version, certificate)?;
                (http::uri::Scheme::HTTPS, Some((config, server_name(&url, host)?)))
            }
            other => return Err(format!("the base URL's scheme `{other}` is neither `https` nor `http`")),
        };
        let authority = match (url.host_str(), url.port()) {
            (Some(name), Some(port)) => format!("{name}:{port}"),
            (Some(name), None) => name.to_owned(),
            (None, _) => return Err("the base URL names no host".to_owned()),
        };
        let unusable = |error: &dyn std::fmt::Display| format!("the base URL's host is not usable: {error}");
        let dialer = Dialer::new(&url, tls, host, resolver, tasks)?;
        let client = Self {
            connections: Connections::new(dialer, &host.http),
            scheme,
            host_header: HeaderValue::from_str(&authority).map_err(|error| unusable(&error))?,
            authority: authority.parse().map_err(|error| unusable(&error))?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            known: Vec::new(),
        };
        let known = offered().filter_map(|path| Some((path, client.uri(path).ok()?))).collect();
        Ok(Self { known, ..client })
    }

    /// The URI of what lies `below` the base URL, as `/chat/completions`. Errs when it is no valid path.
    pub fn uri(&self, below: &str) -> Result<Uri, SendError> {
        if let Some((_, uri)) = self.known.iter().find(|(path, _)| *path == below) {
            return Ok(uri.clone());
        }
        let path = format!("{}{below}", self.base_path);
        let path: PathAndQuery = path.parse().map_err(|_| SendError::Request("the path is not valid".to_owned()))?;
        self.absolute(path)
    }

    /// Sends a request and returns its answer's headers, with the body still to come. Only the path and query of its
    /// URI count: it goes to this host in any case. Dropping the future or the body cancels it. The time until the
    /// headers is for the caller to bound; only connecting is bounded here.
    pub async fn send(&self, request: Request<Whole>) -> Result<Response<Body>, SendError> {
        let mut request = request.map(Upload::Whole);
        let (lease, sent) = (self.connections.lease(false).await?, Instant::now());
        let is_reused = lease.is_reused;
        match self.send_on(lease, &mut request).await {
            Err(SendError::Reset { .. }) if is_reused && sent.elapsed() < STALE_WITHIN => {
                let lease = self.connections.lease(true).await?;
                self.send_on(lease, &mut request).await
            }
            answer => answer,
        }
    }

    /// As [`Client::send`], of a request whose body is read once only: it is repeated where nothing of it was sent.
    pub async fn pass(&self, mut request: Request<Upload>) -> Result<Response<Body>, SendError> {
        let lease = self.connections.lease(false).await?;
        let is_reused = lease.is_reused;
        match self.send_on(lease, &mut request).await {
            Err(SendError::Reset { unsent: true }) if is_reused && matches!(request.body(), Upload::Passing(_)) => {
                let lease = self.connections.lease(true).await?;
                self.send_on(lease, &mut request).await
            }
            answer => answer,
        }
    }

    /// Sends a request on a connection. Without an answer, a whole body is left as it was, and another one where nothing of
    /// it was sent.
    async fn send_on(&self, lease: Lease, request: &mut Request<Upload>) -> Result<Response<Body>, SendError> {
        match lease.line {
            Line::H1(mut line) => {
                let answer = h1::ask(&mut line.connection, request, &self.host_header).await?;
                Ok(answer.map(|incoming| Body::lent(incoming, line)))
            }
            Line::H2(mut line) => {
                let mut copy = Request::new(request.body_mut().take());
                let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
                *copy.method_mut() = request.method().clone();
                *copy.uri_mut() = self.absolute(path)?;
                copy.headers_mut().clone_from(request.headers());
                copy.headers_mut().remove(HOST);
                match line.sender.try_send_request(copy).await {
                    Ok(answer) => Ok(answer.map(|incoming| Body::shared(incoming, line))),
                    Err(mut error) => {
                        let unsent = error.take_message();
                        let failure = SendError::of(error.error(), unsent.is_some());
                        if let Some(unsent) = unsent {
                            *request.body_mut() = unsent.into_body();
                        }
                        Err(failure)
                    }
                }
            }
        }
    }

    fn absolute(&self, path: PathAndQuery) -> Result<Uri, SendError> {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path);
        uri.build().map_err(|_| SendError::Request("the path is not valid".to_owned()))
    }

    /// How many connections wait for a request, or are shared.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        self.connections.kept()
    }
}

/// What requests are sent to, below the base URL.
fn offered() -> impl Iterator<Item = &'static str> {
    WireShape::ALL
        .into_iter()
        .map(WireShape::surface)
        .flat_map(|surface| [Some(surface.messages), surface.count_tokens, surface.embeddings].into_iter().flatten())
}

fn server_name(url: &url::Url, host: &Host) -> Result<ServerName<'static>, String> {
    let name = match (&host.tls.server_name, url.host()) {
        (Some(name), _) => name.clone(),
        (None, Some(url::Host::Ipv6(address))) => address.to_string(),
        (None, Some(name)) => name.to_string(),
        (None, None) => return Err("the base URL names no host".to_owned()),
    };
    ServerName::try_from(name.clone()).map_err(|_| format!("`{name}` is not a name that a certificate can hold"))
}
