//! When mirrors are exchanged: on demand, and every 250 ms in the background.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{join_all, pending},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::{select, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Shares, World, domain::Ask};
use crate::limit::{
    LEASE,
    redis::{
        exchange::{Answer, argument, keys},
        link::Missed,
    },
    window::Millis,
};

/// How often domains in use are exchanged at least.
const EVERY: Duration = Duration::from_millis(250);

/// How often it is looked whether domains that nobody uses have to be exchanged.
const IDLE: Duration = Duration::from_millis(1_000);

/// How soon after an exchange the next may begin that is begun early.
const SOONEST: Duration = Duration::from_millis(20);

/// How long a domain counts as in use.
const IN_USE: Duration = Duration::from_secs(2);

/// A domain's exchanges: one at a time.
#[derive(Debug, Default)]
pub(super) struct Line {
    gate: tokio::sync::Mutex<()>,
    /// How many exchanges there were, and how the last one went.
    last: Mutex<(u64, Option<Missed>)>,
}

/// When a domain is exchanged in the background.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    soonest: Instant,
    worked: Instant,
    busy: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self { next: now + EVERY, soonest: now, worked: now, busy: false }
    }
}

impl Pace {
    /// The next exchange should begin as soon as it may.
    pub(super) fn hurry(&mut self, bell: &Notify) {
        if self.next > self.soonest {
            self.next = self.soonest;
            bell.notify_one();
        }
    }

    /// An exchange is over. `worked`: it had something to do; `heard`: it was answered.
    fn over(&mut self, worked: bool, heard: bool, now: Instant) {
        if worked {
            self.worked = now;
        }
        let every = if now.duration_since(self.worked) < IN_USE { EVERY } else { IDLE };
        // Not all processes at the same time, and never later than promised.
        self.next = now + every.mul_f64(rand::rng().random_range(0.8..=1.0));
        self.soonest = if heard { now + SOONEST } else { self.next };
    }
}

impl Shares {
    /// One exchange of a domain, now. Callers who come while one is on its way share it.
    pub(in super::super) async fn refresh(&self, domain: &str) -> Result<(), Missed> {
        let line = self.state.lock().entry(domain).line.clone();
        let before = line.last.lock().0;
        let gate = line.gate.lock().await;
        let (count, outcome) = line.last.lock().clone();
        if count != before {
            return outcome.map_or(Ok(()), Err);
        }
        let outcome = self.exchange(domain).await;
        *line.last.lock() = (count + 1, outcome.clone().err());
        drop(gate);
        outcome
    }

    /// One exchange of every domain, now.
    pub(in super::super) async fn tell(&self) {
        let domains: Vec<_> = self.state.lock().domains.keys().cloned().collect();
        join_all(domains.iter().map(|domain| self.refresh(domain))).await;
    }

