//! The shared state of all host keys and hosts: health, load, latency, quota. Survives changes of the table, because a
//! key is known by the hash of its secret and a host by its name. Every lock is held for a few instructions.
//!
//! Times are arguments; callers take them from `tokio::time::Instant::now().into_std()`, which tests can pause.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::HashMap;
use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use protocol::{WireShape, error::WireError};
use table::{Breaker, ObjectRef};

use super::{
    budget::RetryBudget,
    news::{Bell, Told, Turn},
    order::Standing,
    quota::Quota,
};
use crate::{
    breaker::{
        Phase, State, Transition,
        outcome::{Outcome, Side},
    },
    upstream::credentials::KeyHash,
};

/// The weight of a new measurement in a running mean.
const NEWEST: f64 = 0.2;

/// What is known of all host keys and hosts.
#[derive(Debug, Default)]
pub struct Signals {
    keys: Known<KeyHash, KeySignals>,
    hosts: Known<ObjectRef, HostSignals>,
    bell: Bell,
}

/// Keys and hosts are those of the table, so that their hash need not withstand anybody.
type Known<K, V> = RwLock<HashMap<K, Arc<V>>>;

/// What is known of one host key.
#[derive(Debug, Default)]
pub struct KeySignals {
    state: Mutex<Told>,
    bell: Bell,
    quota: Mutex<Quota>,
    latency: Latency,
    in_flight: AtomicU32,
    last_error: Mutex<Option<Arc<WireError>>>,
    checked: Mutex<Option<Instant>>,
}

/// What is known of one host, whatever the key.
#[derive(Debug, Default)]
pub struct HostSignals {
    state: Mutex<State>,
    latency: Latency,
    in_flight: AtomicU32,
    turn: AtomicU64,
    /// Repeats on the same key that its traffic has earned.
    pub retries: RetryBudget,
}

/// What an outcome changed, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Changes {
    /// Of the key.
    pub key: Transition,
    /// Of the host.
    pub host: Transition,
}

impl Signals {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a key. A key that was never seen is healthy.
    pub fn key(&self, key: KeyHash) -> Arc<KeySignals> {
        entry(&self.keys, &key, || KeySignals { bell: self.bell.clone(), ..KeySignals::default() })
    }

    /// What is known of a host. A host that was never seen is healthy.
    pub fn host(&self, host: &ObjectRef) -> Arc<HostSignals> {
        entry(&self.hosts, host, HostSignals::default)
    }

    /// Begins an attempt: both count as loaded until the flight is dropped.
    pub fn begin(&self, key: KeyHash, host: &ObjectRef, now: Instant) -> Flight {
        Flight::begin(self.key(key), self.host(host), now)
    }

    /// Forgets what is gone from the table.
    pub fn retain(&self, has_key: impl Fn(&KeyHash) -> bool, has_host: impl Fn(&ObjectRef) -> bool) {
        self.keys.write().retain(|key, _| has_key(key));
        self.hosts.write().retain(|host, _| has_host(host));
    }

    /// Waits until a key's breaker has turned by what this process found. For one listener: a turn that nobody waits for
    /// is kept for the next to wait, many as one.
    pub async fn news(&self) {
        self.bell.heard().await;
    }

    /// How many keys and hosts are known.
    pub fn known(&self) -> (usize, usize) {
        (self.keys.read().len(), self.hosts.read().len())
    }
}

fn entry<K: Hash + Eq + Clone, V>(map: &Known<K, V>, key: &K, new: impl FnOnce() -> V) -> Arc<V> {
    if let Some(known) = map.read().get(key) {
        return known.clone();
    }
    map.write().entry(key.clone()).or_insert_with(|| Arc::new(new())).clone()
}

impl KeySignals {
    /// Where it stands, for [`super::order::order`].
    pub fn standing(&self, now: Instant) -> Standing {
        Standing {
            phase: self.phase(now),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            headroom: self.quota.lock().headroom(now),
        }
    }

    /// Where its breaker stands.
    pub fn phase(&self, now: Instant) -> Phase {
        self.state.lock().phase(now)
    }

    /// Takes in how an attempt ended that began at `began`. What is the host's fault changes nothing here.
    pub fn report(&self, outcome: Outcome, began: Instant, now: Instant, settings: &Breaker) -> Transition {
        let transition = match outcome {
            Outcome::Unreachable(Side::Host) => Transition::None,
            _ => self.state.lock().on(outcome, began, now, settings),
        };
        if transition != Transition::None {
            self.bell.ring();
        }
        transition
    }

