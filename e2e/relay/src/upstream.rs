//! A provider: answers conversations in both wire shapes, and remembers which credential each request showed. A stream that
//! the user [`DAWDLER`] asks for begins and never ends.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// Who asks for a stream that never ends (`user` in the body of the request).
pub const DAWDLER: &str = "dawdler";

/// An upstream that runs until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Seen,
    refused: Refused,
    accepting: JoinHandle<()>,
}

/// What arrived, and credentials that are wrong.
type Seen = Arc<Mutex<Vec<Request>>>;
type Refused = Arc<Mutex<BTreeSet<String>>>;

/// The body of an answer: a piece, and then its end or nothing for ever.
struct Said {
    piece: Option<Bytes>,
    is_endless: bool,
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.piece.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.is_endless => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none() && !self.is_endless
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.is_endless { SizeHint::new() } else { SizeHint::with_exact(left) }
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { piece: Some(text.into()), is_endless: false }
    }
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Path.
    pub path: String,
    /// The provider credential that it showed.
    pub credential: String,
}

impl Upstream {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (seen, refused) = (Seen::default(), Refused::default());
        let accepting = tokio::spawn(accept(socket, seen.clone(), refused.clone()));
        Self { address, seen, refused, accepting }
    }

    /// Where it is, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers requests that show this credential with 401 from now on.
    pub fn refuse(&self, credential: &str) {
        self.refused.lock().insert(credential.to_owned());
    }

    /// What arrived since this was last asked.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(socket: TcpListener, seen: Seen, refused: Refused) {
    while let Ok((stream, _)) = socket.accept().await {
        let _ = stream.set_nodelay(true);
        let (seen, refused) = (seen.clone(), refused.clone());
        let service = service_fn(move |request| answer(request, seen.clone(), refused.clone()));
        // Ends with its connection, and with the runtime of the test at the latest.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: hyper::Request<Incoming>, seen: Seen, refused: Refused) -> Result<Response<Said>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let credential = credential(&head.headers);
    let is_refused = refused.lock().contains(&credential);
    seen.lock().push(Request { path: path.clone(), credential });
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_openai = path.ends_with("/chat/completions");
    if is_refused {
        let said = json!({"error": {"type": "authentication_error", "message": "this credential is wrong"}});
        let mut response = Response::new(said.to_string().into());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    let (media_type, text) = match (is_openai, asked["stream"] == true) {
        (true, false) => ("application/json", completion("chat.completion", "message", json!("stop")).to_string()),
        (true, true) => ("text/event-stream", chunks()),
        (false, false) => ("application/json", message(json!([{"type": "text", "text": TEXT}])).to_string()),
        (false, true) => ("text/event-stream", events()),
    };
    let mut said = Said::from(text);
    if asked["stream"] == true && asked["user"] == DAWDLER {
        let begun = completion("chat.completion.chunk", "delta", Value::Null);
        said = Said { piece: Some(format!("data: {begun}\n\n").into()), is_endless: true };
    }
    let mut response = Response::new(said);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    Ok(response)
}

fn credential(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let bearer = text("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
    text("x-api-key").or(bearer).unwrap_or_default()
}

/// What it always says.
const TEXT: &str = "hello from upstream";

fn completion(object: &str, field: &str, finish: Value) -> Value {
    let mut choice = json!({"index": 0, "finish_reason": finish});
    choice[field] = json!({"role": "assistant", "content": TEXT});
    json!({
        "id": "chatcmpl-1", "object": object, "created": 1_700_000_000, "model": "demo", "choices": [choice],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    })
}

fn chunks() -> String {
    let chunk = completion("chat.completion.chunk", "delta", json!("stop"));
    format!("data: {chunk}\n\ndata: [DONE]\n\n")
}

fn message(content: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "demo", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 3},
    })
}

fn events() -> String {
    let mut start = message(json!([]));
    start["stop_reason"] = Value::Null;
    let events = [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ];
    let framed =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("")));
    framed.collect()
}
