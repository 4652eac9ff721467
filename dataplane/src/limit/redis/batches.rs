//! What became of reservations, on its way to Redis: queued by domain, sent in batches, each until it is answered.
//!
//! Nobody waits for it. A batch has a number, so that one whose answer was lost can be sent again.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use futures::future::FutureExt;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::{
    births::Births,
    clock::RedisClock,
    ledger::Dated,
    link::Link,
    phrases::Phrases,
    script::Script,
    spends::{Spend, Spends},
    spent::Spent,
    wire::{self, Added, AddedBudget, AddedRate, Entry, Settled},
};
use crate::{
    limit::{
        LEASE,
        claims::ScopeClaim,
        counter::Outcome,
        rule::{Rule, Span},
        window::Millis,
    },
    metrics::Metrics,
};

/// How long the first entry of a batch waits for others.
pub(super) const GATHER: Duration = Duration::from_millis(5);
/// So many do not wait.
pub(super) const FULL: usize = 64;
/// The most that one call carries: it keeps Redis busy for a few milliseconds.
const MOST: usize = 256;
/// Entries of a domain that wait at most while Redis is away. Beyond, the oldest are dropped: what they held ends by
/// itself after [`LEASE`], and money stays charged as it was reserved.
const MOST_WAITING: usize = 200_000;
/// How long a batch that Redis does not take waits for the next try.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a batch is tried that Redis refuses although it takes others.
const MOST_TRIES: u32 = 20;

/// An entry, and the reservation that it ends.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) entry: Entry,
    pub(super) ended: Option<Box<Ended>>,
}

/// A reservation that has ended: what was claimed, and what became of it.
#[derive(Debug)]
pub(super) struct Ended {
    /// When the data began in which it was made.
    pub(super) born: Arc<str>,
    /// When it was made.
    pub(super) at: Millis,
    /// The earliest time at which its lease was written or renewed.
    pub(super) earliest: Millis,
    pub(super) scopes: Vec<ScopeClaim>,
    pub(super) budgets: Vec<Dated>,
    pub(super) outcome: Outcome,
}

impl From<Entry> for Posted {
    fn from(entry: Entry) -> Self {
        Self { entry, ended: None }
    }
}

/// The queues of all domains.
pub(super) struct Batches {
    pub(super) parts: Parts,
    domains: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    tasks: TaskTracker,
    runtime: Handle,
}

/// What sending needs.
pub(super) struct Parts {
    pub(super) link: Arc<Link>,
    pub(super) phrases: Arc<Phrases>,
    pub(super) settle: Script,
    pub(super) process: Arc<str>,
    pub(super) clock: Arc<RedisClock>,
    pub(super) births: Arc<Births>,
    pub(super) spends: Arc<Spends>,
    pub(super) spent: Arc<Spent>,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Notify,
    idle: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Posted>,
    is_running: bool,
    number: u64,
}

impl Queue {
    /// Waits for others to come, but not long.
    async fn gathered(&self) {
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = self.filled.notified() => {}
        }
    }

    /// Whether something waits that may wait for more.
    fn is_filling(&self) -> bool {
        (1..FULL).contains(&self.state.lock().waiting.len())
    }
}

