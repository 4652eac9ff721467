//! What shares promise, first against a plain model of Redis whose calls and answers the test delivers, loses and
//! repeats at will.

mod interleavings;
mod mirrors;
mod pace;
mod plain;
mod real;

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use table::{LimitMode, NanoUsd, ObjectRef, Period};
use tokio::sync::oneshot;

use self::{
    plain::{Plain, seen},
    real::Server,
};
use super::{Call, Shares, Short, World};
use crate::limit::{
    claims::{BudgetClaim, RateClaim, ScopeClaim},
    counter::{Charge, Now},
    redis::{keys::Keys, link::Missed},
    reservation::Used,
    rule::{Counted, Rule, Scope, Span},
    window::{Ceiling, Millis},
};

/// Noon of a quiet day, at which a bucket of a minute begins.
const NOON: Millis = 1_768_478_400_000;

/// Processes that share one plain Redis.
struct Fleet {
    redis: Arc<Mutex<Plain>>,
    /// A real one beside it, which has to answer the same.
    server: Option<Rc<Server>>,
    now: Arc<AtomicU64>,
    live: Arc<AtomicU32>,
    processes: Vec<Process>,
}

/// A process whose calls wait until the test delivers them.
struct Process {
    shares: Arc<Shares>,
    calls: Arc<Mutex<VecDeque<Waiting>>>,
    exchanges: Vec<BoxFuture<'static, Result<(), Missed>>>,
}

/// A call that was made and not answered yet.
struct Waiting {
    keys: Vec<String>,
    argument: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>, Missed>>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    NeverHeard,
    AnswerLost,
}

impl Fleet {
    fn of(processes: usize) -> Self {
        let (now, live) = (Arc::new(AtomicU64::new(NOON)), Arc::new(AtomicU32::new(1)));
        let processes = (0..processes).map(|number| Process::new(format!("p{number}"), &now, &live)).collect();
        Self { redis: Arc::default(), server: None, now, live, processes }
    }

    fn shares(&self, process: usize) -> &Shares {
        &self.processes[process].shares
    }

    /// Redis loses its data.
    fn lose(&self) {
        *self.redis.lock() = Plain::default();
        if let Some(server) = &self.server {
            server.clear();
        }
    }

    fn advance(&self, by: Millis) {
        self.now.fetch_add(by, Ordering::Relaxed);
    }

    /// Begins an exchange.
    fn begin(&mut self, process: usize) {
        let Process { shares, exchanges, .. } = &mut self.processes[process];
        let shares = shares.clone();
        let mut exchange = async move { shares.refresh("catalog").await }.boxed();
        if poll(&mut exchange).is_none() {
            exchanges.push(exchange);
        }
    }

    /// Decides the oldest call of a process. Returns whether there was one.
    fn deliver(&mut self, process: usize, fate: Fate) -> bool {
        let Process { calls, exchanges, .. } = &mut self.processes[process];
        let Some(Waiting { keys, argument, answer }) = calls.lock().pop_front() else { return false };
        let now = self.now.load(Ordering::Relaxed);
        let call = || {
            let reply = self.redis.lock().call(&keys, &argument, now);
            if let Some(server) = &self.server {
                assert_eq!(seen(&server.call(&keys, &argument, now)), seen(&reply));
            }
            reply
        };
        let reply = match fate {
            Fate::Answered => Ok(call()),
            Fate::NeverHeard => Err(Missed::Down),
            Fate::AnswerLost => {
                call();
                Err(Missed::Down)
            }
        };
        // Whoever waited may have gone.
        let _ = answer.send(reply);
        exchanges.retain_mut(|exchange| poll(exchange).is_none());
        true
    }

    /// An exchange from begin to end.
    fn exchange(&mut self, process: usize) {
        self.begin(process);
        while self.deliver(process, Fate::Answered) {}
        assert!(self.processes[process].exchanges.is_empty(), "every exchange has ended");
    }

    /// Lets a process in, asking as often as it has to.
    fn admit(&mut self, process: usize, claim: &[ScopeClaim]) -> Option<Vec<Charge>> {
        loop {
            match self.shares(process).admit(claim) {
                Ok(charges) => return Some(charges),
                Err(Short::Refused(_)) => return None,
                Err(Short::Stale(domains)) => assert_eq!(domains, ["catalog"]),
            }
            self.exchange(process);
        }
    }

    fn used(&self, process: usize, claim: &[ScopeClaim]) -> Vec<(Rule, u64)> {
        let usage = self.shares(process).usage(claim);
        usage.into_iter().map(|usage| (usage.rule.rule, usage.used)).collect()
    }
}

impl Process {
    fn new(name: String, now: &Arc<AtomicU64>, live: &Arc<AtomicU32>) -> Self {
        let calls: Arc<Mutex<VecDeque<Waiting>>> = Arc::default();
        let (live, queue) = (live.clone(), calls.clone());
        let call: Call = Box::new(move |_, keys, argument| {
            let (answer, reply) = oneshot::channel();
            queue.lock().push_back(Waiting { keys, argument, answer });
            reply.map(|reply| reply.unwrap_or(Err(Missed::Down))).boxed()
        });
        let live = Box::new(move || live.load(Ordering::Relaxed));
        let shares = Shares::new(World { live, ..world(name, now.clone(), call) });
        Self { shares: Arc::new(shares), calls, exchanges: Vec::new() }
    }
}

/// A world of one process, where no breakers are watched.
fn world(process: String, now: Arc<AtomicU64>, call: Call) -> World {
    World {
        keys: Keys::new("relay"),
        process,
        now: Box::new(move || at(now.load(Ordering::Relaxed))),
        told: Box::new(|_| ()),
        live: Box::new(|| 1),
        call,
        fleet: None,
    }
}

fn poll<T>(future: &mut BoxFuture<'static, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn at(millis: Millis) -> Now {
    let wall = Timestamp::from_millisecond(i64::try_from(millis).expect("a test is not that late"));
    Now { mono: millis, wall: wall.expect("a test is not that late") }
}

fn host_key(name: &str) -> ScopeClaim {
    let mut claim = ScopeClaim::new(Arc::new(Scope::HostKey(ObjectRef::new("catalog", name))));
    claim.mode = LimitMode::Leased;
    claim
}

impl ScopeClaim {
    fn with_tokens(mut self, limit: u64, amount: u64) -> Self {
        let (counted, span, ceiling) = (Counted::Tokens, Span::Minute, Ceiling::flat(limit));
        self.rates.push(RateClaim { counted, span, ceiling, amount });
        self
    }

    fn with_slots(mut self, limit: u64) -> Self {
        self.concurrency = Some(limit);
        self
    }

    fn with_budget(mut self, period: Period, limit: u64, amount: u64) -> Self {
        let (limit, amount, timezone) = (NanoUsd(limit), NanoUsd(amount), "UTC".into());
        self.budgets.push(BudgetClaim { period, timezone, limit, amount, blocks: true, alert_at_percent: [].into() });
        self
    }
}

fn used(tokens: u64, cost: u64) -> Used {
    Used { input_tokens: tokens, output_tokens: 0, cost: NanoUsd(cost) }
}
