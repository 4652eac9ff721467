//! Brings keys and hosts back: probes those whose cooldown has ended, out of band, so that no caller's request is the
//! one that finds out; and probes healthy ones where a Host asks for it. What a probe's answer means is the breaker's
//! business.

mod probe;

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use table::ObjectRef;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    breaker::{Phase, Transition, outcome::Outcome},
    pool::signals::{HostSignals, KeySignals, Signals},
    upstream::{
        clients::Clients,
        credentials::{HostSecret, KeyHash, Keyring},
    },
    world::{Host, World},
};

/// How often it is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Healthy keys are never probed more often than this.
const CHECK_LEAST: Duration = Duration::from_secs(5);

/// A key to look after.
#[derive(Clone, Debug)]
pub struct Ward {
    /// Its name; the host's where the host needs no key.
    pub name: ObjectRef,
    /// Its host.
    pub host: Arc<Host>,
    /// Its secret; absent: the host needs none.
    pub secret: Option<HostSecret>,
}

/// Looks after all keys of the current table until `stop`. `current` gives that table and its secrets.
pub async fn run<C>(current: C, clients: Arc<Clients>, signals: Arc<Signals>, stop: CancellationToken)
where
    C: Fn() -> (Arc<World>, Arc<Keyring>),
{
    let wards = || {
        let (world, keyring) = current();
        wards(&world, &keyring)
    };
    let probe = |ward: Ward| {
        let (world, _) = current();
        let client = clients.for_host(&ward.host.id, &ward.host.row, world.client_certificate(&ward.host.id));
        async move {
            match client {
                Ok(client) => Some(probe::probe(&client, &ward).await),
                // It cannot be sent anything; the Host's own condition says why.
                Err(_) => None,
            }
        }
    };
    look_after(wards, probe, signals, stop).await;
}

/// Every key of a table that can be used, one for each secret of a host.
pub fn wards(world: &World, keyring: &Keyring) -> Vec<Ward> {
    let mut wards = HashMap::new();
    for host in world.hosts().filter(|host| !host.row.suspended) {
        if host.row.auth == table::Auth::None {
            let ward = Ward { name: host.id.clone(), host: host.clone(), secret: None };
            wards.insert(ward.hash(), ward);
            continue;
        }
        for key in host.pool.iter().filter(|key| !key.row.suspended) {
            let Some(Ok(secret)) = keyring.secret(&key.id) else { continue };
            let ward = Ward { name: key.id.clone(), host: host.clone(), secret: Some(secret) };
            wards.insert(ward.hash(), ward);
        }
    }
    wards.into_values().collect()
}

impl Ward {
    /// Where its health is kept.
    pub fn hash(&self) -> KeyHash {
        let keyless = KeyHash::keyless(&self.host.id);
        self.secret.as_ref().map_or(keyless, |secret| secret.hash().at(keyless))
    }
}

/// Probes what is due among `wards` until `stop`. A probe that comes to nothing (`None`) is tried again.
async fn look_after<L, P, F>(wards: L, probe: P, signals: Arc<Signals>, stop: CancellationToken)
where
    L: Fn() -> Vec<Ward>,
    P: Fn(Ward) -> F,
    F: Future<Output = Option<Outcome>> + Send + 'static,
{
    let mut probes = JoinSet::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = probes.join_next(), if !probes.is_empty() => {}
            _ = ticks.tick() => {
                for ward in wards() {
                    if let Some(turn) = Turn::take(&ward, &signals, now()) {
                        let (ended, name) = (probe(ward.clone()), ward.name);
                        probes.spawn(async move { turn.end(ended.await, &name) });
                    }
                }
            }
        }
    }
}

/// The right to probe, given back when dropped.
struct Turn {
    key: Arc<KeySignals>,
    host: Arc<HostSignals>,
    ward: Arc<Host>,
    holds_key: bool,
    holds_host: bool,
    /// Whether the outcome says something of the key: not while it is out for a reason that a probe of its host would
    /// only meet again.
    tells_of_key: bool,
    began: Instant,
}

impl Turn {
    fn take(ward: &Ward, signals: &Signals, now: Instant) -> Option<Self> {
        let (key, host) = (signals.key(ward.hash()), signals.host(&ward.host.id));
        let (breaker, check) = (&ward.host.row.breaker, &ward.host.row.health_check);
        let is_well = matches!(key.phase(now), Phase::Closed { .. });
        let is_host_well = matches!(host.phase(now), Phase::Closed { .. });
        let holds_host = host.lease_probe(now, breaker);
        // Where the host cannot be reached, one probe finds that out for all of its keys.
        let may_ask = is_host_well || holds_host;
        let holds_key = may_ask && key.lease_probe(now, breaker);
        let is_due = may_ask && check.active && is_well && key.is_check_due(now, check.interval.max(CHECK_LEAST));
        let turn = Self {
            key,
            host,
            ward: ward.host.clone(),
            holds_key,
            holds_host,
            tells_of_key: holds_key || is_well,
            began: now,
        };
        (holds_key || holds_host || is_due).then_some(turn)
    }

    fn end(self, outcome: Option<Outcome>, name: &ObjectRef) {
        let Some(outcome) = outcome else { return };
        debug!(host_key = %name, ?outcome, "probed host key `{name}`");
        let (now, settings) = (now(), &self.ward.row.breaker);
        if self.tells_of_key && self.key.report(outcome, self.began, now, settings) == Transition::Closed {
            info!(host_key = %name, "host key `{name}` is back");
        }
        if self.host.report(outcome, self.began, now, settings) == Transition::Closed {
            info!(host = %self.ward.id, "host `{}` can be reached again", self.ward.id);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.holds_key {
            self.key.release_probe();
        }
        if self.holds_host {
            self.host.release_probe();
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
