//! What all requests share: the current table, counters, breakers, connections, books. Swaps the table whole; whoever
//! holds the old one keeps it to the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use foldhash::HashMap;
use jiff::Timestamp;
use serde_json::json;
use table::{Credentials, ObjectRef, PodSettings, RoutingTable};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{
    admin::Inspect,
    breaker::Phase,
    config::Config,
    denied::Denied,
    drain::Drain,
    follow::standing::Standing,
    forward::shared::Shared,
    heal::{self, peers::Peers},
    in_flight::InFlight,
    in_force::{InForce, Stopping},
    limit::Limiter,
    meter::Books,
    metrics::BreakerState,
    pool::signals::Signals,
    sealing::keys::SealingKeys,
    upstream::{
        client::Client,
        clients::Clients,
        credentials::{self, CredentialError, Keyring, warn_unusable},
        resolver::Resolve,
    },
    world::World,
};

/// What all requests share.
pub struct Relay {
    /// The settings of this process.
    pub config: Config,
    /// Counts limits and budgets.
    pub limiter: Arc<dyn Limiter>,
    /// Usage records, metrics and what is learned.
    pub books: Arc<Books>,
    /// Health and load of keys and hosts.
    pub signals: Arc<Signals>,
    /// The phases of stopping.
    pub drain: Drain,
    pub(crate) in_flight: InFlight,
    /// A task for each connection of a client.
    pub(crate) connections: TaskTracker,
    clients: Arc<Clients>,
    peers: Peers,
    installed: ArcSwapOption<Installed>,
    /// How the process stops by the settings in force.
    stopping: watch::Sender<Stopping>,
    sealing: Arc<SealingKeys>,
    /// Wakes when a credential was read anew.
    credentials: watch::Sender<()>,
    /// How the feed stands that tables come from; empty: they come from elsewhere.
    feed: OnceLock<Standing>,
    /// Who answers what this process does not; empty: nobody, it is no sidecar.
    shared: OnceLock<Arc<Shared>>,
}

/// A table in effect, with its secrets and a client for each of its hosts: whoever holds it to the end of a request is
/// not touched by the next.
pub struct Installed {
    /// The table.
    pub world: Arc<World>,
    /// The secrets of its host keys.
    pub keyring: Arc<Keyring>,
    /// The settings that came with it, over those of this process.
    pub in_force: InForce,
    clients: HashMap<ObjectRef, Result<Arc<Client>, String>>,
}

impl Installed {
    /// The client of a host; errs in words for the host's owner.
    pub(crate) fn client(&self, host: &ObjectRef) -> Result<&Arc<Client>, &str> {
        match self.clients.get(host) {
            Some(Ok(client)) => Ok(client),
            Some(Err(reason)) => Err(reason),
            None => Err("the host is not in the table"),
        }
    }
}

