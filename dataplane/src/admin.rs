//! The admin port: liveness, readiness, metrics and the table without secrets, on a runtime of its own so that a scrape
//! cannot delay a token.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the admin port can be asked.
pub trait Inspect: Send + Sync + 'static {
    /// Whether requests shall be sent here; the reason where not.
    fn readiness(&self) -> Result<(), &'static str>;
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// The routing table as JSON; holds no secret.
    fn table(&self) -> Vec<u8>;
    /// Where the credential of each host key is and whether it can be used, as JSON; holds none of them.
    fn credentials(&self) -> Vec<u8>;
    /// Where the table comes from and how new it is, as JSON; none: no operator is followed.
    fn feed(&self) -> Option<Vec<u8>>;
}

/// The admin server's thread; stops when its token is cancelled.
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Binds `address` and serves on a thread of its own until `stop`.
    pub fn start(address: SocketAddr, inspect: Arc<dyn Inspect>, stop: CancellationToken) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("relay-admin".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(socket) = TcpListener::from_std(socket) else { return };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = accept(socket, inspect) => {}
                }
            });
        })?;
        Ok(Self { address, thread })
    }

    /// Waits for the thread after its token was cancelled.
    pub fn join(self) {
        // A panic there was already printed; the process is ending.
        let _ = self.thread.join();
    }
}

async fn accept(socket: TcpListener, inspect: Arc<dyn Inspect>) {
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            // Out of descriptors, most likely: asking again at once would only burn the processor.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let inspect = inspect.clone();
        // Owned by the admin runtime, which ends with its thread.
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &*inspect);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, inspect: &dyn Inspect) -> Response<Full<Bytes>> {
    let text = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, text, "only GET is answered here\n");
    }
    match request.uri().path() {
        "/healthz" | "/livez" => page(StatusCode::OK, text, "ok\n"),
        "/readyz" => match inspect.readiness() {
            Ok(()) => page(StatusCode::OK, text, "ready\n"),
            Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, text, format!("not ready: {reason}\n")),
        },
        "/metrics" => {
            page(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", inspect.metrics())
        }
        "/debug/table" => page(StatusCode::OK, "application/json", inspect.table()),
        "/debug/credentials" => page(StatusCode::OK, "application/json", inspect.credentials()),
        "/debug/feed" => match inspect.feed() {
            Some(feed) => page(StatusCode::OK, "application/json", feed),
            None => page(StatusCode::NOT_FOUND, text, "no operator is followed\n"),
        },
        _ => page(
            StatusCode::NOT_FOUND,
            text,
            "known paths: /healthz /readyz /metrics /debug/table /debug/credentials /debug/feed\n",
        ),
    }
}

fn page(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
