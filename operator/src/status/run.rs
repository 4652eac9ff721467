//! Keeps statuses and Secrets of relay keys as they should be, while this replica leads: one loop that looks at
//! everything whenever something is new, and hands what is to be written to a few writers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{HostBreaker, KeyBreaker, Kind};
use jiff::Timestamp;
use kube::Client;
use table::{Credentials, ObjectRef, RoutingTable};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    facts::Facts,
    fleet::{Acks, Fleet, FleetName, Fleets, Served},
    health::Health,
    ledger::Ledger,
    metrics::{Outcome, StatusMetrics},
    plan::{Base, Described, Rounds, Seen, Subject, View, base, value},
    queue::{Offer, Queue},
    said::print,
    write::{Written, newer, write},
};
use crate::{
    Published,
    events::{self, Poster},
    lease::Standing,
    mint::Minter,
    world::World,
};

/// How many statuses are written at the same time.
const WRITERS: usize = 16;
/// How many may wait to be written.
const WAITING: usize = 16_384;
/// Longest time that the API server may take for one. What a replica sends last is decided before another leads.
const LIMIT: Duration = Duration::from_secs(5);
/// Rounds are at least this far apart, so that acknowledgements of many pods are looked at together.
const APART: Duration = Duration::from_millis(50);
/// Longest pause between two rounds.
const IDLE: Duration = Duration::from_secs(2);
/// How often it is looked whether somebody else has changed a status.
const SWEEP: Duration = Duration::from_secs(2);
/// For how long there may be no pod before objects are said to be served by none.
const DESERTED: Duration = Duration::from_secs(60);

type Key = (Kind, ObjectRef);

/// What was published, with the digest under which data planes acknowledge it.
#[derive(Clone, Debug)]
pub struct Offered {
    /// What was published.
    pub published: Arc<Published>,
    /// The root digests of what goes to each fleet, as [`PodState::root`](super::fleet::PodState::root) has them.
    pub roots: BTreeMap<FleetName, String>,
}

/// What the loop is told.
pub struct Inputs {
    /// Objects as they were last heard of, with their statuses.
    pub world: Arc<World>,
    /// What was published last; `None`: nothing yet.
    pub offered: watch::Receiver<Option<Offered>>,
    /// What data planes hold.
    pub acks: watch::Receiver<Arc<Acks>>,
    /// Whether this replica leads.
    pub standing: watch::Receiver<Standing>,
}

/// Runs until `stop`, and returns when the last write has ended.
pub async fn run(client: Client, inputs: Inputs, poster: Poster, metrics: StatusMetrics, stop: CancellationToken) {
    let mut desk = Desk::new(client, inputs, poster, metrics);
    loop {
        let pause = tokio::time::sleep_until(desk.wake.into());
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = desk.writers.join_next() => {
                if let Ok((key, subject, written)) = ended {
                    desk.ended(key, &subject, written);
                }
                desk.fill();
                continue;
            }
            changed = desk.inputs.offered.changed(), if desk.is_open => desk.is_open = changed.is_ok(),
            changed = desk.inputs.acks.changed(), if desk.has_fleet => desk.has_fleet = changed.is_ok(),
            changed = desk.inputs.standing.changed(), if desk.has_lease => desk.has_lease = changed.is_ok(),
            () = pause => {}
        }
        desk.take_note();
        // Secrets that are being looked after may take long; each is written whole or not at all.
        let _ = stop.run_until_cancelled(desk.round_if_due()).await;
    }
    while let Some(ended) = desk.writers.join_next().await {
        if let Ok((key, subject, written)) = ended {
            desk.ended(key, &subject, written);
        }
    }
}

/// What an object's status said when it was looked at last.
struct Told {
    version: String,
    print: u64,
}

/// A status that could not be written.
struct Fault {
    times: u32,
    /// When it is tried again; `None`: it is being tried.
    again_at: Option<Instant>,
}

/// What is remembered of one fleet.
struct Remembered {
    ledger: Ledger,
    /// The digest of what goes to it, and that.
    root: String,
    table: Arc<RoutingTable>,
    /// When its last pod went; `None`: there is one.
    deserted_since: Option<Instant>,
}

impl Remembered {
    fn new(now: Instant) -> Self {
        let (ledger, root, table) = (Ledger::default(), String::new(), Arc::default());
        Self { ledger, root, table, deserted_since: Some(now) }
    }

    fn publish(&mut self, root: &str, table: &Arc<RoutingTable>, credentials: &Arc<Credentials>) {
        if self.root != root {
            self.ledger.publish(root, table.clone(), credentials.clone());
            (self.root, self.table) = (root.to_owned(), table.clone());
        }
    }

    fn served(&self, now: Instant) -> Served<'_> {
        let is_deserted = self.deserted_since.is_some_and(|since| now.duration_since(since) >= DESERTED);
        Served { table: &self.table, ledger: &self.ledger, is_deserted }
    }
}

