//! Load of two kinds: as many requests as so many connections can have answered, and requests at fixed times, whose answers
//! are timed from when they were due, so that a gateway that stalls is not asked less.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use crate::{
    client::{Connection, Seen},
    process::{Process, Used},
};

/// Connections of a closed loop.
pub const CONNECTIONS: usize = 64;

/// Answers that a connection is expected to see at most; more are seen too.
const ROOM: usize = 1 << 16;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// Where requests go, and what they are.
#[derive(Debug, Clone)]
pub struct Target {
    /// The gateway.
    pub address: SocketAddr,
    /// A request as it is sent.
    pub request: Arc<[u8]>,
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers while it was measured.
    pub answers: usize,
    /// Answers in all.
    pub asked: usize,
    /// Events of all answers.
    pub events: usize,
    /// How long was measured.
    pub took: Duration,
    /// What the gateway used meanwhile.
    pub used: Option<Used>,
    /// Microseconds from a request, or from when it was due, to the end of its answer; ascending.
    pub answered: Vec<u32>,
    /// The same to the first byte of the body; ascending.
    pub begun: Vec<u32>,
    /// The longest silence within an answer.
    pub silence: Duration,
}

impl Outcome {
    fn add(&mut self, since: Instant, seen: &Seen) {
        self.answers += 1;
        self.events += seen.events;
        self.answered.push(micros(seen.last - since));
        self.begun.push(micros(seen.first - since));
        self.silence = self.silence.max(seen.silence);
    }

    fn merge(&mut self, other: Self) {
        self.answers += other.answers;
        self.asked += other.asked;
        self.events += other.events;
        self.answered.extend(other.answered);
        self.begun.extend(other.begun);
        self.silence = self.silence.max(other.silence);
    }

    fn sorted(mut self) -> Self {
        self.answered.sort_unstable();
        self.begun.sort_unstable();
        self
    }
}

/// The value below which so large a part of ascending values is.
pub fn quantile(ascending: &[u32], part: f64) -> f64 {
    let at = (ascending.len() as f64 * part) as usize;
    ascending.get(at.min(ascending.len().saturating_sub(1))).copied().map_or(f64::NAN, f64::from)
}

/// Asks over all connections at once, each again as soon as it has its answer. What comes before `warm` is over is not
/// measured.
pub async fn closed(
    target: &Target,
    process: Option<&Process>,
    warm: Duration,
    measured: Duration,
) -> anyhow::Result<Outcome> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (target, phase) = (target.clone(), phase.clone());
        clients.spawn(async move { again_and_again(&target, &phase).await });
    }
    sleep(warm).await;
    let (before, began) = (process.map(Process::used).transpose()?, Instant::now());
    phase.store(MEASURING, Ordering::Relaxed);
    sleep(measured).await;
    phase.store(OVER, Ordering::Relaxed);
    let (took, after) = (began.elapsed(), process.map(Process::used).transpose()?);
    let mut outcome = Outcome { took, used: before.zip(after).map(|(one, two)| two.since(&one)), ..Outcome::default() };
    while let Some(client) = clients.join_next().await {
        outcome.merge(client.context("a client of the load failed")??);
    }
    Ok(outcome.sorted())
}

async fn again_and_again(target: &Target, phase: &AtomicU8) -> anyhow::Result<Outcome> {
    let mut connection = Connection::open(target.address).await?;
    let room = Vec::with_capacity(ROOM);
    let mut outcome = Outcome { answered: room.clone(), begun: room, ..Outcome::default() };
    loop {
        let since = Instant::now();
        let seen = connection.ask(&target.request).await?;
        outcome.asked += 1;
        match phase.load(Ordering::Relaxed) {
            WARMING => {}
            MEASURING => outcome.add(since, &seen),
            _ => return Ok(outcome),
        }
    }
}

/// Has so many requests answered over all connections.
pub async fn many(target: &Target, many: usize) -> anyhow::Result<()> {
    let left = Arc::new(AtomicUsize::new(many));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (target, left) = (target.clone(), left.clone());
        clients.spawn(async move {
            let mut connection = Connection::open(target.address).await?;
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                connection.ask(&target.request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client.context("a client of the load failed")??;
    }
    Ok(())
}

/// Asks so many times a second, whether or not there were answers, and sleeps never: a timer would be too late by more than
/// what is measured.
pub async fn at_rate(
    target: &Target,
    process: Option<&Process>,
    per_second: u32,
    measured: Duration,
) -> anyhow::Result<Outcome> {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let idle = Arc::new(Mutex::new(Vec::new()));
    let mut asked = JoinSet::new();
    let interval = Duration::from_secs(1) / per_second;
    let many = (measured.as_secs_f64() * f64::from(per_second)) as u32;
    let warm = per_second / 2;
    let (mut before, began) = (None, Instant::now());
    for n in 0..many + warm {
        let due = began + interval * n;
        if n == warm {
            before = process.map(Process::used).transpose()?;
        }
        while Instant::now() < due {
            yield_now().await;
        }
        let (target, idle, outcome) = (target.clone(), idle.clone(), outcome.clone());
        asked.spawn(async move {
            let free = idle.lock().expect(UNPOISONED).pop();
            let mut connection = match free {
                Some(connection) => connection,
                None => Connection::open(target.address).await?,
            };
            let seen = connection.ask(&target.request).await?;
            if n >= warm {
                outcome.lock().expect(UNPOISONED).add(due, &seen);
            }
            idle.lock().expect(UNPOISONED).push(connection);
            anyhow::Ok(())
        });
        while let Some(ended) = asked.try_join_next() {
            ended.context("a client of the load failed")??;
        }
    }
    while !asked.is_empty() {
        match asked.try_join_next() {
            Some(ended) => ended.context("a client of the load failed")??,
            None => yield_now().await,
        }
    }
    let (took, after) = (began.elapsed() - interval * warm, process.map(Process::used).transpose()?);
    let mut outcome = std::mem::take(&mut *outcome.lock().expect(UNPOISONED));
    outcome.took = took;
    outcome.used = before.zip(after).map(|(one, two)| two.since(&one));
    Ok(outcome.sorted())
}

const UNPOISONED: &str = "nobody panics while holding it";

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answers::EVENTS, requests, upstream::Upstream};

    async fn target(streamed: bool) -> Target {
        let upstream = Upstream::start().await.unwrap();
        Target { address: upstream.address, request: requests::openai("t", streamed).into() }
    }

    #[tokio::test]
    async fn a_closed_loop_counts_what_was_answered_while_it_was_measured() {
        // Long enough for some answers on a busy machine.
        let (warm, measured) = (Duration::from_millis(100), Duration::from_secs(2));
        let outcome = closed(&target(true).await, None, warm, measured).await.unwrap();
        assert!(outcome.answers > 0 && outcome.events == outcome.answers * EVENTS, "{outcome:?}");
        assert!(outcome.answered.len() == outcome.answers && outcome.answered.is_sorted());
    }

    #[tokio::test]
    async fn a_fixed_rate_asks_as_often_as_is_told() {
        let outcome = at_rate(&target(false).await, None, 200, Duration::from_millis(250)).await.unwrap();
        assert_eq!(outcome.answers, 50);
        assert!(quantile(&outcome.answered, 0.5) <= quantile(&outcome.answered, 0.99));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[7], 0.99)), (51.0, 100.0, 7.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
