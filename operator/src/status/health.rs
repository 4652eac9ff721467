//! Which host keys data planes do not draw, from the breakers that all of them report: what is said of HostKeys and Hosts
//! about that, and how often. Knows no clock but the `now` that it is given.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crds::{BreakerState, HostBreaker, KeyBreaker, OpenReason};
use jiff::{SignedDuration, Timestamp};
use table::{ObjectRef, RoutingTable, Row};

use super::{
    fleet::{Acks, Fleets},
    said::whole_seconds,
};

/// What is said of one object changes no more often. A first opening is said at once.
pub const APART: Duration = Duration::from_secs(30);

/// What is said, and what was said before it. The memory of the replica that leads.
#[derive(Debug, Default)]
pub struct Health {
    keys: HashMap<ObjectRef, Shown<KeyBreaker>>,
    hosts: HashMap<ObjectRef, Shown<HostBreaker>>,
}

#[derive(Debug)]
struct Shown<B> {
    breaker: B,
    since: Timestamp,
}

/// What of a breaker is worth a write.
trait Breaker: Clone {
    fn is_closed(&self) -> bool;
    /// Whether it says nothing new: that a key is out until later is no news.
    fn is_as(&self, other: &Self) -> bool;
}

impl Breaker for KeyBreaker {
    fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    fn is_as(&self, other: &Self) -> bool {
        let news = |breaker: &Self| (breaker.state, breaker.class.clone(), breaker.open_pods, breaker.pods);
        if self.is_closed() && other.is_closed() { true } else { news(self) == news(other) }
    }
}

impl Breaker for HostBreaker {
    fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    fn is_as(&self, other: &Self) -> bool {
        let news = |breaker: &Self| -> Vec<(String, u32)> {
            let reasons = breaker.reasons.iter().flatten();
            reasons.map(|reason| (reason.class.clone(), reason.open_keys)).collect()
        };
        self.state == other.state && news(self) == news(other)
    }
}

impl Health {
    /// Begins with what is said of objects already, as the replica said it that led before.
    pub fn resume(
        &mut self,
        keys: impl IntoIterator<Item = (ObjectRef, KeyBreaker)>,
        hosts: impl IntoIterator<Item = (ObjectRef, HostBreaker)>,
        now: Timestamp,
    ) {
        self.keys = keys.into_iter().map(|(id, breaker)| (id, Shown { breaker, since: now })).collect();
        self.hosts = hosts.into_iter().map(|(id, breaker)| (id, Shown { breaker, since: now })).collect();
    }

    /// Takes note of what pods report. Gives when something that is not said yet may be said. Where nobody reports, what
    /// was said stands.
    pub fn note(
        &mut self,
        acks: &Acks,
        fleets: &Fleets<'_>,
        table: &RoutingTable,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if acks.pods.values().all(|state| state.is_away) {
            return None;
        }
        let out = out(acks, fleets, table);
        let of_keys = settle(&mut self.keys, &out, |id| table.host_keys.contains_key(id), &closed_key(), now);
        let hosts = self.by_host(table);
        let of_hosts = settle(&mut self.hosts, &hosts, |id| table.hosts.contains_key(id), &closed_host(), now);
        [of_keys, of_hosts].into_iter().flatten().min()
    }

    /// What to say of a HostKey; absent: its breaker was never open.
    pub fn of_key(&self, id: &ObjectRef) -> Option<&KeyBreaker> {
        self.keys.get(id).map(|shown| &shown.breaker)
    }

    /// What to say of a Host; absent: no breaker of its keys was ever open.
    pub fn of_host(&self, id: &ObjectRef) -> Option<&HostBreaker> {
        self.hosts.get(id).map(|shown| &shown.breaker)
    }

    fn by_host(&self, table: &RoutingTable) -> HashMap<ObjectRef, HostBreaker> {
        let mut all: BTreeMap<&ObjectRef, Vec<Option<&KeyBreaker>>> = BTreeMap::new();
        for (id, row) in &table.host_keys {
            let Row::Usable(key) = row else { continue };
            if !key.suspended {
                all.entry(&key.host).or_default().push(self.of_key(id).filter(|breaker| !breaker.is_closed()));
            }
        }
        let is_out = |keys: &Vec<Option<&KeyBreaker>>| keys.iter().any(Option::is_some);
        all.into_iter().filter(|(_, keys)| is_out(keys)).map(|(id, keys)| (id.clone(), host(&keys))).collect()
    }
}

