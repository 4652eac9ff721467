//! An HTTP/1.1 client that hides nothing: heads, raw bodies, and whether the connection broke.

use std::{io::Read, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use table::WireShape;
use tokio::net::TcpStream;

use super::tables::TOKEN;

/// A request to the relay.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    /// The JSON body; null: none.
    pub(crate) body: Value,
    /// Bytes that are sent in place of the body.
    bytes: Option<Bytes>,
}

impl Ask {
    /// A conversation of one short message in the given shape.
    pub(crate) fn of(shape: WireShape, model: &str) -> Self {
        let messages = json!([{"role": "user", "content": "hello"}]);
        match shape {
            WireShape::OpenaiChat => Self::post("/v1/chat/completions", json!({"model": model, "messages": messages})),
            WireShape::AnthropicMessages => {
                let body = json!({"model": model, "max_tokens": 100, "messages": messages});
                Self::post("/v1/messages", body).header("anthropic-version", "2023-06-01")
            }
        }
    }

    /// A conversation with OpenAI's shape.
    pub(crate) fn openai(model: &str) -> Self {
        Self::of(WireShape::OpenaiChat, model)
    }

    /// A conversation with Anthropic's shape.
    pub(crate) fn anthropic(model: &str) -> Self {
        Self::of(WireShape::AnthropicMessages, model)
    }

    /// A POST with the usual token.
    pub(crate) fn post(path: &str, body: Value) -> Self {
        let headers = vec![
            ("authorization".to_owned(), format!("Bearer {TOKEN}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        Self { method: Method::POST, path: path.to_owned(), headers, body, bytes: None }
    }

    /// A GET with the usual token.
    pub(crate) fn get(path: &str) -> Self {
        Self { method: Method::GET, body: Value::Null, ..Self::post(path, Value::Null) }
    }

    /// With another method.
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Streamed.
    pub(crate) fn streamed(self) -> Self {
        self.with("stream", json!(true))
    }

    /// With a field of the body.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.body[field] = value;
        self
    }

    /// With a header, which replaces one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With these bytes as its body, whatever they are.
    pub(crate) fn raw(mut self, bytes: impl Into<Bytes>) -> Self {
        self.bytes = Some(bytes.into());
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With the token of another relay key.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let body = match &self.bytes {
            Some(bytes) => bytes.clone(),
            None if self.body.is_null() => Bytes::new(),
            None => self.body.to_string().into(),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().expect("a path");
        request.headers_mut().insert("host", HeaderValue::from_static("relay.test"));
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).expect("a header's name");
            request.headers_mut().insert(name, HeaderValue::try_from(value).expect("a header's value"));
        }
        request
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the port is open")).await
    }

    /// Speaks on a connection that is open already.
    pub(crate) async fn over(stream: TcpStream) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1 needs no handshake");
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request, and gives the head of its answer.
    pub(crate) async fn send(mut self, ask: &Ask) -> hyper::Result<Answer> {
        let response = self.request(ask).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, _connection: self })
    }

    /// Sends a request and reads its answer whole, and can be used again.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> hyper::Result<Whole> {
        let (head, mut body) = self.request(ask).await?.into_parts();
        let (bytes, is_broken) = read(&mut body).await;
        Ok(Whole { status: head.status.as_u16(), headers: head.headers, bytes, is_broken })
    }

    async fn request(&mut self, ask: &Ask) -> hyper::Result<http::Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(ask.request()).await
    }
}

async fn read(body: &mut Incoming) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (bytes, true) };
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    (bytes, false)
}

/// An answer whose body is still to be read. Dropped, it closes the connection.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Connection,
}

impl Answer {
    /// The next bytes; `None` at the end, also where the connection broke.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }

    /// Reads until `text` has been seen; gives all that was read.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = self.chunk().await.unwrap_or_else(|| panic!("the answer ends before {text:?}: {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        seen
    }

    /// Reads to the end.
    pub(crate) async fn whole(mut self) -> Whole {
        let (bytes, is_broken) = read(&mut self.body).await;
        Whole { status: self.status, headers: self.headers, bytes, is_broken }
    }
}

/// An answer that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection broke before the body's end.
    pub(crate) is_broken: bool,
}

impl Whole {
    /// The body, decompressed as far as it goes.
    pub(crate) fn text(&self) -> String {
        if self.header("content-encoding") != Some("gzip") {
            return String::from_utf8_lossy(&self.bytes).into_owned();
        }
        let (mut plain, mut decoder) = (Vec::new(), flate2::read::MultiGzDecoder::new(&self.bytes[..]));
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = decoder.read(&mut buffer) {
            plain.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&plain).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The body's events, in order: name and data. Comments are left out.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.text().split("\n\n").filter_map(Event::read).collect()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Absent where it has none.
    pub(crate) name: Option<String>,
    pub(crate) data: String,
}

impl Event {
    fn read(block: &str) -> Option<Self> {
        let field = |name: &str| {
            let prefix = format!("{name}:");
            block.lines().find_map(|line| line.strip_prefix(&prefix)).map(|value| value.trim_start().to_owned())
        };
        Some(Self { name: field("event"), data: field("data")? })
    }

    /// The data as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or(Value::Null)
    }
}
