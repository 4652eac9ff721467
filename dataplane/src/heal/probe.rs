//! One probe: lists models with the key, or asks what the Host's health check names, and says how that ended.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use protocol::{MaxTokensField, WireShape, codec};
use serde_json::json;

use super::Ward;
use crate::{
    breaker::{classify, outcome::Outcome},
    upstream::{auth, body::Body, client::Client, error::SendError, upload::Whole},
};

/// A probe takes no longer than this, whatever the host's own timeouts.
const TIMEOUT_MOST: Duration = Duration::from_secs(10);
/// So much of a failure's body is read.
const BODY_MOST: usize = 64 * 1024;

/// Probes a key.
pub(super) async fn probe(client: &Client, ward: &Ward) -> Outcome {
    let row = &ward.host.row;
    let Ok(request) = request(client, ward) else { return Outcome::Auth };
    let answered = tokio::time::timeout(longest(row), async {
        let answer = client.send(request).await?;
        Ok::<_, SendError>(outcome(row.shape, answer).await)
    });
    match answered.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => classify::failed(&error),
        Err(_) => classify::silent(),
    }
}

/// How long a probe of the host may take.
pub(super) fn longest(row: &table::Host) -> Duration {
    row.timeouts.first_byte.min(TIMEOUT_MOST).max(row.timeouts.connect)
}

fn request(client: &Client, ward: &Ward) -> Result<Request<Whole>, ()> {
    let row = &ward.host.row;
    let (check, surface) = (&row.health_check, row.shape.surface());
    let (method, path, body) = match (&check.model, &check.path) {
        (Some(model), _) => (Method::POST, surface.messages, one_token(ward, model)),
        (None, Some(path)) => (Method::GET, path.as_str(), Bytes::new()),
        (None, None) => (Method::GET, surface.models, Bytes::new()),
    };
    let mut request = Request::new(Whole::from(body));
    *request.uri_mut() = client.uri(path).map_err(drop)?;
    let headers = request.headers_mut();
    if method == Method::POST {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in surface.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &row.headers.set {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    *request.method_mut() = method;
    let (mut parts, body) = request.into_parts();
    auth::put(ward.secret.as_ref(), &row.auth, &mut parts).map_err(drop)?;
    Ok(Request::from_parts(parts, body))
}

/// The cheapest request there is.
fn one_token(ward: &Ward, model: &str) -> Bytes {
    let row = &ward.host.row;
    let field = match (row.shape, row.dialect.max_tokens_field) {
        (WireShape::OpenaiChat, MaxTokensField::MaxCompletionTokens) => "max_completion_tokens",
        (WireShape::OpenaiChat, MaxTokensField::MaxTokens) | (WireShape::AnthropicMessages, _) => "max_tokens",
    };
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], field: 1});
    Bytes::from(body.to_string())
}

async fn outcome(shape: WireShape, answer: Response<Body>) -> Outcome {
    let (parts, body) = answer.into_parts();
    if parts.status.is_success() {
        return Outcome::Ok;
    }
    let body = Limited::new(body, BODY_MOST).collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    let error = codec::decode_error(shape, parts.status.as_u16(), &body);
    match classify::answered(shape, &error, &parts.headers, Timestamp::now()) {
        // A key that is good for requests may not be good for lists.
        Outcome::Auth if is_out_of_scope(parts.status, &body) => Outcome::Ok,
        Outcome::NotServed | Outcome::CallerFault if parts.status == StatusCode::UNAUTHORIZED => Outcome::Auth,
        // The host has no such list, or takes no such request; but it took the key.
        Outcome::NotServed | Outcome::CallerFault => Outcome::Ok,
        outcome => outcome,
    }
}

/// Whether a key was taken, but for less than was asked: "Missing scopes: api.model.read".
fn is_out_of_scope(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::FORBIDDEN && String::from_utf8_lossy(body).to_lowercase().contains("missing scope")
}