impl Relay {
    /// Everything but a table: requests are refused until the first is installed.
    pub fn new(config: Config, limiter: Arc<dyn Limiter>, books: Arc<Books>, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            in_flight: InFlight::new(config.max_in_flight),
            stopping: watch::Sender::new(InForce::new(&config, &PodSettings::default()).stopping),
            sealing: Arc::new(SealingKeys::new(config.sealing.clone())),
            credentials: watch::Sender::default(),
            config,
            limiter,
            books,
            signals: Arc::new(Signals::new()),
            drain: Drain::new(),
            connections: TaskTracker::new(),
            clients: Arc::new(Clients::new(resolver)),
            peers: Peers::none(),
            installed: ArcSwapOption::empty(),
            feed: OnceLock::new(),
            shared: OnceLock::new(),
        }
    }

    /// With health that other processes hear of, through whoever was given the same `signals`, and with probes that they
    /// share.
    pub fn among(self, signals: Arc<Signals>, peers: Peers) -> Self {
        Self { signals, peers, ..self }
    }

    /// Puts a table into effect for every request that begins from now on.
    pub fn install(&self, table: RoutingTable, credentials: Credentials) {
        let keyring = Arc::new(Keyring::opening(&credentials, self.sealing.clone()));
        self.tell_faults(&keyring);
        let world = Arc::new(World::load(table, credentials));
        let mut clients = HashMap::default();
        for host in world.hosts() {
            let client = self.clients.for_host(&host.id, &host.row, world.client_certificate(&host.id));
            if let Err(reason) = &client {
                warn!(host = %host.id, reason, "host `{}` cannot be reached: {reason}", host.id);
            }
            clients.insert(host.id.clone(), client);
        }
        let hashes: std::collections::HashSet<_> = heal::wards(&world, &keyring).iter().map(heal::Ward::hash).collect();
        self.signals.retain(|key| hashes.contains(key), |host| clients.contains_key(host));
        self.clients.retain(|host| clients.contains_key(host));
        self.books.metrics.table_loaded(world.table(), Timestamp::now());
        info!(digest = %world.table().digest(), "the routing table is in effect");
        let in_force = self.enforce(&world.table().settings.pods);
        self.installed.store(Some(Arc::new(Installed { world, keyring, in_force, clients })));
        self.credentials.send_replace(());
    }

    /// Puts settings in force, over those of this process.
    fn enforce(&self, fleet: &PodSettings) -> InForce {
        let now = InForce::new(&self.config, fleet);
        let before = self.installed.load().as_ref().map(|installed| installed.in_force);
        if before.unwrap_or_else(|| InForce::new(&self.config, &PodSettings::default())) != now {
            self.in_flight.allow(now.max_in_flight);
            self.stopping.send_replace(now.stopping);
            now.tell(&self.config, fleet);
        }
        now
    }

    /// How the process stops, now and later.
    pub(crate) fn stopping(&self) -> watch::Receiver<Stopping> {
        self.stopping.subscribe()
    }

    /// Logs which host keys cannot be used, but for those of which it was said before.
    fn tell_faults(&self, keyring: &Keyring) {
        let before = self.credential_faults();
        let news = keyring.faults().into_iter().filter(|(key, error)| before.get(key) != Some(error));
        news.for_each(|(key, error)| warn_unusable(&key, &error));
    }

    /// Host keys of the table in effect whose credential cannot be used, and why.
    pub(crate) fn credential_faults(&self) -> BTreeMap<ObjectRef, CredentialError> {
        self.installed.load().as_ref().map(|installed| installed.keyring.faults()).unwrap_or_default()
    }

    /// Wakes when a credential was read anew.
    pub(crate) fn credential_changes(&self) -> watch::Receiver<()> {
        self.credentials.subscribe()
    }

    /// The table in effect. Errs before the first, and where it is older than the settings allow.
    pub fn installed(&self) -> Result<Arc<Installed>, Denied> {
        let installed = self.installed.load_full();
        let fleet = installed.as_ref().and_then(|installed| installed.in_force.max_staleness);
        if self.feed.get().is_some_and(|feed| feed.is_too_old(fleet)) {
            return Err(Denied::Stale);
        }
        installed.ok_or(Denied::NotReady)
    }

    /// Whether hosts could be reached as a table says; those that could not, and why.
    pub(crate) fn unreachable(&self, table: &RoutingTable, credentials: &Credentials) -> Vec<(ObjectRef, String)> {
        let hosts = table.hosts.iter().filter_map(|(id, row)| Some((id, row.usable()?)));
        let check = |(id, row): (&ObjectRef, &table::Host)| {
            let reason = self.clients.check(id, row, credentials.client_certificates.get(id)).err()?;
            Some((id.clone(), reason))
        };
        hosts.filter_map(check).collect()
    }

    /// Whether a host that could not be reached could be without its certificate.
    pub(crate) fn reaches_without_certificate(&self, table: &RoutingTable, host: &ObjectRef) -> bool {
        let row = table.hosts.get(host).and_then(|row| row.usable());
        row.is_some_and(|row| self.clients.check(host, row, None).is_ok())
    }

    /// Tables come from a feed from now on, which stands as this says. Of several the first is believed.
    pub(crate) fn follows(&self, feed: Standing) {
        let _ = self.feed.set(feed);
    }

    /// Requests that this process does not serve are passed on from now on. Of several the first is believed.
    pub(crate) fn passes_to(&self, shared: Arc<Shared>) {
        let _ = self.shared.set(shared);
    }

    /// Who answers what this process does not.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()
    }

    /// The clients of hosts.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Where the breaker of each host key stands now: keys go out and come back by requests, by probes and by time alone.
    pub(crate) fn phases(&self) -> Vec<(ObjectRef, Phase)> {
        let Some(installed) = self.installed.load_full() else { return Vec::new() };
        let (now, mut phases) = (Instant::now().into_std(), Vec::new());
        for host in installed.world.hosts() {
            for key in &host.pool {
                let Some(Ok(secret)) = installed.keyring.secret(&key.id) else { continue };
                phases.push((key.id.clone(), self.signals.key(secret.hash().at(host.keyless)).phase(now)));
            }
        }
        phases
    }

    fn show_breakers(&self) {
        for (key, phase) in self.phases() {
            let state = match phase {
                Phase::Closed { .. } => BreakerState::Closed,
                Phase::HalfOpen { .. } => BreakerState::HalfOpen,
                Phase::Open { .. } => BreakerState::Open,
            };
            self.books.metrics.breaker(&key, state);
        }
    }

    /// Looks after open keys and credential files until the drain expires.
    pub(crate) fn start_tasks(self: &Arc<Self>) {
        let stop = self.drain.until_expired();
        let nothing = (RoutingTable::default(), Credentials::default());
        let nothing = (Arc::new(World::load(nothing.0, nothing.1)), Arc::new(Keyring::default()));
        let relay = self.clone();
        let current = move || match relay.installed.load_full() {
            Some(installed) => (installed.world.clone(), installed.keyring.clone()),
            None => nothing.clone(),
        };
        let keyring = {
            let current = current.clone();
            move || current().1
        };
        let relay = self.clone();
        let changed = move || relay.credentials.send_replace(());
        self.drain.tasks.spawn(Keyring::follow(keyring, changed, stop.clone()));
        let (clients, signals, peers) = (self.clients.clone(), self.signals.clone(), self.peers.clone());
        self.drain.tasks.spawn(heal::run(current, clients, signals, peers, stop));
    }
}