struct Desk {
    client: Client,
    inputs: Inputs,
    poster: Poster,
    metrics: StatusMetrics,
    offered: Option<Offered>,
    /// Read off what was offered last; absent: not yet, because nobody asked.
    facts: Option<Facts>,
    /// What is remembered of each fleet.
    fleets: BTreeMap<FleetName, Remembered>,
    health: Health,
    /// Since this replica leads, other replicas have had the time to say what their pods hold.
    has_gathered: bool,
    rounds: Rounds,
    minter: Minter,
    /// What was written and may not be in the cache yet.
    bases: HashMap<Key, Base>,
    told: HashMap<Key, Told>,
    queue: Queue<Key, Subject>,
    writers: JoinSet<(Key, Subject, Option<Written>)>,
    faults: HashMap<Key, Fault>,
    is_open: bool,
    has_fleet: bool,
    has_lease: bool,
    was_leading: bool,
    last_round: Option<Instant>,
    last_sweep: Instant,
    wake: Instant,
}

impl Desk {
    fn new(client: Client, inputs: Inputs, poster: Poster, metrics: StatusMetrics) -> Self {
        Self {
            client,
            inputs,
            poster,
            metrics,
            offered: None,
            facts: None,
            fleets: BTreeMap::new(),
            health: Health::default(),
            has_gathered: false,
            rounds: Rounds::default(),
            minter: Minter::default(),
            bases: HashMap::new(),
            told: HashMap::new(),
            queue: Queue::new(WAITING),
            writers: JoinSet::new(),
            faults: HashMap::new(),
            is_open: true,
            has_fleet: true,
            has_lease: true,
            was_leading: false,
            last_round: None,
            last_sweep: Instant::now(),
            wake: Instant::now(),
        }
    }

    /// Every replica keeps the ledger, so that the next leader knows who holds what.
    fn take_note(&mut self) {
        let now = Instant::now();
        let offered = self.inputs.offered.borrow_and_update().clone();
        let known = self.offered.as_ref().map(|offered| &offered.published);
        if let Some(offered) = offered.filter(|new| !known.is_some_and(|known| Arc::ptr_eq(known, &new.published))) {
            let Published { table, credentials, fleets, .. } = &*offered.published;
            self.fleets.retain(|name, _| offered.roots.contains_key(name));
            for (name, root) in &offered.roots {
                let fleet = name.as_ref().and_then(|id| fleets.get(id));
                let (table, credentials) =
                    fleet.map_or((table, credentials), |fleet| (&fleet.table, &fleet.credentials));
                let known = self.fleets.entry(name.clone()).or_insert_with(|| Remembered::new(now));
                known.publish(root, table, credentials);
            }
            self.facts = None;
            self.offered = Some(offered);
        }
        let acks = self.inputs.acks.borrow_and_update().clone();
        for (name, fleet) in &mut self.fleets {
            let has_pods = acks.pods.values().any(|pod| pod.fleet == *name);
            fleet.deserted_since = if has_pods { None } else { Some(fleet.deserted_since.unwrap_or(now)) };
        }
        self.wake = self.last_round.map_or(now, |last| last + APART).min(self.wake.max(now));
    }

    async fn round_if_due(&mut self) {
        let now = Instant::now();
        let is_leading = self.inputs.standing.borrow_and_update().is_leading();
        if is_leading != self.was_leading {
            self.begin_anew(is_leading);
        }
        if !is_leading || self.offered.is_none() {
            self.wake = now + IDLE;
            return;
        }
        let due = self.last_round.map_or(now, |last| last + APART);
        if now < due {
            self.wake = due;
            return;
        }
        if now.duration_since(self.last_sweep) >= SWEEP {
            self.last_sweep = now;
            self.sweep();
        }
        let again_at = self.try_again();
        let next = self.round(Timestamp::now()).await;
        // From its end: a round over tens of thousands of objects must leave time for all else on its thread.
        self.last_round = Some(Instant::now());
        let pause = next.and_then(|next| Duration::try_from(next.duration_since(Timestamp::now())).ok());
        let wake = Instant::now() + next.map_or(IDLE, |_| pause.unwrap_or_default().clamp(APART, IDLE));
        self.wake = again_at.map_or(wake, |again_at| again_at.min(wake));
        self.fill();
    }

    /// What another has written meanwhile is not known, so nothing is taken for granted.
    fn begin_anew(&mut self, is_leading: bool) {
        self.was_leading = is_leading;
        self.metrics.leads(is_leading);
        self.rounds.forget_all();
        self.minter.forget_all();
        self.bases.clear();
        self.told.clear();
        self.faults.clear();
        self.queue.clear();
        self.has_gathered = false;
        let objects = self.offered.as_ref().map_or(0, |offered| offered.published.reports.len());
        let what = if is_leading { "begins to write" } else { "writes no more" };
        info!(objects, "this replica {what} statuses and Secrets");
    }

