//! Steady load: a few dozen clients that ask again and again, some of whom leave before the end, and what each has seen.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::support::client::{Ask, Connection};

/// How many ask at the same time.
pub(crate) const CLIENTS: usize = 24;
/// How often each of them asks.
const EVERY: Duration = Duration::from_millis(80);
/// One request of so many is left before its answer is whole.
const LEFT: usize = 8;
/// For whatever a test waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) client: usize,
    pub(crate) begun: Instant,
    /// Until its head, or its whole answer.
    pub(crate) took: Duration,
    pub(crate) status: u16,
    /// Whether the answer says so.
    pub(crate) degraded: bool,
}

/// Clients at work.
pub(crate) struct Load {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

/// A request whose answer the upstream begins and never ends.
pub(crate) fn endless() -> Ask {
    Ask::openai("m").streamed().with("seed", json!(0))
}

impl Load {
    /// Begins.
    pub(crate) fn start(relay: SocketAddr) -> Self {
        let (seen, stop) = (Arc::new(Mutex::default()), CancellationToken::new());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(ask(client, relay, seen.clone(), stop.clone()));
        }
        Self { seen, stop, clients }
    }

    /// Waits until each client has seen so many answers to requests that it sent after `since`.
    pub(crate) async fn each_has_seen(&self, count: usize, since: Instant) {
        until("answers", async || {
            let seen = self.seen.lock();
            let of = |client| seen.iter().filter(|one| one.client == client && one.begun >= since).count();
            (0..CLIENTS).all(|client| of(client) >= count)
        })
        .await;
    }

    /// Waits until a request that was sent after `since` was decided by Redis; says how long after that it was sent.
    pub(crate) async fn back(&self, since: Instant) -> Duration {
        let first = || {
            let seen = self.seen.lock();
            let exact = seen.iter().filter(|one| one.begun >= since && !one.degraded);
            exact.map(|one| one.begun.duration_since(since)).min()
        };
        until("a request that Redis decides", async || first().is_some()).await;
        first().expect("it was seen")
    }

    /// Ends, and gives everything that was seen.
    pub(crate) async fn end(mut self) -> Vec<Seen> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client ends in order");
        }
        std::mem::take(&mut self.seen.lock())
    }
}

async fn ask(client: usize, relay: SocketAddr, seen: Arc<Mutex<Vec<Seen>>>, stop: CancellationToken) {
    let mut connection = Connection::open(relay).await;
    let start = tokio::time::Instant::now() + EVERY * u32::try_from(client).expect("few clients") / CLIENTS as u32;
    let mut ticks = tokio::time::interval_at(start, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_usize.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let begun = Instant::now();
        let (status, headers) = if (client + number).is_multiple_of(LEFT) {
            let answer = Connection::open(relay).await.send(&endless()).await.expect("a head");
            (answer.status, answer.headers.clone())
        } else {
            let ask = if number.is_multiple_of(2) { Ask::openai("m") } else { Ask::openai("m").streamed() };
            let whole = connection.ask(&ask).await.expect("an answer");
            (whole.status, whole.headers)
        };
        let degraded = is_degraded(&headers);
        seen.lock().push(Seen { client, begun, took: begun.elapsed(), status, degraded });
    }
}

/// Whether an answer says that Redis did not decide its request.
pub(crate) fn is_degraded(headers: &HeaderMap) -> bool {
    headers.get("x-relay-limits").is_some_and(|value| value == "degraded")
}

/// Polls until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