impl Inspect for Relay {
    fn readiness(&self) -> Result<(), &'static str> {
        if self.drain.is_unready() {
            return Err("shutting down");
        }
        // What it cannot serve yet, or no longer, it passes on.
        if self.shared.get().is_some() {
            return Ok(());
        }
        let installed = self.installed.load();
        let Some(installed) = installed.as_ref() else { return Err("no routing table yet") };
        match self.feed.get() {
            Some(feed) if feed.is_too_old(installed.in_force.max_staleness) => {
                Err("the routing table is older than --max-staleness or push.maxStaleness of the DataPlane allows")
            }
            Some(_) | None => Ok(()),
        }
    }

    fn metrics(&self) -> String {
        let metrics = &self.books.metrics;
        self.show_breakers();
        if let Some(age) = self.feed.get().and_then(Standing::age) {
            metrics.config_age(age);
        }
        metrics.connections_open.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
        metrics.encode()
    }

    fn table(&self) -> Vec<u8> {
        let installed = self.installed.load_full();
        let table = installed.as_ref().map(|installed| installed.world.table());
        serde_json::to_vec_pretty(&table).unwrap_or_else(|error| error.to_string().into_bytes())
    }

    fn credentials(&self) -> Vec<u8> {
        let keyring = self.installed.load_full().map(|installed| installed.keyring.clone()).unwrap_or_default();
        let host_key = |(key, standing): (ObjectRef, credentials::Standing)| {
            let reason = standing.error.map(|error| error.to_string());
            (key.to_string(), json!({"source": standing.source, "usable": reason.is_none(), "reason": reason}))
        };
        let host_keys: serde_json::Map<_, _> = keyring.standings().into_iter().map(host_key).collect();
        let held = self.sealing.held();
        let key =
            |(id, reason): (&str, Option<&str>)| (id.to_owned(), json!({"usable": reason.is_none(), "reason": reason}));
        let keys: serde_json::Map<_, _> = held.all().map(key).collect();
        let troubles: Vec<_> = held.troubles().collect();
        let page = json!({"hostKeys": host_keys, "sealingKeys": keys, "troubles": troubles});
        serde_json::to_vec_pretty(&page).unwrap_or_else(|error| error.to_string().into_bytes())
    }

    fn feed(&self) -> Option<Vec<u8>> {
        let fleet = self.installed.load().as_ref().and_then(|installed| installed.in_force.max_staleness);
        self.feed.get().map(|feed| feed.to_json(fleet))
    }
}