    /// Looks at everything once. Gives when to look again.
    async fn round(&mut self, now: Timestamp) -> Option<Timestamp> {
        let Offered { published, .. } = self.offered.clone()?;
        let happened = self.minter.round(&self.client, &published.resources, &self.inputs.standing, now).await;
        for (id, what) in happened {
            let Some(key) = published.resources.relay_keys.get(&id) else { continue };
            let secret = key.spec.secret.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default();
            let uid = key.metadata.uid.as_deref().unwrap_or_default();
            self.poster.post(events::of_token(&id, uid, secret, &what));
        }
        let (acks, at) = (self.inputs.acks.borrow().clone(), Instant::now());
        let gathered_at = self.inputs.standing.borrow().gathered_at.filter(|gathered_at| at < *gathered_at);
        let served = self.fleets.iter().map(|(name, fleet)| (name, Fleet::new(name, &acks, fleet.served(at))));
        let fleets = Fleets { by_name: served.collect(), is_gathering: gathered_at.is_some() };
        let mut judged = None;
        if gathered_at.is_none() {
            if !self.has_gathered {
                self.has_gathered = true;
                self.health.resume(
                    said_of_keys(&self.inputs.world, &published),
                    said_of_hosts(&self.inputs.world, &published),
                    now,
                );
            }
            judged = self.health.note(&acks, &fleets, &published.table, now);
        }
        let described = published.fleets.iter().filter_map(|(id, fleet)| {
            let root = self.fleets.get(&Some(id.clone())).map(|known| known.root.as_str())?;
            Some(Described { id, data_plane: &fleet.data_plane, table: &fleet.table, acks: &acks, root })
        });
        let described: Vec<Described<'_>> = described.collect();
        let view = View {
            resources: &published.resources,
            reports: &published.reports,
            table: &published.table,
            facts: self.facts.get_or_insert_with(|| Facts::of(&published.table, &published.reports)),
            fleets: &fleets,
            health: &self.health,
            described: &described,
        };
        let round = self.rounds.round(&view, &self.minter, now);
        for subject in round.subjects {
            let key = (subject.kind, subject.id.clone());
            match self.queue.offer(key.clone(), subject) {
                Offer::Queued => self.metrics.count(Outcome::Enqueued),
                Offer::Replaced => {}
                Offer::Dropped => {
                    self.metrics.count(Outcome::Dropped);
                    self.rounds.forget(key.0, &key.1);
                }
            }
        }
        if self.told.len() > 2 * published.reports.len() + WAITING {
            let live = |key: &Key| live(&self.inputs.world, key.0, &key.1).is_some();
            self.told.retain(|key, _| live(key));
        }
        let gathered = gathered_at.and_then(|at| now.checked_add(at.saturating_duration_since(Instant::now())).ok());
        [round.next, self.minter.next(), judged, gathered].into_iter().flatten().min()
    }

    /// Keeps the writers busy.
    fn fill(&mut self) {
        while self.writers.len() < WRITERS {
            let Some((key, subject)) = self.queue.take() else { break };
            // Read only now: of ten thousand that wait, each would hold a status, and an old one.
            let heard = live(&self.inputs.world, key.0, &key.1);
            let seen = heard.map(|heard| newer(heard, self.bases.get(&key)));
            let (client, standing) = (self.client.clone(), self.inputs.standing.clone());
            self.writers.spawn(async move {
                let written = tokio::time::timeout(LIMIT, write(&client, &subject, seen, &standing)).await;
                (key, subject, written.ok())
            });
        }
        self.metrics.waits(self.queue.len());
    }

    fn ended(&mut self, key: Key, subject: &Subject, written: Option<Written>) {
        self.queue.done(&key);
        let outcome = match written {
            Some(Written::Done { before, after }) => {
                for event in events::of_status(key.0, &key.1, &after.uid, &before.status, &after.status) {
                    self.poster.post(event);
                }
                if key.0 == Kind::HostKey {
                    let event = events::of_health(&key.1, &after.uid, &before.status, &after.status);
                    event.into_iter().for_each(|event| self.poster.post(event));
                }
                self.settled(key, after);
                Outcome::Succeeded
            }
            Some(Written::Same(base)) => {
                self.settled(key, base);
                Outcome::Needless
            }
            Some(Written::Gone | Written::Stale) => {
                self.faults.remove(&key);
                self.bases.remove(&key);
                Outcome::Needless
            }
            Some(Written::NotLeading) => {
                self.faults.remove(&key);
                self.bases.remove(&key);
                // It may lead again before anybody has noticed that it did not for a moment.
                self.rounds.forget(key.0, &key.1);
                Outcome::Needless
            }
            Some(Written::Contended) => {
                self.failed(key);
                Outcome::Contended
            }
            Some(Written::Failed(error)) => {
                let (kind, id) = (subject.kind, &subject.id);
                warn!(object = %id, %error, "the status of {kind} `{id}` could not be written");
                self.failed(key);
                Outcome::Failed
            }
            None => {
                let (kind, id) = (subject.kind, &subject.id);
                warn!(object = %id, "the API server did not take the status of {kind} `{id}` within {LIMIT:?}");
                self.failed(key);
                Outcome::TimedOut
            }
        };
        self.metrics.count(outcome);
    }

