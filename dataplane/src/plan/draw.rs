//! Which keys of a place are tried, in which order, by what is known of their health and load at this moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::error::{ErrorKind, WireError};
use smallvec::SmallVec;
use table::KeySelection;

use super::{Place, Query, Rules, Skipped, Why, expand::Leaf, fit::Keys, lottery, place};
use crate::{
    breaker::Phase,
    denied::Denied,
    failure::Failures,
    pool::{
        order::{Choice, Member, Skip, order},
        signals::{HostSignals, KeySignals, Signals},
    },
    upstream::credentials::{HostSecret, KeyHash, Keyring},
    world::HostKey,
};

/// What is known of hosts and keys at this moment.
#[derive(Clone, Copy)]
pub struct Weather<'a> {
    /// Health and load.
    pub signals: &'a Signals,
    /// The secrets of keys.
    pub keyring: &'a Keyring,
    /// The moment.
    pub now: Instant,
}

/// A key to try, or none where the host needs none.
#[derive(Clone, Debug)]
pub struct Draw {
    /// The key; absent: the host needs none.
    pub key: Option<Arc<HostKey>>,
    /// Its secret; there where the key is.
    pub secret: Option<HostSecret>,
    /// Under which its health is kept.
    pub hash: KeyHash,
    /// Its health and load.
    pub signals: Arc<KeySignals>,
    /// Whether its breaker is not closed: it is tried because nothing else is left.
    pub is_out: bool,
}

/// The keys of a place.
#[derive(Debug, Default)]
pub(super) struct Draws {
    /// To be tried, best first.
    pub(super) ready: Vec<Draw>,
    /// To be tried where no place has a key that is ready.
    pub(super) last_resort: Vec<Draw>,
}

/// A key that is out: until when, and what its provider said.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) until: Instant,
    error: Option<Arc<WireError>>,
}

/// What keeps a conversation at its key: the prefix that the caller named, else the conversation itself.
pub(super) fn affinity(query: &Query<'_>) -> u64 {
    match &query.ask.cache_key {
        Some(key) => lottery::hash(0, key),
        None => query.ask.conversation,
    }
}

/// The keys of a place in the order in which they are tried. Those that are out go to `out` and `skipped`.
pub(super) fn draws(
    leaf: &Leaf,
    keys: Keys<'_>,
    rules: &Rules,
    query: &Query<'_>,
    weather: &Weather<'_>,
    (skipped, out): (&mut Vec<Skipped>, &mut Vec<Out>),
) -> Draws {
    let drawable = drawable(leaf, keys, weather, skipped);
    if let [only] = drawable.as_slice()
        && is_well(only, weather)
    {
        return Draws { ready: drawable, last_resort: Vec::new() };
    }
    let members: SmallVec<[Member; 4]> = drawable.iter().map(|draw| member(draw, weather)).collect();
    let ordered = order(&members, &choice(leaf, rules, query, weather));
    for (position, skip) in ordered.skipped {
        let Skip::Open { class, until } = skip else { continue };
        let draw = &drawable[position];
        let place = match &draw.key {
            Some(key) => Place::Key(key.clone()),
            None => place(&leaf.host.id, leaf.served.model()),
        };
        let wait = until.saturating_duration_since(weather.now);
        skipped.push(Skipped { place, why: Why::Out { class, wait } });
        out.push(Out { until, error: draw.signals.last_error() });
    }
    if ordered.ready.iter().copied().eq(0..drawable.len()) {
        return Draws { ready: drawable, last_resort: Vec::new() };
    }
    let at = |positions: Vec<usize>, is_out| {
        positions.into_iter().map(|position| Draw { is_out, ..drawable[position].clone() }).collect()
    };
    Draws { ready: at(ordered.ready, false), last_resort: at(ordered.last_resort, true) }
}

/// Keys whose secret can be sent; for a host that needs none, the one draw without a key.
fn drawable(leaf: &Leaf, keys: Keys<'_>, weather: &Weather<'_>, skipped: &mut Vec<Skipped>) -> Vec<Draw> {
    let keyless = leaf.host.keyless;
    if !super::needs_key(&leaf.host) {
        let signals = weather.signals.key(keyless);
        return vec![Draw { key: None, secret: None, hash: keyless, signals, is_out: false }];
    }
    let mut draws = Vec::with_capacity(keys.len());
    for key in keys {
        let why = match weather.keyring.secret(&key.id) {
            Some(Ok(secret)) => {
                let hash = secret.hash().at(keyless);
                let signals = weather.signals.key(hash);
                draws.push(Draw { key: Some(key.clone()), secret: Some(secret), hash, signals, is_out: false });
                continue;
            }
            Some(Err(error)) => error.to_string(),
            None => "it has no credential".to_owned(),
        };
        skipped.push(Skipped { place: Place::Key(key.clone()), why: Why::Disabled(why) });
    }
    if draws.is_empty() {
        skipped.push(Skipped { place: place(&leaf.host.id, leaf.served.model()), why: Why::NoKey });
    }
    draws
}

/// Whether the breaker of a key is closed. Where there is no other, it is first by any rule.
fn is_well(draw: &Draw, weather: &Weather<'_>) -> bool {
    match draw.signals.phase(weather.now) {
        Phase::Closed { .. } => true,
        Phase::Open { .. } | Phase::HalfOpen { .. } => false,
    }
}

fn member(draw: &Draw, weather: &Weather<'_>) -> Member {
    let (priority, weight) = draw.key.as_ref().map_or((0, 1), |key| (key.row.priority, key.row.weight));
    let standing = draw.signals.standing(weather.now);
    Member { hash: draw.hash, priority, weight, obstacle: None, standing }
}

fn choice(leaf: &Leaf, rules: &Rules, query: &Query<'_>, weather: &Weather<'_>) -> Choice {
    let selection = if rules.is_sticky { KeySelection::CacheAffinity } else { leaf.host.row.key_selection };
    let turn = match selection {
        KeySelection::RoundRobin => weather.signals.host(&leaf.host.id).next_turn(),
        KeySelection::LeastUtilized | KeySelection::Weighted | KeySelection::CacheAffinity => 0,
    };
    let affinity = match selection {
        KeySelection::CacheAffinity => Some(affinity(query)),
        KeySelection::LeastUtilized | KeySelection::Weighted | KeySelection::RoundRobin => None,
    };
    Choice { selection, affinity, turn, seed: query.seed }
}

/// Whether a host is known to be failing as a whole.
pub(super) fn is_failing(host: &HostSignals, now: Instant) -> bool {
    match host.phase(now) {
        Phase::Closed { .. } => false,
        Phase::Open { .. } | Phase::HalfOpen { .. } => true,
    }
}

/// What the caller is told where every key is out: the most useful of the providers' own words, and when the first key
/// is back.
pub(super) fn all_out(model: &str, out: &[Out], now: Instant) -> Denied {
    let mut failures = Failures::default();
    for error in out.iter().filter_map(|out| out.error.as_deref()) {
        failures.add(error.clone());
    }
    let mut told = if failures.is_empty() {
        WireError::new(ErrorKind::Overloaded, format!("every host key of model `{model}` is out at the moment"))
    } else {
        failures.verdict()
    };
    let earliest = out.iter().map(|out| out.until.saturating_duration_since(now)).min();
    // A key whose time has come is being probed: its answer is not far.
    told.retry_after = earliest.map(|wait| wait.max(Duration::from_secs(1)));
    Denied::Upstream(told)
}
