//! The provider of a measurement: answers at once with bytes that were made before, and allocates nothing for a request.
//!
//! The path chooses what it does: `/idle/...` streams its first events and then falls silent, `/half/...` refuses the
//! credentials that begin with `bad`, `/fails/...`, `/limits/...` and `/hangs/...` do as they say with every tenth
//! conversation that there is, everything else is answered in the shape of the endpoint, streamed where the body
//! says so, each event in a write of its own. One that is paced sends the next event when the client has seen the last.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, bail};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::yield_now,
};

use crate::{
    answers::{self, Answers, EVENTS, Shape},
    wire::{self, Framing},
};

/// What a connection reads at once. A head, and the part of a body that says whether to stream, fit into it.
const BUFFER: usize = 64 * 1024;

/// Of so many conversations one fails, where some do.
const ONE_FAILS: u64 = 10;

/// Events of a stream that falls silent.
const BEFORE_SILENCE: usize = 3;

/// Events that are sent whatever was seen: a gateway may hold them back until content comes.
const PREAMBLE: usize = 3;

/// Events that end a stream; a gateway may not pass all of them.
const CLOSING: usize = 3;

/// A provider that listens.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where.
    pub address: SocketAddr,
    script: Arc<Script>,
}

#[derive(Debug)]
struct Script {
    openai: Answers,
    anthropic: Answers,
    refusal: Vec<u8>,
    limited: Vec<u8>,
    models: Vec<u8>,
    conversations: AtomicU64,
    pace: Option<Arc<Pace>>,
}

/// What a client has seen of the one stream that there is.
#[derive(Debug, Default)]
pub struct Pace {
    seen: AtomicUsize,
    news: Notify,
}

impl Pace {
    /// So many events of the stream were seen.
    pub fn saw(&self, events: usize) {
        self.seen.store(events, Ordering::Relaxed);
        self.news.notify_one();
    }

    async fn until(&self, events: usize) {
        while self.seen.load(Ordering::Relaxed) < events {
            self.news.notified().await;
        }
    }
}

/// What a request gets.
enum Act {
    Whole,
    Stream,
    Silence,
    Refusal,
    Limited,
    Hang,
    Models,
}

impl Upstream {
    /// Listens on a free port and serves on the runtime of the caller.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serving(EVENTS, None).await
    }

    /// As [`Self::start`], with streams of so many events, each of which waits until the client has seen the one before.
    pub async fn paced(events: usize) -> anyhow::Result<(Self, Arc<Pace>)> {
        let pace = Arc::new(Pace::default());
        Ok((Self::serving(events, Some(pace.clone())).await?, pace))
    }

    async fn serving(events: usize, pace: Option<Arc<Pace>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the upstream")?;
        let address = listener.local_addr()?;
        let (openai, anthropic) = (Answers::of(Shape::OpenAi, events), Answers::of(Shape::Anthropic, events));
        let (refusal, limited, models) = (answers::refusal(), answers::limited(), answers::models());
        let conversations = AtomicU64::new(0);
        let script = Arc::new(Script { openai, anthropic, refusal, limited, models, conversations, pace });
        let serving = script.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Ok(Self { address, script })
    }

    /// How many conversations it was asked for; questions for models are not counted.
    pub fn conversations(&self) -> u64 {
        self.script.conversations.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>) {
    if let Err(error) = converse(stream, &script).await
        // Whoever measures closes connections in the middle of streams.
        && error.downcast_ref::<std::io::Error>().is_none()
    {
        eprintln!("bench: the upstream ended a connection: {error:#}");
    }
}

async fn converse(mut stream: TcpStream, script: &Script) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let Some((act, shape)) = read(&mut stream, &mut buffer, script).await? else { return Ok(()) };
        let answers = match shape {
            Shape::OpenAi => &script.openai,
            Shape::Anthropic => &script.anthropic,
        };
        match act {
            Act::Whole => stream.write_all(&answers.whole).await?,
            Act::Refusal => stream.write_all(&script.refusal).await?,
            Act::Limited => stream.write_all(&script.limited).await?,
            Act::Models => stream.write_all(&script.models).await?,
            Act::Stream => {
                stream.write_all(&answers.stream_head).await?;
                for (n, event) in answers.events.iter().enumerate() {
                    if let Some(pace) = &script.pace
                        && (PREAMBLE..answers.events.len() - CLOSING).contains(&n)
                    {
                        pace.until(n).await;
                    }
                    stream.write_all(event).await?;
                    // The next event is another write, after everybody else had a turn.
                    yield_now().await;
                }
            }
            Act::Hang => {
                // Until the other side has enough.
                let _ = stream.read(&mut buffer).await?;
                return Ok(());
            }
            Act::Silence => {
                stream.write_all(&answers.stream_head).await?;
                for event in &answers.events[..BEFORE_SILENCE] {
                    stream.write_all(event).await?;
                }
                // Until the other side has enough.
                let _ = stream.read(&mut buffer).await?;
                return Ok(());
            }
        }
    }
}

/// Reads a request; nothing where the connection ended before one.
async fn read(stream: &mut TcpStream, buffer: &mut [u8], script: &Script) -> anyhow::Result<Option<(Act, Shape)>> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
        let Some(head) = wire::request_head(&buffer[..filled])? else { continue };
        let Framing::Length(length) = head.body else { bail!("requests of a measurement say their length") };
        let whole = head.length + length;
        if filled < whole.min(BUFFER) {
            continue;
        }
        let decided = script.decide(&head, &buffer[head.length..filled]);
        let mut left = whole.saturating_sub(filled);
        while left > 0 {
            let room = left.min(BUFFER);
            let read = stream.read(&mut buffer[..room]).await?;
            anyhow::ensure!(read > 0, "a request ended in the middle of its body");
            left -= read;
        }
        return Ok(Some(decided));
    }
}

impl Script {
    fn decide(&self, head: &wire::RequestHead<'_>, body: &[u8]) -> (Act, Shape) {
        let shape = if head.path.ends_with("/messages") { Shape::Anthropic } else { Shape::OpenAi };
        let is_refused = head.path.starts_with("/half/") && head.authorization.starts_with(b"Bearer bad");
        if head.method == "GET" {
            return (if is_refused { Act::Refusal } else { Act::Models }, shape);
        }
        let before = self.conversations.fetch_add(1, Ordering::Relaxed);
        let failure = failure(head.path).filter(|_| before.is_multiple_of(ONE_FAILS));
        let act = if let Some(failure) = failure {
            failure
        } else if is_refused {
            Act::Refusal
        } else if head.path.starts_with("/idle/") {
            Act::Silence
        } else if memmem::find(body, b"\"stream\":true").is_some() {
            Act::Stream
        } else {
            Act::Whole
        };
        (act, shape)
    }
}

/// How a provider at this path fails, if it does.
fn failure(path: &str) -> Option<Act> {
    match path.split('/').nth(1)? {
        "fails" => Some(Act::Refusal),
        "limits" => Some(Act::Limited),
        "hangs" => Some(Act::Hang),
        _ => None,
    }
}