    /// Exchanges every domain in the background. Ends after a last exchange when it is told to stop: that tells what
    /// was not told yet.
    pub(in super::super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut exchanges = FuturesUnordered::new();
        loop {
            let (begin, next) = self.due(Instant::now());
            exchanges.extend(begin.into_iter().map(|domain| self.clone().background(domain)));
            select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = exchanges.next() => {}
                () = self.hurry.notified() => {}
                () = self.turned() => self.hurry_watched(),
                () = tokio::time::sleep_until(next) => {}
            }
        }
        drop(exchanges);
        self.tell().await;
    }

    /// The domains that are to be exchanged now, and when to look again.
    fn due(&self, now: Instant) -> (Vec<String>, Instant) {
        let watched = self.watched();
        let moment = (self.world.now)();
        let mut state = self.state.lock();
        for domain in &watched {
            state.entry(domain);
        }
        let (mut begin, mut again) = (Vec::new(), now + EVERY);
        state.domains.retain(|name, entry| {
            let pace = &mut entry.pace;
            if pace.busy {
                return true;
            }
            if pace.next <= now {
                let is_watched = watched.contains(name);
                if !entry.domain.prune(moment) && !is_watched {
                    // Somebody may be in its line still.
                    return Arc::strong_count(&entry.line) > 1;
                }
                if is_watched || entry.domain.is_due(moment) {
                    pace.busy = true;
                    begin.push(name.clone());
                } else {
                    pace.over(false, true, now);
                }
            }
            again = again.min(pace.next);
            true
        });
        (begin, again.max(now + Duration::from_millis(1)))
    }

    /// The domains whose breakers are watched, whether anything is counted there or not.
    fn watched(&self) -> Vec<String> {
        self.world.fleet.as_ref().map(|fleet| fleet.domains()).unwrap_or_default()
    }

    /// Resolves when this process has found something of a breaker.
    async fn turned(&self) {
        match &self.world.fleet {
            Some(fleet) => fleet.turned().await,
            None => pending().await,
        }
    }

    fn hurry_watched(&self) {
        let mut state = self.state.lock();
        for domain in self.watched() {
            state.entry(&domain).pace.hurry(&self.hurry);
        }
    }

    async fn background(self: Arc<Self>, domain: String) {
        // Who calls Redis says why it did not answer, and what was not told is told next time.
        let _ = self.refresh(&domain).await;
        if let Some(entry) = self.state.lock().domains.get_mut(&domain) {
            entry.pace.busy = false;
        }
    }

    /// Tells everything there is to tell of a domain, in as many calls as that takes.
    async fn exchange(&self, domain: &str) -> Result<(), Missed> {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        let mut calls = 0;
        let outcome = loop {
            let ask = self.state.lock().entry(domain).domain.ask(round, || self.next_batch(), (self.world.now)());
            let Some(ask) = ask.or_else(|| self.ask_for_news(domain, calls)) else { break Ok(()) };
            calls += 1;
            let answer = self.call(domain, &ask).await;
            let mut state = self.state.lock();
            let mirrors = &mut state.entry(domain).domain;
            match answer {
                Ok(Answer { born, totals, .. }) => mirrors.heard(&ask, born, &totals, (self.world.now)()),
                Err(missed) => {
                    mirrors.missed(&ask);
                    break Err(missed);
                }
            }
        };
        self.state.lock().entry(domain).pace.over(calls > 0, outcome.is_ok(), Instant::now());
        outcome
    }

    /// A call about no counters at all, where breakers are watched and no other call brings news of them.
    fn ask_for_news(&self, domain: &str, calls: u32) -> Option<Arc<Ask>> {
        (calls == 0 && self.watched().iter().any(|watched| watched == domain)).then(Arc::default)
    }

    async fn call(&self, domain: &str, ask: &Ask) -> Result<Answer, Missed> {
        let World { process, fleet, .. } = &self.world;
        let news = fleet.as_ref().map(|fleet| fleet.outgoing(domain)).unwrap_or_default();
        let scopes = ask.rows.iter().map(|(scope, _)| &**scope);
        let names = keys(&self.world.keys, domain, process, scopes);
        let rows: Vec<_> = ask.rows.iter().map(|(_, row)| row).collect();
        let born = self.state.lock().entry(domain).domain.born().to_owned();
        // No two calls write the same: a beginning says that what was there before is gone.
        let fresh = format!("{process}-{}", self.round.fetch_add(1, Ordering::Relaxed));
        let argument = argument(process, ask.batch, lease(), &rows, &news, (&born, &fresh));
        let answer = (self.world.call)(domain, names, argument).await?;
        let answer = Answer::read(&answer, rows.len(), &born).map_err(|error| {
            warn!(domain, %error, "the answer to an exchange of counters cannot be read: {error}");
            Missed::Unreadable
        })?;
        (self.world.told)(answer.now);
        if let Some(fleet) = fleet {
            fleet.incoming(domain, &answer.news);
        }
        Ok(answer)
    }
}

fn lease() -> Millis {
    u64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds")
}
