//! The way by which the limiter calls Redis: does not ask what is known to be down, measures, and reports every miss.
//!
//! The [`Store`] bounds the time of a call. [`Link::watch`] tries what is down until it is back, for ever.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    health::{Change, Health, Units},
    keys::{FLEET, Keys},
    script::Script,
    store::{Store, error::StoreError, target::Mode},
};
use crate::metrics::Metrics;

/// How often what is down is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Domains that are tried at once.
const MOST_TRIALS: usize = 1_000;

/// Beyond this many units that are down, single ones are no longer told of in the log.
const MOST_TOLD: usize = 10;

/// How often it is said at most that a script was refused.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Writes, so that a server that answers but takes no writes is not thought to be back.
const TRIAL: &str = "redis.call('SET', KEYS[1], '', 'PX', 1000) return ''";

/// The way to Redis.
pub struct Link {
    store: Store,
    keys: Keys,
    metrics: Arc<Metrics>,
    health: RwLock<Health>,
    trial: Script,
    /// A unit went down.
    fell: Notify,
    /// How often a unit came back.
    returns: watch::Sender<u64>,
    /// When it was last said that a script was refused.
    told: Mutex<Option<Instant>>,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// It was not sent: this part of Redis is known to be down.
    #[error("redis is down")]
    Down,
    /// It was sent, or could not be.
    #[error(transparent)]
    Failed(#[from] StoreError),
    /// For those who read answers: what came is none.
    #[error("the answer of redis cannot be read")]
    Unreadable,
}

impl Missed {
    /// Whether Redis may have executed the call, or may yet do so.
    pub fn is_doubtful(&self) -> bool {
        match self {
            Missed::Failed(StoreError::Timeout | StoreError::Lost(_)) | Missed::Unreadable => true,
            Missed::Failed(StoreError::ReadOnly | StoreError::Busy(_) | StoreError::Refused(_)) | Missed::Down => false,
        }
    }
}

impl Units {
    /// What fails together in such a Redis.
    pub fn of(mode: &Mode) -> Self {
        match mode {
            Mode::Standalone | Mode::Sentinel { .. } => Units::One,
            Mode::Cluster => Units::EachDomain,
        }
    }
}

impl Link {
    /// Connects to nothing yet. The store should load [`trial`] with the other scripts.
    pub fn new(store: Store, units: Units, keys: Keys, metrics: Arc<Metrics>) -> Self {
        metrics.redis_up(false);
        let (health, returns) = (RwLock::new(Health::new(units)), watch::Sender::new(0));
        Self { store, keys, metrics, health, trial: trial(), fell: Notify::new(), returns, told: Mutex::default() }
    }

    /// Connects for the first time; what could not be reached is down until [`Link::watch`] has found it.
    pub async fn connect(&self) {
        let sent = Instant::now();
        match self.store.revive().await {
            Ok(()) => self.show(&mut self.health.write()),
            Err(error) => self.miss(FLEET, &error, sent),
        }
    }

    /// Runs a script on keys of one domain. Errs at once where this part of Redis is down.
    pub async fn call(
        &self,
        domain: &str,
        script: &Script,
        keys: &[impl AsRef<str> + Sync],
        arg: &[u8],
    ) -> Result<Vec<u8>, Missed> {
        if !self.is_up(domain) {
            return Err(Missed::Down);
        }
        let sent = Instant::now();
        let answer = self.store.eval(script, keys, arg).await;
        self.metrics.redis_call(script.name, outcome(&answer), sent.elapsed());
        answer.map_err(|error| {
            self.failed(domain, script.name, &error, sent);
            Missed::Failed(error)
        })
    }

    /// Whether the domain's part of Redis is used at the moment.
    pub fn is_up(&self, domain: &str) -> bool {
        self.health.read().is_up(domain)
    }

    /// Waits until the domain's part of Redis is used.
    pub async fn up(&self, domain: &str) {
        let mut returns = self.returns.subscribe();
        while !self.is_up(domain) {
            // It ends with the link, which we have.
            let _ = returns.changed().await;
        }
    }