impl Batches {
    /// Queues that are sent by tasks of the current runtime.
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, domains: Mutex::default(), tasks: TaskTracker::new(), runtime: Handle::current() }
    }

    /// Queues an entry.
    pub(super) fn push(self: &Arc<Self>, domain: &Arc<str>, posted: impl Into<Posted>) {
        let queue = self.queue(domain);
        let mut state = queue.state.lock();
        if state.waiting.len() >= MOST_WAITING {
            state.waiting.drain(..MOST_WAITING / 10);
            error!(domain = &**domain, "settlements of namespace `{domain}` are dropped: Redis does not take them");
        }
        state.waiting.push(posted.into());
        if state.waiting.len() == FULL {
            queue.filled.notify_one();
        }
        self.wake(domain, &queue, &mut state);
    }

    /// Sends what was spent without Redis, in every domain that has something.
    pub(super) fn push_spends(self: &Arc<Self>) {
        for domain in self.parts.spends.domains() {
            let domain = Arc::from(domain);
            let queue = self.queue(&domain);
            self.wake(&domain, &queue, &mut queue.state.lock());
        }
    }

    /// Waits until everything was sent, without gathering any more.
    pub(super) async fn sent(&self) {
        let queues: Vec<_> = self.domains.lock().values().cloned().collect();
        for queue in queues {
            loop {
                let idle = queue.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if !queue.state.lock().is_running {
                    break;
                }
                queue.filled.notify_one();
                idle.await;
            }
        }
    }

    fn queue(&self, domain: &Arc<str>) -> Arc<Queue> {
        self.domains.lock().entry(domain.clone()).or_default().clone()
    }

    fn wake(self: &Arc<Self>, domain: &Arc<str>, queue: &Arc<Queue>, state: &mut State) {
        if !mem::replace(&mut state.is_running, true) {
            let (batches, domain, queue) = (self.clone(), domain.clone(), queue.clone());
            self.tasks.spawn_on(async move { batches.empty(&domain, &queue).await }, &self.runtime);
        }
    }

    /// Sends until nothing is left.
    async fn empty(self: &Arc<Self>, domain: &Arc<str>, queue: &Queue) {
        queue.gathered().await;
        loop {
            let spends = self.parts.spends.take(domain, MOST);
            let (batch, number) = {
                let mut state = queue.state.lock();
                if state.waiting.is_empty() && spends.is_empty() {
                    state.is_running = false;
                    queue.idle.notify_waiters();
                    return;
                }
                let most = state.waiting.len().min(MOST);
                let batch: Vec<_> = state.waiting.drain(..most).collect();
                // What was full is on its way: the next batch gathers anew.
                let _ = queue.filled.notified().now_or_never();
                state.number += 1;
                (batch, state.number)
            };
            let (mut entries, mut ended) = (Vec::with_capacity(batch.len() + 1), Vec::new());
            for Posted { entry, ended: one } in batch {
                if let (Entry::Settle { id, .. } | Entry::Release { id, .. }, Some(one)) = (&entry, one) {
                    ended.push((id.clone(), one));
                }
                entries.push(entry);
            }
            if !spends.is_empty() {
                entries.push(Entry::Spend { scopes: spends.iter().map(|spend| self.added(spend)).collect() });
            }
            if let Some((settled, heard)) = self.send(domain, number, &entries).await {
                self.register(domain, &settled, heard.as_ref()).await;
                self.book(domain, &settled, ended, &spends);
            }
            // Those that came meanwhile wait for others too, or there would be a batch each round trip.
            if queue.is_filling() {
                queue.gathered().await;
            }
        }
    }

    /// Sends one batch until it is taken; also gives the birth that was known before. `None`: nobody knows whether it was.
    async fn send(&self, domain: &Arc<str>, number: u64, entries: &[Entry]) -> Option<(Settled, Option<Arc<str>>)> {
        let Parts { link, phrases, settle, process, clock, births, metrics, .. } = &self.parts;
        let keys = wire::batch_keys(&phrases.keys, domain, process);
        let argument = wire::batch(number, lease(), &clock.fresh_birth(process), entries);
        let mut tries = 0;
        loop {
            let heard = births.heard(domain);
            match link.call(domain, settle, &keys, &argument).await {
                Ok(bytes) => {
                    metrics.redis_settlements.inc_by(entries.len() as u64);
                    metrics.redis_batches.inc();
                    let settled = wire::decoded::<Settled>(&bytes);
                    let settled =
                        settled.inspect_err(|reason| error!(%reason, "an answer of Redis cannot be read")).ok()?;
                    clock.heard(settled.now);
                    return Some((settled, heard));
                }
                Err(missed) => {
                    debug!(domain = &**domain, %missed, "settlements wait for Redis");
                    tries += u32::from(link.is_up(domain));
                    if tries > MOST_TRIES {
                        error!(domain = &**domain, %missed, "settlements of namespace `{domain}` are dropped: {missed}");
                        return None;
                    }
                    tokio::time::sleep(AGAIN).await;
                    link.up(domain).await;
                }
            }
        }
    }

    /// Makes sure, before anything is written down, that what is now in the counters is not given back to them.
    async fn register(&self, domain: &str, settled: &Settled, heard: Option<&Arc<str>>) {
        let Parts { births, link, .. } = &self.parts;
        while births.register(domain, &settled.born, heard).await.is_err() {
            link.up(domain).await;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Writes down what was settled, for the day when Redis loses its data. What reservations used that were lost, with
    /// all data or because a new master never had them, is spent anew; what they used that expired although they went on,
    /// because Redis was away for so long, is put right.
    pub(super) fn book(
        self: &Arc<Self>,
        domain: &Arc<str>,
        settled: &Settled,
        ended: Vec<(Arc<str>, Box<Ended>)>,
        spends: &[Spend],
    ) {
        let Parts { spends: later, clock, spent, .. } = &self.parts;
        for (id, one) in ended {
            let is_unknown = settled.unknown.iter().any(|unknown| **unknown == *id);
            let has_expired = *one.born == *settled.born && settled.now >= one.earliest + lease();
            let is_lost = is_unknown && !has_expired;
            if is_lost || !spent.settled(&one.budgets, &one.scopes, one.outcome, &settled.born) {
                for claim in &one.scopes {
                    later.add(claim, one.outcome, clock.now());
                }
            } else if is_unknown {
                self.push(domain, Entry::Spend { scopes: self.amended(&one) });
            }
        }
        for spend in spends {
            if !spent.spent(spend, &settled.born) {
                later.put_back(spend);
            }
        }
    }

    fn added(&self, spend: &Spend) -> Added {
        let rates = spend.rates.iter().map(|rate| {
            let name = Rule::Rate { counted: rate.counted, span: rate.span }.as_str();
            AddedRate(name, length(rate.span), rate.at_ms, rate.amount)
        });
        let budgets = spend.budgets.iter().map(|budget| {
            let at = u64::try_from(budget.at_ms).unwrap_or_default();
            let bounds = wire::periods(budget.period, &budget.timezone, self.parts.clock.now().wall).into();
            AddedBudget(Rule::Budget(budget.period).as_str(), at, amount(budget.amount), bounds)
        });
        Added(self.parts.phrases.names(&spend.scope).counters, rates.collect(), budgets.collect())
    }

    /// What is missing of a reservation that has expired: its windows were given back, its money stayed as reserved.
    fn amended(&self, ended: &Ended) -> Vec<Added> {
        let scope = |claim: &ScopeClaim| {
            let rates = claim
                .rates
                .iter()
                .map(|rate| AddedRate(rate.rule().as_str(), length(rate.span), ended.at, ended.outcome.counts(rate)));
            let budgets = claim.budgets.iter().map(|budget| {
                let bounds = self.parts.phrases.periods(budget.period, &budget.timezone, self.parts.clock.now().wall);
                let missing = amount(ended.outcome.spends(budget.amount.0)) - amount(budget.amount.0);
                AddedBudget(budget.rule().as_str(), ended.at, missing, bounds)
            });
            Added(self.parts.phrases.names(&claim.scope).counters, rates.collect(), budgets.collect())
        };
        ended.scopes.iter().map(scope).collect()
    }
}

pub(super) fn lease() -> Millis {
    u64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds")
}

fn amount(nano_usd: u64) -> i64 {
    i64::try_from(nano_usd).unwrap_or(i64::MAX)
}

fn length(span: Span) -> Millis {
    u64::try_from(span.length().as_millis()).expect("a day has few milliseconds")
}
