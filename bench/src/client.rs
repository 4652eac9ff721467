//! A client that costs little: sends bytes that were made before over a connection that stays, and reads only as much of an
//! answer as a measurement needs. It allocates nothing for a request.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use memchr::memchr_iter;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wire::{self, AnswerHead, Chunks, Framing};

/// What is read at once, and the most that a head may have.
const BUFFER: usize = 64 * 1024;

/// A connection to a gateway.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What was seen of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Events that it had: what a blank line ends.
    pub events: usize,
    /// When the first byte of its body came.
    pub first: Instant,
    /// When it was over.
    pub last: Instant,
    /// The longest silence in its body.
    pub silence: Duration,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER] })
    }

    /// Sends a request and reads its answer to the end. Errs where that is anything but a 200.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Seen> {
        self.ask_telling(request, |_| {}).await
    }

    /// As [`Self::ask`]; tells how many events were seen whenever something came.
    pub async fn ask_telling(&mut self, request: &[u8], tell: impl Fn(usize)) -> anyhow::Result<Seen> {
        self.stream.write_all(request).await?;
        let (head, filled) = self.head().await?;
        let mut body = Body::new(head.body);
        if filled > head.length {
            body.take(&self.buffer[head.length..filled])?;
            tell(body.events);
        }
        while !body.is_ended() {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "an answer ended in the middle of its body");
            body.take(&self.buffer[..read])?;
            tell(body.events);
        }
        let last = body.last.unwrap_or_else(Instant::now);
        Ok(Seen { events: body.events, first: body.first.unwrap_or(last), last, silence: body.silence })
    }

    /// Sends a request for a stream and reads until its first event came. Errs where the answer is anything but a 200.
    pub async fn begin(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let (head, filled) = self.head().await?;
        let mut body = Body::new(head.body);
        body.take(&self.buffer[head.length..filled])?;
        while body.events == 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0 && !body.is_ended(), "a stream ended before its first event");
            body.take(&self.buffer[..read])?;
        }
        Ok(())
    }

    async fn head(&mut self) -> anyhow::Result<(AnswerHead, usize)> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "a connection ended before the head of its answer");
            filled += read;
            let Some(head) = wire::answer_head(&self.buffer[..filled])? else { continue };
            let body = &self.buffer[head.length..filled];
            ensure!(head.status == 200, "an answer of status {}: {}", head.status, String::from_utf8_lossy(body));
            return Ok((head, filled));
        }
    }
}

/// A body as it comes.
struct Body {
    framing: Framing,
    chunks: Chunks,
    events: usize,
    /// Whether the last byte was the end of a line.
    at_line_end: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    silence: Duration,
}

impl Body {
    fn new(framing: Framing) -> Self {
        let (chunks, silence) = (Chunks::default(), Duration::ZERO);
        Self { framing, chunks, events: 0, at_line_end: false, first: None, last: None, silence }
    }

    fn is_ended(&self) -> bool {
        match self.framing {
            Framing::Length(left) => left == 0,
            Framing::Chunked => self.chunks.is_ended(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let now = Instant::now();
        self.first.get_or_insert(now);
        if let Some(last) = self.last.replace(now) {
            self.silence = self.silence.max(now - last);
        }
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(bytes.len()).context("a body is longer than its head says")?;
                Ok(())
            }
            Framing::Chunked => {
                let (events, at_line_end) = (&mut self.events, &mut self.at_line_end);
                self.chunks.take(bytes, |data| count(data, events, at_line_end))
            }
        }
    }
}

/// Counts the blank lines of an event stream that ends its lines with LF alone.
fn count(data: &[u8], events: &mut usize, at_line_end: &mut bool) {
    for at in memchr_iter(b'\n', data) {
        let follows = if at == 0 { *at_line_end } else { data[at - 1] == b'\n' };
        *events += usize::from(follows);
    }
    if let Some(last) = data.last() {
        *at_line_end = *last == b'\n';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answers::EVENTS, requests, upstream::Upstream};

    #[tokio::test]
    async fn whole_answers_and_streams_are_read_to_their_end_over_one_connection() {
        let upstream = Upstream::start().await.unwrap();
        let mut connection = Connection::open(upstream.address).await.unwrap();
        for _ in 0..3 {
            assert_eq!(connection.ask(&requests::openai("t", false)).await.unwrap().events, 0);
            assert_eq!(connection.ask(&requests::openai("t", true)).await.unwrap().events, EVENTS);
            assert_eq!(connection.ask(&requests::anthropic("t", true)).await.unwrap().events, EVENTS);
            assert_eq!(connection.ask(&requests::large("t")).await.unwrap().events, 0);
        }
        assert_eq!(upstream.conversations(), 12);
    }

    #[tokio::test]
    async fn an_answer_that_is_an_error_ends_a_measurement() {
        let upstream = Upstream::start().await.unwrap();
        let mut connection = Connection::open(upstream.address).await.unwrap();
        let told = connection.ask(&requests::openai_at("/half", "bad", false)).await.unwrap_err().to_string();
        assert!(told.starts_with("an answer of status 500: {"), "{told}");
    }

    #[tokio::test]
    async fn a_stream_that_falls_silent_has_begun() {
        let upstream = Upstream::start().await.unwrap();
        let mut connection = Connection::open(upstream.address).await.unwrap();
        connection.begin(&requests::openai_at("/idle", "t", true)).await.unwrap();
    }
}
