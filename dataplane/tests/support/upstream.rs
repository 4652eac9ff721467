//! Upstreams that follow a script, byte for byte, and remember what they were sent.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// A request as an upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Counts the requests of the upstream, from 0.
    pub(crate) index: usize,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The credential that it came with; empty: none.
    pub(crate) fn key(&self) -> &str {
        let bearer = self.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        bearer.or(self.header("x-api-key")).unwrap_or_default()
    }

    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it is a request for a conversation, not a probe.
    pub(crate) fn is_conversation(&self) -> bool {
        self.method == "POST"
    }

    /// Whether it asks for a stream.
    pub(crate) fn is_streamed(&self) -> bool {
        self.json()["stream"] == true
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends bytes.
    Write(Vec<u8>),
    /// Sends the same bytes so many times.
    Repeat(Vec<u8>, usize),
    /// Waits.
    Pause(Duration),
    /// Waits until the gate is opened.
    Gate(Gate),
    /// Waits until the other side goes away.
    Stall,
    /// Ends the connection in order.
    Close,
    /// Breaks the connection.
    Reset,
}

/// Holds scripts up until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everyone through, now and later.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once it is open.
    pub(crate) async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// An answer, step by step; after the last one the connection waits for its next request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(pub(crate) Vec<Act>);

impl Script {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An answer with its length.
    pub(crate) fn answer(status: u16, media_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::answer_with(status, &[("content-type", media_type)], body)
    }

    /// An answer with its length and these headers.
    pub(crate) fn answer_with(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let length = body.as_ref().len().to_string();
        let mut all = headers.to_vec();
        all.push(("content-length", &length));
        Self::head(status, &all).raw(body)
    }

    /// A JSON answer.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::answer(status, "application/json", body.to_string())
    }

    /// The head of an answer, and nothing else.
    pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Self(vec![Act::Write(format!("{head}\r\n").into_bytes())])
    }

    /// The head of an event stream in chunks.
    pub(crate) fn stream() -> Self {
        Self::head(200, &[("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Act::Write(bytes.as_ref().to_vec()));
        self
    }

    /// One chunk of a chunked body.
    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        self.raw(chunk(bytes.as_ref()))
    }

    /// Chunks, one for each of `pieces`.
    pub(crate) fn chunks<I: IntoIterator<Item = String>>(mut self, pieces: I) -> Self {
        for piece in pieces {
            self = self.chunk(piece);
        }
        self
    }

    /// The end of a chunked body.
    pub(crate) fn end(self) -> Self {
        self.raw("0\r\n\r\n")
    }

    /// One more step.
    pub(crate) fn then(mut self, act: Act) -> Self {
        self.0.push(act);
        self
    }

    /// A wait.
    pub(crate) fn pause(self, millis: u64) -> Self {
        self.then(Act::Pause(Duration::from_millis(millis)))
    }
}

/// A chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// The gzip of `bytes`.
pub(crate) fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes.as_ref()).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

/// Compresses piece by piece, each flushed, as a provider that streams compressed does.
pub(crate) fn gzip_pieces(pieces: &[String]) -> Vec<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut compressed: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        encoder.write_all(piece.as_bytes()).expect("a vector takes all");
        encoder.flush().expect("a vector takes all");
        compressed.push(std::mem::take(encoder.get_mut()));
    }
    compressed.push(encoder.finish().expect("a vector takes all"));
    compressed
}

/// An address at which nobody listens, for as long as this is held.
pub(crate) struct Nobody(TcpSocket);

impl Nobody {
    /// At a port of its own, which nobody else gets meanwhile.
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self(socket)
    }

    /// Where nobody listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }
}

/// A server whose answers are written by a function of the request.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    count: AtomicUsize,
    /// Requests whose script was not yet over when the other side went away.
    abandoned: watch::Sender<Vec<usize>>,
    connections: AtomicUsize,
    written: AtomicU64,
    keep: bool,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) async fn start(script: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Self {
        Self::listen(script, true).await
    }

    /// As [`Self::start`], for so many requests that remembering their bodies would cost.
    pub(crate) async fn start_forgetful(script: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Self {
        Self::listen(script, false).await
    }

    async fn listen(script: impl Fn(&Received) -> Script + Send + Sync + 'static, keep: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            count: AtomicUsize::new(0),
            abandoned: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            keep,
        });
        let (state, script) = (shared.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, script) = (state.clone(), script.clone());
                tokio::spawn(async move { serve(stream, &state, &*script).await });
            }
        });
        Self { address, shared }
    }

    /// Its base URL, with the version segment.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was sent so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// The keys of the conversations that it was sent, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let received = self.shared.received.lock();
        received.iter().filter(|request| request.is_conversation()).map(|request| request.key().to_owned()).collect()
    }

    /// How many requests it was sent.
    pub(crate) fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes that the other side's socket took.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Resolves once the other side has gone away from so many unfinished answers; gives their requests' indices.
    pub(crate) async fn abandoned(&self, at_least: usize) -> Vec<usize> {
        let mut abandoned = self.shared.abandoned.subscribe();
        let seen = abandoned.wait_for(|indices| indices.len() >= at_least).await;
        seen.expect("the upstream outlives the wait").clone()
    }
}

async fn serve(stream: TcpStream, shared: &Shared, script: &(impl Fn(&Received) -> Script + Send + Sync)) {
    let _ = stream.set_nodelay(true);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(mut request) = receive(&mut read).await else { return };
        request.index = shared.count.fetch_add(1, Ordering::SeqCst);
        let index = request.index;
        let Script(acts) = script(&request);
        if shared.keep {
            shared.received.lock().push(request);
        }
        let mut byte = [0; 1];
        let ended = tokio::select! {
            biased;
            ended = play(acts, &mut write, &shared.written) => ended,
            // A client that does not pipeline sends nothing while it waits: this is its end.
            _ = read.read(&mut byte) => Ended::Abandoned,
        };
        match ended {
            Ended::Played => {}
            Ended::Closed => return,
            Ended::Reset => {
                if let Ok(stream) = read.into_inner().reunite(write) {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
            Ended::Abandoned => {
                shared.abandoned.send_modify(|indices| indices.push(index));
                return;
            }
        }
    }
}

enum Ended {
    Played,
    Closed,
    Reset,
    Abandoned,
}

async fn play(acts: Vec<Act>, write: &mut OwnedWriteHalf, written: &AtomicU64) -> Ended {
    for act in acts {
        let (bytes, times) = match act {
            Act::Write(bytes) => (bytes, 1),
            Act::Repeat(bytes, times) => (bytes, times),
            Act::Pause(wait) => {
                tokio::time::sleep(wait).await;
                continue;
            }
            Act::Gate(gate) => {
                gate.passed().await;
                continue;
            }
            Act::Stall => std::future::pending().await,
            Act::Close => return Ended::Closed,
            Act::Reset => return Ended::Reset,
        };
        for _ in 0..times {
            if write.write_all(&bytes).await.is_err() {
                return Ended::Abandoned;
            }
            written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
    }
    Ended::Played
}

/// Reads one request; `None` at the end of the connection.
async fn receive(read: &mut BufReader<OwnedReadHalf>) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let named = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: Vec<_> = lines.filter_map(named).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value.as_str());
    let mut body = vec![0; length.parse().ok()?];
    read.read_exact(&mut body).await.ok()?;
    Some(Received { index: 0, method, path, headers, body })
}
