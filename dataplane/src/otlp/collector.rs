//! The way to a collector: one batch by OTLP over HTTP with protobuf, and what its answer means. Knows nothing of what is
//! in the batch, and tries once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use table::ObjectRef;

use crate::upstream::{
    client::Client,
    clients::{self, Clients},
    resolver::Resolve,
    upload::Whole,
};

/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a collector's answer that are read.
const MOST_ANSWER: usize = 64 << 10;
/// The longest wait that a collector may ask for.
const MOST_WAIT: Duration = Duration::from_secs(60);

/// Where one kind of batches goes.
pub(crate) struct Collector {
    client: Arc<Client>,
    /// Below the client's URL; empty: that URL itself.
    path: &'static str,
    headers: HeaderMap,
}

/// Why a batch was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may be taken later; and how much later, where the collector says so.
    ForNow { reason: String, after: Option<Duration> },
    /// It never will.
    ForGood(String),
}

impl Collector {
    /// Batches go to `path` below `url`, each with these headers. Errs, in words for whoever runs the process, where that is
    /// no usable URL. Needs a Tokio runtime.
    pub(crate) fn new(
        url: &str,
        path: &'static str,
        headers: HeaderMap,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, String> {
        let client = Clients::new(resolver).for_host(&ObjectRef::new("", "collector"), &clients::row_of(url), None)?;
        Ok(Self { client, path, headers })
    }

    /// Sends a batch; gives the body of the answer, which may say that a part of it was not taken.
    pub(crate) async fn post(&self, batch: Bytes) -> Result<Bytes, Refused> {
        let sent = tokio::time::timeout(PATIENCE, self.ask(batch)).await;
        sent.unwrap_or_else(|_| Err(for_now("it takes too long".to_owned())))
    }

    async fn ask(&self, batch: Bytes) -> Result<Bytes, Refused> {
        let unsent = |error: crate::upstream::error::SendError| for_now(error.to_string());
        let mut request = Request::new(Whole::from(batch));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.client.uri(self.path).map_err(unsent)?;
        *request.headers_mut() = self.headers.clone();
        let media_type = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(header::CONTENT_TYPE, media_type);
        let answer = self.client.send(request).await.map_err(unsent)?;
        let (status, after) = (answer.status(), retry_after(answer.headers()));
        // Read to the end, so that the connection can be used again.
        let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        let reason = format!("it answers {status}");
        match status {
            status if status.is_success() => Ok(body.map(|body| body.to_bytes()).unwrap_or_default()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::ForNow { reason, after }),
            _ => Err(Refused::ForGood(reason)),
        }
    }
}

fn for_now(reason: String) -> Refused {
    Refused::ForNow { reason, after: None }
}

/// In seconds, as collectors write it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MOST_WAIT))
}
