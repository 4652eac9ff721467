//! Brings keys and hosts back: probes those whose cooldown has ended, out of band, so that no caller's request is the
//! one that finds out; and probes healthy ones where a Host asks for it. What a probe's answer means is the breaker's
//! business. Where several processes share their keys, one of them probes and the others hear of it.

pub mod peers;

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

use self::peers::{Peers, Probe, Purpose};
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
/// What a probe found is known to all processes within this time.
const NEWS_MOST: Duration = Duration::from_secs(2);

/// A key to look after.
#[derive(Clone, Debug)]
pub struct Ward {
    /// Its name; the host's where the host needs no key.
    pub name: ObjectRef,
    /// Its host.
    pub host: Arc<Host>,
    /// Its secret; absent: the host needs none.
    pub secret: Option<HostSecret>,
    /// The namespaces of all host keys with that secret at that host, in order; never empty.
    pub domains: Vec<String>,
}

/// Looks after all keys of the current table until `stop`. `current` gives that table and its secrets.
pub async fn run<C>(current: C, clients: Arc<Clients>, signals: Arc<Signals>, peers: Peers, stop: CancellationToken)
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
    look_after(wards, probe, signals, peers, stop).await;
}

/// Every key of a table that can be used, one for each secret of a host.
pub fn wards(world: &World, keyring: &Keyring) -> Vec<Ward> {
    let mut wards = HashMap::<_, Ward>::new();
    let mut add = |name: &ObjectRef, host: &Arc<Host>, secret| {
        let ward = Ward { name: name.clone(), host: host.clone(), secret, domains: Vec::new() };
        let domains = &mut wards.entry(ward.hash()).or_insert(ward).domains;
        if let Err(at) = domains.binary_search(&name.namespace) {
            domains.insert(at, name.namespace.clone());
        }
    };
    for host in world.hosts().filter(|host| !host.row.suspended) {
        if host.row.auth == table::Auth::None {
            add(&host.id, host, None);
            continue;
        }
        for key in host.pool.iter().filter(|key| !key.row.suspended) {
            let Some(Ok(secret)) = keyring.secret(&key.id) else { continue };
            add(&key.id, host, Some(secret));
        }
    }
    wards.into_values().collect()
}

impl Ward {
    /// Where its health is kept.
    pub fn hash(&self) -> KeyHash {
        let keyless = self.host.keyless;
        self.secret.as_ref().map_or(keyless, |secret| secret.hash().at(keyless))
    }

    /// Where processes agree on who probes it.
    fn domain(&self) -> &str {
        self.domains.first().unwrap_or(&self.name.namespace)
    }
}

/// Probes what is due among `wards` until `stop`. A probe that comes to nothing (`None`) is tried again.
async fn look_after<L, P, F>(wards: L, probe: P, signals: Arc<Signals>, peers: Peers, stop: CancellationToken)
where
    L: Fn() -> Vec<Ward>,
    P: Fn(Ward) -> F,
    F: Future<Output = Option<Outcome>> + Send + 'static,
{
    let mut tasks = JoinSet::<Option<(Turn, Ward)>>::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(Some((turn, ward))) = ended {
                    let (outcome, name) = (probe(ward.clone()), ward.name);
                    tasks.spawn(async move {
                        turn.end(outcome.await, &name);
                        None
                    });
                }
            }
            _ = ticks.tick() => {
                let wards = wards();
                peers.know(&wards);
                for ward in wards {
                    let Some(turn) = Turn::take(&ward, &signals, now()) else { continue };
                    let peers = peers.clone();
                    tasks.spawn(async move { turn.granted(&peers, &ward).await.map(|turn| (turn, ward)) });
                }
            }
        }
    }
}

/// The right of this process to probe, given back when dropped.
struct Turn {
    key: Arc<KeySignals>,
    host: Arc<HostSignals>,
    ward: Arc<Host>,
    /// What is to be found out of the key; absent: only whether the host can be reached.
    purpose: Option<Purpose>,
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
        let purpose = if may_ask && key.lease_probe(now, breaker) {
            Some(Purpose::Heal)
        } else if may_ask && check.active && is_well && key.is_check_due(now, interval(ward)) {
            Some(Purpose::Check)
        } else {
            None
        };
        let tells_of_key = is_well || purpose == Some(Purpose::Heal);
        let turn = Self { key, host, ward: ward.host.clone(), purpose, holds_host, tells_of_key, began: now };
        (purpose.is_some() || holds_host).then_some(turn)
    }

    /// What is left of it when the other processes have been asked: nothing where one of them probes the key. Whether the
    /// host can be reached from here is for this process to find out.
    async fn granted(mut self, peers: &Peers, ward: &Ward) -> Option<Self> {
        let Some(purpose) = self.purpose else { return Some(self) };
        let lease = match purpose {
            Purpose::Heal => probe::longest(&ward.host.row) + NEWS_MOST,
            // A little early, so that whoever checked last may do so again.
            Purpose::Check => interval(ward).saturating_sub(LOOK_EVERY),
        };
        let probe = Probe { domain: ward.domain().to_owned(), key: ward.hash(), purpose, lease };
        if peers.lease(probe).await {
            self.began = now();
            return Some(self);
        }
        self.release_key();
        self.tells_of_key = false;
        self.holds_host.then_some(self)
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

    fn release_key(&mut self) {
        if self.purpose.take() == Some(Purpose::Heal) {
            self.key.release_probe();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.release_key();
        if self.holds_host {
            self.host.release_probe();
        }
    }
}

/// How often a healthy key is probed.
fn interval(ward: &Ward) -> Duration {
    ward.host.row.health_check.interval.max(CHECK_LEAST)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
