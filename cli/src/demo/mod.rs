//! An upstream for trying Relay without a provider key: speaks both shapes, answers the same every time, and fails on
//! request. It is a server of its own, reached over HTTP like any other.

mod faults;
mod script;

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use dataplane::{
    body::Body,
    config::duration,
    drain::Drain,
    intake,
    listener::{Listener, Origin},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Incoming;
use protocol::{
    WireShape,
    codec::{self, StreamEncoder},
    error::{ErrorKind, WireError},
    event::{Delta, Event},
    fold,
    translate::AnswerContext,
};
use serde_json::json;
use tokio_util::task::TaskTracker;

/// Where the demo upstream listens and how fast it speaks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoConfig {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,

    /// The wait before the first event of an answer
    #[arg(long, default_value = "0ms", value_parser = duration, value_name = "DURATION")]
    pub(crate) first_delay: Duration,

    /// The wait between two events of a stream
    #[arg(long, default_value = "20ms", value_parser = duration, value_name = "DURATION")]
    pub(crate) delay: Duration,
}

/// A bound demo upstream, not yet serving.
pub(crate) struct Demo {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    listener: Listener,
    pace: Pace,
}

#[derive(Clone, Copy)]
struct Pace {
    first: Duration,
    between: Duration,
}

const BODY_LIMIT: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

impl Demo {
    /// Binds the address of `config`. Errs when it is taken.
    pub(crate) async fn bind(config: &DemoConfig) -> io::Result<Self> {
        let listener = Listener::bind(config.listen, None, PATIENCE).await?;
        let pace = Pace { first: config.first_delay, between: config.delay };
        Ok(Self { address: listener.address()?, listener, pace })
    }

    /// Serves until `drain` closes.
    pub(crate) async fn serve(self, drain: Drain) {
        let pace = self.pace;
        let service = tower::service_fn(move |(origin, request): (Origin, Request<Incoming>)| async move {
            Ok::<_, Infallible>(answer(&origin, request, pace).await)
        });
        let connections = TaskTracker::new();
        self.listener.serve(service, drain, connections.clone()).await;
        connections.close();
        connections.wait().await;
    }
}

async fn answer(origin: &Origin, request: Request<Incoming>, pace: Pace) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_end_matches('/');
    let shape = shape_of(path, &head.headers);
    if let Some(error) = faults::of_credential(&head.headers) {
        return refuse(shape, &error);
    }
    if head.method == Method::GET {
        return if path.ends_with("/models") { models(shape) } else { refuse(shape, &unknown(path)) };
    }
    let body = match intake::read(body, None, BODY_LIMIT, PATIENCE, &origin.lookout).await {
        Ok(body) => body,
        Err(error) => return refuse(shape, &WireError::new(ErrorKind::InvalidRequest, error.to_string())),
    };
    if path.ends_with("/chat/completions") || path.ends_with("/messages") {
        return converse(shape, &body, pace).await;
    }
    if path.ends_with("/messages/count_tokens") {
        return count(&body);
    }
    if path.ends_with("/embeddings") { embeddings(&body) } else { refuse(shape, &unknown(path)) }
}

fn shape_of(path: &str, headers: &HeaderMap) -> WireShape {
    let is_messages = path.contains("/messages") || headers.contains_key("anthropic-version");
    if is_messages { WireShape::AnthropicMessages } else { WireShape::OpenaiChat }
}

fn unknown(path: &str) -> WireError {
    WireError::new(ErrorKind::NotFound, format!("the demo upstream has no `{path}`"))
}

async fn converse(shape: WireShape, body: &[u8], pace: Pace) -> Response<Body> {
    let request = match codec::decode_request(shape, body) {
        Ok(request) => request,
        Err(refusal) => return refuse(shape, &WireError::new(ErrorKind::InvalidRequest, refusal.message)),
    };
    if let Some(error) = faults::of_model(&request.model) {
        return refuse(shape, &error);
    }
    tokio::time::sleep(pace.first).await;
    let answer = script::answer(&request);
    let context = AnswerContext {
        model: request.model.clone(),
        include_usage: request.include_usage,
        stream: request.stream,
        legacy_functions: request.legacy_functions,
        fallback_id: match shape {
            WireShape::OpenaiChat => "chatcmpl-demo".to_owned(),
            WireShape::AnthropicMessages => "msg_demo".to_owned(),
        },
        ..AnswerContext::default()
    };
    if !request.stream {
        return page(StatusCode::OK, codec::encode_answer(shape, &answer, &context).0);
    }
    let mut encoder = StreamEncoder::new(shape, context);
    let mut frames = Vec::new();
    for event in fold::unfold(answer).into_iter().flat_map(by_words) {
        let mut bytes = Vec::new();
        encoder.event(event, &mut bytes);
        if !bytes.is_empty() {
            frames.push(Bytes::from(bytes));
        }
    }
    trickle(frames, pace.between)
}

/// A text delta as one event a word, so that a stream looks like one; any other event as it is.
fn by_words(event: Event) -> Vec<Event> {
    match event {
        Event::Delta { choice, index, delta: Delta::Text(text) } => {
            let word = |word: &str| Event::Delta { choice, index, delta: Delta::Text(word.to_owned()) };
            text.split_inclusive(' ').map(word).collect()
        }
        other => vec![other],
    }
}

fn trickle(frames: Vec<Bytes>, between: Duration) -> Response<Body> {
    let paced = stream::iter(frames).then(move |frame| async move {
        tokio::time::sleep(between).await;
        Ok::<_, io::Error>(http_body::Frame::data(frame))
    });
    let mut response = Response::new(Body::played(StreamBody::new(paced)));
    let media_type = header::HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn count(body: &[u8]) -> Response<Body> {
    match codec::decode_request(WireShape::AnthropicMessages, body) {
        Ok(request) => {
            page(StatusCode::OK, json!({ "input_tokens": script::input_tokens(&request) }).to_string().into_bytes())
        }
        Err(refusal) => {
            refuse(WireShape::AnthropicMessages, &WireError::new(ErrorKind::InvalidRequest, refusal.message))
        }
    }
}

fn embeddings(body: &[u8]) -> Response<Body> {
    let request: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let inputs = match request.get("input") {
        Some(serde_json::Value::Array(inputs)) => inputs.len(),
        Some(serde_json::Value::String(_)) => 1,
        _ => {
            let error = WireError::new(ErrorKind::InvalidRequest, "`input` must be a text or a list of texts");
            return refuse(WireShape::OpenaiChat, &error);
        }
    };
    let vectors: Vec<_> = (0..inputs)
        .map(|index| json!({ "object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125, 1.0] }))
        .collect();
    let tokens = body.len().div_ceil(4);
    let answer = json!({
        "object": "list",
        "data": vectors,
        "model": request.get("model"),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    page(StatusCode::OK, answer.to_string().into_bytes())
}

fn models(shape: WireShape) -> Response<Body> {
    let list = match shape {
        WireShape::OpenaiChat => {
            json!({ "object": "list", "data": [{ "id": "demo", "object": "model", "created": 0, "owned_by": "demo" }] })
        }
        WireShape::AnthropicMessages => json!({
            "data": [{ "type": "model", "id": "demo", "display_name": "Demo", "created_at": "2026-01-01T00:00:00Z" }],
            "has_more": false,
            "first_id": "demo",
            "last_id": "demo",
        }),
    };
    page(StatusCode::OK, list.to_string().into_bytes())
}

fn refuse(shape: WireShape, error: &WireError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = page(status, codec::encode_error(shape, error, "req_demo"));
    if let Some(wait) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().into());
    }
    response
}

fn page(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    let media_type = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
