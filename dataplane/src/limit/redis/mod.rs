//! The limiter of many processes: counters in Redis, decided by one script call for each request.
//!
//! Decides nothing of what fits: that is in the scripts and in `limit::counter`. Knows who has to be asked: Redis, the
//! shares of counters that live elsewhere, or, while Redis is gone, this process alone.

mod batches;
mod births;
pub mod clock;
pub mod degraded;
mod deny;
mod exchange;
pub mod fleet;
pub mod health;
pub mod keys;
pub mod learned;
mod ledger;
pub mod link;
mod pack;
mod phrases;
pub mod pods;
mod reserve;
pub mod script;
pub mod seed;
mod shares;
pub mod spends;
pub mod spent;
pub mod store;
mod told;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use table::LimitMode;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use self::{
    batches::{Batches, Parts, lease},
    births::Births,
    clock::RedisClock,
    degraded::Degraded,
    deny::Denials,
    fleet::{Fleet, probes::Probes},
    health::Units,
    keys::Keys,
    learned::Learned,
    ledger::Reservations,
    link::{Link, Missed},
    phrases::Phrases,
    pods::Pods,
    script::{Scripts, Time},
    seed::Seeder,
    shares::{Shares, World},
    spends::Spends,
    spent::Spent,
    store::{Store, target::Target},
    wire::{Asking, Call, status},
};
use super::{
    LimitError, Limiter, RuleUsage,
    claims::{Claims, ScopeClaim},
    reservation::{Reservation, ReservationId},
};
use crate::{heal::peers::Peers, meter::Books, pool::signals::Signals};

/// How often the leases of open reservations are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Counts in Redis, together with all processes that use it. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    keys: Keys,
    phrases: Arc<Phrases>,
    scripts: Scripts,
    link: Arc<Link>,
    clock: Arc<RedisClock>,
    births: Arc<Births>,
    denials: Denials,
    degraded: Degraded,
    ledger: Arc<Reservations>,
    fleet: Arc<Fleet>,
    pods: Arc<Pods>,
    learned: Arc<Learned>,
    spent: Arc<Spent>,
    process: Arc<str>,
    next: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// How the counters are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the names of everything begin with, so that deployments can share a server.
    pub prefix: String,
    /// Where scripts have their time from.
    pub time: Time,
    /// Where usage records are written, if to a file: what was settled is kept beside it.
    pub records: Option<PathBuf>,
}