    /// Changes whenever some part of Redis has come back.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// What is beneath, for calls that are no scripts.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Tries what is down, until it is back or `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        let endless = async {
            loop {
                let next = Instant::now() + TRY_EVERY;
                if self.health.read().down() == 0 {
                    self.fell.notified().await;
                } else {
                    self.try_again().await;
                    sleep_until(next).await;
                }
            }
        };
        stop.run_until_cancelled(endless).await;
    }

    async fn try_again(&self) {
        let revived = self.store.revive().await;
        let units = self.health.write().trials(MOST_TRIALS);
        let trials = join_all(units.into_iter().map(async |unit| {
            let outcome = self.attempt(&unit, &revived).await;
            (unit, outcome)
        }));
        for (unit, outcome) in trials.await {
            let reason = outcome.map_err(|error| error.to_string());
            let change = {
                let mut health = self.health.write();
                let change = health.tried(&unit, reason.as_ref().map_err(String::as_str).copied(), Instant::now());
                self.show(&mut health);
                change
            };
            self.tell(&unit, change);
        }
    }

    /// Whether a unit can be used, after an attempt to connect.
    async fn attempt(&self, unit: &str, revived: &Result<(), StoreError>) -> Result<(), StoreError> {
        let domain = if unit.is_empty() {
            // What connects to the only server there is says all that a trial could find out.
            revived.clone()?;
            FLEET
        } else {
            unit
        };
        self.store.eval(&self.trial, &[self.keys.trial(domain)], b"").await.map(drop)
    }

    fn failed(&self, domain: &str, script: &'static str, error: &StoreError, sent: Instant) {
        if !concerns_the_call_alone(error) {
            return self.miss(domain, error, sent);
        }
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::error!(domain, script, reason = %error, "Redis could not run script `{script}`: {error}");
        }
    }

    fn miss(&self, domain: &str, error: &StoreError, sent: Instant) {
        let reason = error.to_string();
        let (fell, down, unit) = {
            let mut health = self.health.write();
            let fell = health.missed(domain, &reason, sent, Instant::now());
            self.show(&mut health);
            (fell, health.down(), health.unit(domain))
        };
        if !fell {
            return;
        }
        self.fell.notify_one();
        if down <= MOST_TOLD {
            tracing::warn!(domain = shown(unit), reason, "Redis is not used until it is back: {reason}");
        }
    }

    fn tell(&self, unit: &str, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::StillDown(reason)) => {
                tracing::warn!(domain = shown(unit), reason, "Redis is still not used: {reason}")
            }
            Some(Change::Returned(after)) => {
                self.returns.send_modify(|returns| *returns += 1);
                if self.health.read().down() < MOST_TOLD {
                    let degraded_s = after.as_secs_f64();
                    tracing::info!(domain = shown(unit), degraded_s, "Redis is used again after {degraded_s:.3} s");
                }
            }
        }
    }

    /// Brings the metrics up to date, before anybody sees what they show.
    fn show(&self, health: &mut Health) {
        self.metrics.redis_degraded(health.degraded(Instant::now()));
        self.metrics.redis_up(health.down() == 0);
    }
}

/// A unit as logs name it.
fn shown(unit: &str) -> &str {
    if unit.is_empty() { "all" } else { unit }
}

/// The script by which it is found out whether Redis is back.
pub fn trial() -> Script {
    Script::new("trial", TRIAL.to_owned())
}

/// Whether another call may well succeed: the script itself or its keys are wrong.
fn concerns_the_call_alone(error: &StoreError) -> bool {
    let StoreError::Refused(words) = error else { return false };
    ["ERR", "WRONGTYPE", "NOSCRIPT", "CROSSSLOT"].contains(&words.split([' ', ':']).next().unwrap_or_default())
}

fn outcome(answer: &Result<Vec<u8>, StoreError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(StoreError::Timeout) => "timeout",
        Err(StoreError::Lost(_)) => "lost",
        Err(StoreError::ReadOnly) => "read_only",
        Err(StoreError::Busy(_)) => "busy",
        Err(StoreError::Refused(_)) => "refused",
    }
}

#[cfg(test)]
mod tests;
