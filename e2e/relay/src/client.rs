//! Requests of applications, and of whoever reads admin ports.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

use crate::wait::PATIENCE;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Ask {
    /// A GET.
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Value::Null }
    }

    /// A short conversation in OpenAI's shape, by the holder of a token.
    pub fn openai(model: &str, token: &str) -> Self {
        Self::converse("/v1/chat/completions", model, ("authorization", format!("Bearer {token}")))
    }

    /// A short conversation in Anthropic's shape, by the holder of a token.
    pub fn anthropic(model: &str, token: &str) -> Self {
        Self::converse("/v1/messages", model, ("x-api-key", token.to_owned())).header("anthropic-version", "2023-06-01")
    }

    /// With another header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With a field of the body.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.body[field] = value;
        self
    }

    fn converse(path: &str, model: &str, credential: (&'static str, String)) -> Self {
        let body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
        let headers = vec![credential, ("content-type", "application/json".to_owned())];
        Self { method: Method::POST, path: path.to_owned(), headers, body }
    }

    /// Sends it on a connection of its own. Errs where nobody listens or the connection breaks.
    pub async fn send(&self, to: SocketAddr) -> Result<Answer, String> {
        Connection::open(to).await?.ask(self).await
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let body = if self.body.is_null() { Bytes::new() } else { self.body.to_string().into() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().expect("it is a path");
        request.headers_mut().insert("host", HeaderValue::from_static("relay.test"));
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(value).expect("it is the value of a header");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        request
    }
}

/// A connection that takes one request after the other.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects. Errs where nobody listens.
    pub async fn open(to: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(|error| format!("connecting to {to}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends with its sender.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads its answer whole. Errs where the connection breaks or nothing comes.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let answering = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(ask.request()).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer: hyper::Result<Answer> = timeout(PATIENCE, answering).await.map_err(|_| "no answer".to_owned())?;
        answer.map_err(|error| error.to_string())
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}
