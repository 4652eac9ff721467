//! The admin port: liveness, readiness, metrics, and the table without secrets.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::TaskTracker;

use crate::{metrics::Metrics, published::Published, world::World};

/// What the admin port shows.
pub(crate) struct Admin {
    pub(crate) world: Arc<World>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) published: watch::Receiver<Option<Arc<Published>>>,
}

impl Admin {
    /// Serves until it is dropped.
    pub(crate) async fn serve(self, socket: TcpListener) {
        let admin = Arc::new(self);
        let connections = TaskTracker::new();
        loop {
            let Ok((stream, _)) = socket.accept().await else {
                // Out of descriptors, most likely: asking again at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = admin.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = admin.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new());
                // A prober that went away is no news.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let text = "text/plain; charset=utf-8";
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page(StatusCode::METHOD_NOT_ALLOWED, text, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/healthz" | "/livez" => page(StatusCode::OK, text, "ok\n"),
            "/readyz" => match self.unready() {
                None => page(StatusCode::OK, text, "ready\n"),
                Some(reason) => page(StatusCode::SERVICE_UNAVAILABLE, text, format!("not ready: {reason}\n")),
            },
            "/metrics" => {
                let text = self.metrics.encode(self.world.standings());
                page(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
            }
            "/debug/table" => page(StatusCode::OK, "application/json", self.table()),
            _ => page(StatusCode::NOT_FOUND, text, "known paths: /healthz /readyz /metrics /debug/table\n"),
        }
    }

    /// Why nothing can be served yet. What was compiled once stays good while the API server is away.
    fn unready(&self) -> Option<String> {
        if self.published.borrow().is_some() {
            return None;
        }
        Some(self.world.missing().unwrap_or_else(|| "nothing is compiled yet".to_owned()))
    }

    fn table(&self) -> Vec<u8> {
        let published = self.published.borrow().clone();
        let table = published.as_ref().map(|published| &*published.table);
        serde_json::to_vec_pretty(&table).unwrap_or_else(|error| error.to_string().into_bytes())
    }
}

fn page(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