/// Brings what is said up to what is so, where that may be said by now. Gives when the rest may be.
fn settle<B: Breaker>(
    shown: &mut HashMap<ObjectRef, Shown<B>>,
    out: &HashMap<ObjectRef, B>,
    is_there: impl Fn(&ObjectRef) -> bool,
    closed: &B,
    now: Timestamp,
) -> Option<Timestamp> {
    shown.retain(|id, _| is_there(id));
    for (id, breaker) in out.iter().filter(|(id, _)| is_there(id)) {
        if !shown.contains_key(id) {
            shown.insert(id.clone(), Shown { breaker: breaker.clone(), since: now });
        }
    }
    let mut next = None::<Timestamp>;
    for (id, Shown { breaker, since }) in shown {
        let so = out.get(id).unwrap_or(closed);
        if breaker.is_as(so) {
            continue;
        }
        let due = after(*since, APART);
        if now >= due {
            (*breaker, *since) = (so.clone(), now);
        } else {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    next
}

/// The keys that some pod does not draw, each with how many pods that are of how many.
fn out(acks: &Acks, fleets: &Fleets<'_>, table: &RoutingTable) -> HashMap<ObjectRef, KeyBreaker> {
    #[derive(Default)]
    struct Tally<'a> {
        pods: u32,
        classes: BTreeMap<&'a str, u32>,
        until: Option<Timestamp>,
    }
    let mut tallies: BTreeMap<&ObjectRef, Tally<'_>> = BTreeMap::new();
    for state in acks.pods.values().filter(|state| !state.is_away && !state.is_draining) {
        if !fleets.by_name.contains_key(&state.fleet) {
            continue;
        }
        for out in &state.out {
            let tally = tallies.entry(&out.host_key).or_default();
            tally.pods += 1;
            *tally.classes.entry(&out.class).or_default() += 1;
            tally.until = tally.until.max(out.until);
        }
    }
    let tallies = tallies.into_iter().filter(|(id, _)| table.host_keys.get(id).and_then(Row::usable).is_some());
    let breaker = |(id, tally): (&ObjectRef, Tally<'_>)| {
        let pods = fleets.by_name.values().map(|fleet| fleet.drawing(id)).sum::<usize>();
        let pods = u32::try_from(pods).unwrap_or(u32::MAX).max(tally.pods);
        let state = if tally.pods == pods { BreakerState::Open } else { BreakerState::Partial };
        let class = tally.classes.into_iter().max_by_key(|(_, pods)| *pods).map(|(class, _)| class.to_owned());
        let until = tally.until.map(|at| whole_seconds(at).to_string());
        (id.clone(), KeyBreaker { state, class, open_pods: Some(tally.pods), pods: Some(pods), until })
    };
    tallies.map(breaker).collect()
}

/// What the keys of a Host come to; an absent one is drawn.
fn host(keys: &[Option<&KeyBreaker>]) -> HostBreaker {
    let mut reasons: BTreeMap<&str, (u32, Option<&String>)> = BTreeMap::new();
    for key in keys.iter().flatten() {
        let (count, until) = reasons.entry(key.class.as_deref().unwrap_or_default()).or_default();
        *count += 1;
        *until = (*until).max(key.until.as_ref());
    }
    let is_open = |key: &Option<&KeyBreaker>| key.is_some_and(|key| key.state == BreakerState::Open);
    let state = if keys.iter().all(is_open) { BreakerState::Open } else { BreakerState::Partial };
    let reason = |(class, (open_keys, until)): (&str, (u32, Option<&String>))| OpenReason {
        class: class.to_owned(),
        open_keys,
        until: until.cloned(),
    };
    HostBreaker { state, reasons: Some(reasons.into_iter().map(reason).collect()) }
}

fn closed_key() -> KeyBreaker {
    KeyBreaker { state: BreakerState::Closed, class: None, open_pods: None, pods: None, until: None }
}

fn closed_host() -> HostBreaker {
    HostBreaker { state: BreakerState::Closed, reasons: None }
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