    /// The last turn of its breaker that was found by this process, by a request or a probe; each is given once.
    pub fn take_news(&self) -> Option<Turn> {
        self.state.lock().take_news()
    }

    /// Takes over what another process found; that is no news of this one. False: nothing was changed, because there is
    /// news that was not taken yet, and the two have to be compared first.
    pub fn adopt(&self, turn: Turn, now: Instant) -> bool {
        self.state.lock().adopt(turn, now)
    }

    /// Takes in what its provider says is left.
    pub fn observe(&self, shape: WireShape, headers: &HeaderMap, now: Instant, wall: Timestamp) {
        self.quota.lock().observe(shape, headers, now, wall);
    }

    /// The time to the first content, as a running mean; `None`: never measured.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.mean()
    }

    /// Keeps the provider's own words, for callers who meet this key while it is out.
    pub fn remember(&self, error: WireError) {
        *self.last_error.lock() = Some(Arc::new(error));
    }

    /// The provider's last words.
    pub fn last_error(&self) -> Option<Arc<WireError>> {
        self.last_error.lock().clone()
    }

    /// Takes one of the probes that a half-open breaker allows.
    pub(crate) fn lease_probe(&self, now: Instant, settings: &Breaker) -> bool {
        self.state.lock().lease_probe(now, settings)
    }

    pub(crate) fn release_probe(&self) {
        self.state.lock().release_probe();
    }

    /// Whether `interval` has passed since this was last true.
    pub(crate) fn is_check_due(&self, now: Instant, interval: Duration) -> bool {
        let mut checked = self.checked.lock();
        let is_due = checked.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if is_due {
            *checked = Some(now);
        }
        is_due
    }
}

impl HostSignals {
    /// Where its breaker stands: open where it cannot be reached at all. It is still tried when nothing else is left.
    pub fn phase(&self, now: Instant) -> Phase {
        self.state.lock().phase(now)
    }

    /// Takes in how an attempt ended. Any answer at all says that the host can be reached.
    pub fn report(&self, outcome: Outcome, began: Instant, now: Instant, settings: &Breaker) -> Transition {
        let told = match outcome {
            Outcome::Unreachable(Side::Host) => outcome,
            Outcome::Unreachable(Side::Key) | Outcome::Cancelled => return Transition::None,
            Outcome::Ok
            | Outcome::Auth
            | Outcome::RateLimited { .. }
            | Outcome::ServerError
            | Outcome::NotServed
            | Outcome::CallerFault => Outcome::Ok,
        };
        self.state.lock().on(told, began, now, settings)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The time to the first content, as a running mean; `None`: never measured.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.mean()
    }

    /// The next number of its round robin.
    pub fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn lease_probe(&self, now: Instant, settings: &Breaker) -> bool {
        self.state.lock().lease_probe(now, settings)
    }

    pub(crate) fn release_probe(&self) {
        self.state.lock().release_probe();
    }
}

/// One attempt on its way; drop it when its answer has ended.
#[derive(Debug)]
pub struct Flight {
    key: Arc<KeySignals>,
    host: Arc<HostSignals>,
    began: Instant,
}

impl Flight {
    /// Begins an attempt: key and host count as loaded until it is dropped.
    pub fn begin(key: Arc<KeySignals>, host: Arc<HostSignals>, now: Instant) -> Self {
        key.in_flight.fetch_add(1, Ordering::Relaxed);
        host.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { key, host, began: now }
    }

    /// Takes in how the attempt ended, as soon as it is known.
    pub fn report(&self, outcome: Outcome, now: Instant, settings: &Breaker) -> Changes {
        Changes {
            key: self.key.report(outcome, self.began, now, settings),
            host: self.host.report(outcome, self.began, now, settings),
        }
    }

    /// The first content came.
    pub fn first_content(&self, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.key.latency.add(took);
        self.host.latency.add(took);
    }

    /// The key that it uses.
    pub fn key(&self) -> &KeySignals {
        &self.key
    }