    fn settled(&mut self, key: Key, base: Base) {
        self.faults.remove(&key);
        self.told.insert(key.clone(), Told { version: base.version.clone(), print: print(&base.status) });
        self.bases.insert(key, base);
    }

    /// Has those objects looked at again of whose status somebody else has made something else.
    fn sweep(&mut self) {
        for (key, told) in &mut self.told {
            let is_known = !self.bases.contains_key(key)
                && version(&self.inputs.world, key.0, &key.1).as_ref() == Some(&told.version);
            if is_known {
                continue;
            }
            let Some(live) = live(&self.inputs.world, key.0, &key.1) else { continue };
            let is_behind =
                self.bases.get(key).is_some_and(|base| newer(live.clone(), Some(base)).version != live.version);
            if is_behind {
                continue;
            }
            // The cache has what was written, and need not be corrected any more.
            self.bases.remove(key);
            if live.version == told.version {
                continue;
            }
            if print(&live.status) != told.print {
                self.rounds.forget(key.0, &key.1);
            }
            told.version = live.version;
        }
    }

    fn failed(&mut self, key: Key) {
        self.bases.remove(&key);
        let fault = self.faults.entry(key).or_insert(Fault { times: 0, again_at: None });
        fault.times += 1;
        let again_at = Instant::now() + backoff(fault.times);
        fault.again_at = Some(again_at);
        self.wake = self.wake.min(again_at);
    }

    /// Has what failed looked at again when its time has come. Gives when the next one's is.
    fn try_again(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for (key, fault) in &mut self.faults {
            if fault.again_at.is_some_and(|at| at <= now) {
                fault.again_at = None;
                self.rounds.forget(key.0, &key.1);
            }
        }
        self.faults.values().filter_map(|fault| fault.again_at).min()
    }
}

/// What HostKeys say of their breakers.
fn said_of_keys(world: &World, published: &Published) -> Vec<(ObjectRef, KeyBreaker)> {
    let keys = published.resources.host_keys.keys();
    keys.filter_map(|id| Some((id.clone(), world.host_key(id)?.status.as_ref()?.breaker.clone()?))).collect()
}

/// What Hosts say of the breakers of their keys.
fn said_of_hosts(world: &World, published: &Published) -> Vec<(ObjectRef, HostBreaker)> {
    let hosts = published.resources.hosts.keys();
    hosts.filter_map(|id| Some((id.clone(), world.host(id)?.status.as_ref()?.breaker.clone()?))).collect()
}

/// An object as it was last heard of; absent where it cannot be read, or is gone.
fn live(world: &World, kind: Kind, id: &ObjectRef) -> Seen {
    match kind {
        Kind::Host => world.host(id).map(|object| base(&object.metadata, value(&object.status))),
        Kind::Model => world.model(id).map(|object| base(&object.metadata, value(&object.status))),
        Kind::HostKey => world.host_key(id).map(|object| base(&object.metadata, value(&object.status))),
        Kind::RelayKey => world.relay_key(id).map(|object| base(&object.metadata, value(&object.status))),
        Kind::Policy => world.policy(id).map(|object| base(&object.metadata, value(&object.status))),
        Kind::DataPlane => world.data_plane(id).map(|object| base(&object.metadata, value(&object.status))),
    }
}

/// The version of an object as it was last heard of.
fn version(world: &World, kind: Kind, id: &ObjectRef) -> Option<String> {
    match kind {
        Kind::Host => world.host(id)?.metadata.resource_version.clone(),
        Kind::Model => world.model(id)?.metadata.resource_version.clone(),
        Kind::HostKey => world.host_key(id)?.metadata.resource_version.clone(),
        Kind::RelayKey => world.relay_key(id)?.metadata.resource_version.clone(),
        Kind::Policy => world.policy(id)?.metadata.resource_version.clone(),
        Kind::DataPlane => world.data_plane(id)?.metadata.resource_version.clone(),
    }
}

/// 0.5 s, then twice as long each time, 30 s at most.
fn backoff(times: u32) -> Duration {
    Duration::from_millis(250).saturating_mul(1 << times.min(8)).min(Duration::from_secs(30))
}