impl Redis {
    /// Counts at `target`: connects, which takes a few hundred milliseconds at most, and waits in the background for what
    /// is not there. `signals` are those that requests and probes use. Its tasks run in the current runtime until
    /// [`Limiter::close`]. Errs when the target is not whole.
    pub async fn start(
        target: Target,
        settings: &Settings,
        books: &Books,
        signals: Arc<Signals>,
    ) -> anyhow::Result<Self> {
        let inner = Inner::new(target, settings, books, signals)?;
        inner.link.connect().await;
        let (link, ledger, pods) = (inner.link.clone(), inner.ledger.clone(), inner.pods.clone());
        let (stop, shares) = (&inner.stop, ledger.shares.clone());
        let tasks = &inner.tasks;
        tasks.spawn(stop.clone().run_until_cancelled_owned(renew(ledger.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(spend(link.clone(), ledger)));
        tasks.spawn(shares.run(stop.clone()));
        tasks.spawn(inner.spent.clone().keep(inner.clock.clone(), stop.clone()));
        tasks.spawn(inner.births.clone().give_back(stop.clone()));
        tasks.spawn(inner.learned.clone().run(stop.clone()));
        let (beat, watch) = (stop.clone(), stop.clone());
        tasks.spawn(async move { pods.run(beat).await });
        tasks.spawn(async move { link.watch(watch).await });
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What healing asks of the other processes.
    pub fn peers(&self) -> Peers {
        let Inner { fleet, link, keys, process, .. } = &*self.inner;
        Probes::new(fleet.clone(), link.store().clone(), keys.clone(), process.clone()).peers()
    }

    /// Open reservations of this process that Redis or its shares hold.
    pub fn live(&self) -> usize {
        self.inner.ledger.len()
    }
}

/// Says of open reservations that their holders live.
async fn renew(ledger: Arc<Reservations>) {
    let mut ticks = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        ledger.renew_for(lease());
    }
}

/// Tells Redis, when it is back, what was used without it.
async fn spend(link: Arc<Link>, ledger: Arc<Reservations>) {
    let mut returns = link.returns();
    loop {
        tokio::select! {
            changed = returns.changed() => if changed.is_err() { return },
            () = ledger.batches.parts.spends.added() => {}
        }
        ledger.batches.push_spends();
    }
}

impl Limiter for Redis {
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>> {
        reserve::reserve(&self.inner, claims).boxed()
    }

    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>> {
        async move {
            match self.inner.usage(&scopes).await {
                Ok(usage) => Ok(usage),
                Err(_) => self.inner.degraded.usage(scopes).await,
            }
        }
        .boxed()
    }

    fn close(&self, within: Duration) -> BoxFuture<'_, ()> {
        async move {
            // The last fifth is for what the tasks do at their end: sums that outlive the process are written there.
            if timeout(within.mul_f32(0.8), self.inner.settled()).await.is_err() {
                warn!("not everything was settled in Redis: what is missing ends with its leases");
            }
            self.inner.stop.cancel();
            self.inner.tasks.close();
            if timeout(within.mul_f32(0.2), self.inner.tasks.wait()).await.is_err() {
                warn!("what was settled may not have been written down: the disk or Redis did not answer");
            }
        }
        .boxed()
    }
}

impl Inner {
    fn new(target: Target, settings: &Settings, books: &Books, signals: Arc<Signals>) -> anyhow::Result<Self> {
        let (keys, scripts) = (Keys::new(&settings.prefix), Scripts::new(&settings.time));
        let phrases = Arc::new(Phrases::new(keys.clone()));
        let (units, metrics) = (Units::of(&target.mode), &books.metrics);
        let others = [pods::script(&settings.time), link::trial()];
        let store = Store::new(target, scripts.all().into_iter().chain(others).collect())?;
        let link = Arc::new(Link::new(store, units, keys.clone(), metrics.clone()));
        let process: Arc<str> = hex::encode(rand::random::<[u8; 6]>()).into();
        let clock = Arc::new(RedisClock::new());
        let fleet = Arc::new(Fleet::new(signals, clock.clone()));
        let pods = Arc::new(Pods::new(link.clone(), &keys, &settings.time, process.clone()));
        let (spends, spent) = (Arc::new(Spends::default()), Arc::new(Spent::open(settings.records.as_deref())));
        let seeder = Seeder::new(link.clone(), keys.clone(), scripts.seed.clone(), spent.clone());
        let births = Arc::new(Births::new(seeder));
        let learned = Arc::new(Learned::new(link.clone(), keys.clone(), &scripts, books.estimator.clone()));
        let parts = Parts {
            link: link.clone(),
            phrases: phrases.clone(),
            settle: scripts.settle.clone(),
            process: process.clone(),
            clock: clock.clone(),
            births: births.clone(),
            spends: spends.clone(),
            spent: spent.clone(),
            metrics: metrics.clone(),
        };
        let shares = Arc::new(Shares::new(world(&keys, &process, &clock, &link, &scripts, &fleet, &pods)));
        let batches = Arc::new(Batches::new(parts));
        let ledger = Arc::new(Reservations::new(batches, shares, clock.clone(), phrases.clone()));
        let live = pods.clone();
        let degraded = Degraded::new(clock.clone(), Arc::new(move || live.live()), spends, metrics.clone());
        let (denials, next) = (Denials::default(), AtomicU64::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Ok(Self {
            keys,
            phrases,
            scripts,
            link,
            clock,
            births,
            denials,
            degraded,
            ledger,
            fleet,
            pods,
            learned,
            spent,
            process,
            next,
            stop,
            tasks,
        })
    }

    /// The next reservation's id, here and in Redis.
    fn next_id(&self) -> (ReservationId, Arc<str>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (ReservationId(number.into()), format!("{}-{number:x}", self.process).into())
    }

    /// Waits until everything that was posted has taken effect.
    async fn settled(&self) {
        self.ledger.batches.push_spends();
        self.ledger.batches.sent().await;
        self.ledger.shares.tell().await;
    }

    async fn usage(&self, scopes: &[ScopeClaim]) -> Result<Vec<RuleUsage>, Missed> {
        let mut usage = Vec::with_capacity(scopes.len());
        for claim in scopes {
            match claim.mode {
                LimitMode::Exact => usage.extend(self.look(claim).await?),
                LimitMode::Leased => usage.extend(self.ledger.shares.fresh_usage(slice::from_ref(claim)).await?),
            }
        }
        Ok(usage)
    }

    /// How a scope stands in Redis.
    async fn look(&self, claim: &ScopeClaim) -> Result<Vec<RuleUsage>, Missed> {
        let domain = claim.scope.domain();
        for _ in 0..2 {
            let mut call = Call::new(&self.phrases, domain);
            call.scope(&self.phrases, claim, self.clock.now());
            let asking = Asking { peek: true, lease: lease(), process: &self.process, ..Asking::default() };
            let answer = reserve::said(self, domain, &call, &asking).await?;
            if let (status::GRANTED, Some(state)) = (answer.status, answer.scopes.first()) {
                return Ok(state.counter(claim, false).usage(claim, clock::at(answer.now)));
            }
        }
        Err(Missed::Unreadable)
    }
}

/// What shares need of the rest.
fn world(
    keys: &Keys,
    process: &Arc<str>,
    clock: &Arc<RedisClock>,
    link: &Arc<Link>,
    scripts: &Scripts,
    fleet: &Arc<Fleet>,
    pods: &Arc<Pods>,
) -> World {
    let (now, told, live) = (clock.clone(), clock.clone(), pods.clone());
    World {
        keys: keys.clone(),
        process: process.to_string(),
        now: Box::new(move || now.now()),
        told: Box::new(move |millis| told.heard(millis)),
        live: Box::new(move || live.live()),
        call: shares::by(link.clone(), scripts.exchange.clone()),
        fleet: Some(fleet.clone()),
    }
}