    /// The host that it goes to.
    pub fn host(&self) -> &HostSignals {
        &self.host
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.key.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.host.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running mean of seconds; 0 is none yet.
#[derive(Debug, Default)]
struct Latency(AtomicU64);

impl Latency {
    fn add(&self, took: Duration) {
        let mix = |bits: u64| {
            let (mean, newest) = (f64::from_bits(bits), took.as_secs_f64().max(f64::MIN_POSITIVE));
            let mixed = if mean == 0.0 { newest } else { mean + NEWEST * (newest - mean) };
            Some(mixed.to_bits())
        };
        // `mix` always gives a value, so this cannot be refused.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mix);
    }

    fn mean(&self) -> Option<Duration> {
        let mean = f64::from_bits(self.0.load(Ordering::Relaxed));
        (mean > 0.0).then(|| Duration::try_from_secs_f64(mean).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{breaker::outcome::Class, upstream::credentials::HostSecret};

    fn hash(secret: &str) -> KeyHash {
        HostSecret::new(secret).unwrap().hash()
    }

    fn host() -> ObjectRef {
        ObjectRef::new("a", "h")
    }

    fn is_closed(phase: Phase) -> bool {
        matches!(phase, Phase::Closed { .. })
    }

    #[test]
    fn a_rotated_key_starts_clean_and_the_old_one_is_forgotten_when_it_is_gone() {
        let (signals, now, settings) = (Signals::new(), Instant::now(), Breaker::default());
        signals.begin(hash("old"), &host(), now).report(Outcome::Auth, now, &settings);
        assert!(!is_closed(signals.key(hash("old")).phase(now)));
        assert!(is_closed(signals.key(hash("new")).phase(now)));
        signals.retain(|key| *key == hash("new"), |_| true);
        assert_eq!(signals.known(), (1, 1));
        assert!(is_closed(signals.key(hash("old")).phase(now)));
    }

    #[test]
    fn load_is_counted_from_the_beginning_to_the_drop_of_a_flight() {
        let (signals, now) = (Signals::new(), Instant::now());
        let flights = [1, 2].map(|_| signals.begin(hash("k"), &host(), now));
        assert_eq!(signals.key(hash("k")).standing(now).in_flight, 2);
        assert_eq!(signals.host(&host()).in_flight(), 2);
        drop(flights);
        assert_eq!(signals.key(hash("k")).standing(now).in_flight, 0);
        assert_eq!(signals.host(&host()).in_flight(), 0);
    }

    #[test]
    fn a_host_that_cannot_be_reached_is_not_the_keys_fault() {
        let (signals, now, settings) = (Signals::new(), Instant::now(), Breaker::default());
        let flight = signals.begin(hash("k"), &host(), now);
        for _ in 0..3 {
            flight.report(Outcome::Unreachable(Side::Host), now, &settings);
        }
        assert!(is_closed(flight.key().phase(now)));
        assert!(matches!(flight.host().phase(now), Phase::Open { class: Class::Unreachable, .. }));
    }

    #[test]
    fn a_refused_key_proves_that_its_host_can_be_reached() {
        let (signals, now, settings) = (Signals::new(), Instant::now(), Breaker::default());
        let flight = signals.begin(hash("k"), &host(), now);
        flight.report(Outcome::Unreachable(Side::Host), now, &settings);
        flight.report(Outcome::Unreachable(Side::Host), now, &settings);
        flight.report(Outcome::Auth, now, &settings);
        flight.report(Outcome::Unreachable(Side::Host), now, &settings);
        assert!(is_closed(flight.host().phase(now)));
    }

    #[test]
    fn latency_follows_what_is_measured() {
        let (signals, now) = (Signals::new(), Instant::now());
        let flight = signals.begin(hash("k"), &host(), now);
        assert_eq!(flight.host().latency(), None);
        flight.first_content(now + Duration::from_secs(1));
        assert_eq!(flight.host().latency(), Some(Duration::from_secs(1)));
        flight.first_content(now + Duration::from_secs(2));
        assert_eq!(flight.key().latency(), Some(Duration::from_millis(1200)));
    }

    #[tokio::test]
    async fn a_turn_rings_until_somebody_listens_and_no_turn_does_not() {
        let (signals, now, settings) = (Signals::new(), Instant::now(), Breaker::default());
        let is_quiet = async || tokio::time::timeout(Duration::ZERO, signals.news()).await.is_err();
        let key = signals.key(hash("k"));
        key.report(Outcome::Ok, now, now, &settings);
        assert!(is_quiet().await);
        key.report(Outcome::Auth, now, now, &settings);
        signals.key(hash("other")).report(Outcome::Auth, now, now, &settings);
        assert!(!is_quiet().await);
        assert!(is_quiet().await, "many as one");
    }
}
