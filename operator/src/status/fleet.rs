//! What data planes say that they hold, fleet by fleet.

use std::{collections::BTreeMap, fmt};

use crds::Kind;
use jiff::Timestamp;
use table::{ObjectRef, RoutingTable, Row};

use super::{
    conditions::{Missing, Programmed},
    ledger::Ledger,
};

/// One pod of a data plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodId {
    /// The pod `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The DataPlane that describes a fleet; absent: there is none in the cluster, and all pods get all that is compiled.
pub type FleetName = Option<ObjectRef>;

/// What connected pods hold, whichever replica they hang on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// By pod; one that has not been connected to any replica for a while is absent.
    pub pods: BTreeMap<PodId, PodState>,
}

/// What one pod holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// The fleet that it belongs to.
    pub fleet: FleetName,
    /// The root digest of the table that it serves by, as hex; absent: it has none yet.
    pub root: Option<String>,
    /// The revision under which its replica sent that table; counted by that replica, and only shown.
    pub revision: u64,
    /// It has not answered since it connected: what it did not take of its table is not known.
    pub is_silent: bool,
    /// What it did not take of that table.
    pub nacks: Vec<Nack>,
    /// Why it did not take the last table at all.
    pub refused: Option<String>,
    /// Host keys that it does not draw.
    pub out: Vec<Out>,
    /// The version of its program.
    pub build: String,
    /// What it has is of an earlier run.
    pub is_restored: bool,
    /// It is shutting down.
    pub is_draining: bool,
    /// It was connected until a moment ago.
    pub is_away: bool,
}

/// One entry that a pod did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The kind of the object whose entry it is.
    pub kind: Kind,
    /// The object.
    pub id: ObjectRef,
    /// Why, in one word.
    pub code: String,
    /// Why, for people.
    pub message: String,
}

/// A host key whose breaker is not closed at a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// The HostKey.
    pub host_key: ObjectRef,
    /// The class of failure that opened it.
    pub class: String,
    /// When it will be tried again; absent: it is being tried.
    pub until: Option<Timestamp>,
}

/// What is served to one fleet, and what it was before.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// What its pods route by.
    pub table: &'a RoutingTable,
    /// Since when each object is as it is there.
    pub ledger: &'a Ledger,
    /// No pod of it has been connected for long.
    pub is_deserted: bool,
}

/// What is known of one fleet, arranged so that it can be asked about each of thousands of objects.
#[derive(Debug)]
pub struct Fleet<'a> {
    served: Served<'a>,
    /// Pods that hold a table of the ledger, by its place there, the oldest first.
    known: Vec<(u64, &'a PodId)>,
    /// Pods that hold another table or none, or have not said what they took of it.
    unknown: Vec<&'a PodId>,
    /// The same as `known`, of pods that left a moment ago and may come back.
    away: Vec<(u64, &'a PodId)>,
    nacks: BTreeMap<(Kind, &'a ObjectRef), (&'a PodId, &'a Nack)>,
    /// Objects that pods did not take which left a moment ago.
    away_nacks: BTreeMap<(Kind, &'a ObjectRef), &'a PodId>,
}

/// How many pods hold an object as it was compiled last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held<'a> {
    /// Those that do.
    pub by: usize,
    /// Those that hold an older state of it.
    pub behind: usize,
    /// Those of which it is not known.
    pub unknown: usize,
    /// One of those that are behind, or else of those of which it is not known.
    pub waiting_for: Option<&'a PodId>,
}

impl<'a> Fleet<'a> {
    /// The fleet of this name as `acks` and its ledger show it. Pods that are shutting down do not count.
    pub fn new(name: &FleetName, acks: &'a Acks, served: Served<'a>) -> Self {
        let mut fleet = Self {
            served,
            known: Vec::new(),
            unknown: Vec::new(),
            away: Vec::new(),
            nacks: BTreeMap::new(),
            away_nacks: BTreeMap::new(),
        };
        for (pod, state) in acks.pods.iter().filter(|(_, state)| state.fleet == *name && !state.is_draining) {
            let place = state.root.as_deref().and_then(|root| served.ledger.place(root));
            match place {
                _ if state.is_away => fleet.away.push((place.unwrap_or(0), pod)),
                Some(place) if !state.is_silent => fleet.known.push((place, pod)),
                Some(_) | None => fleet.unknown.push(pod),
            }
            for nack in &state.nacks {
                if state.is_away {
                    fleet.away_nacks.entry((nack.kind, &nack.id)).or_insert(pod);
                } else {
                    fleet.nacks.entry((nack.kind, &nack.id)).or_insert((pod, nack));
                }
            }
        }
        fleet.known.sort_unstable();
        fleet.away.sort_unstable();
        fleet
    }

    /// Who holds what came to be at `since`, a place in the ledger. One who left a moment ago holds nothing, but may come
    /// back with something older.
    pub fn held(&self, since: u64) -> Held<'a> {
        let behind = self.known.partition_point(|(place, _)| *place < since);
        let away = self.away.partition_point(|(place, _)| *place < since);
        let first = |pods: &[(u64, &'a PodId)]| pods.first().map(|(_, pod)| *pod);
        let unknown = self.unknown.first().copied().or(first(&self.away[..away]));
        Held {
            by: self.known.len() - behind,
            behind,
            unknown: self.unknown.len() + away,
            waiting_for: first(&self.known[..behind]).or(unknown),
        }
    }

    /// Whether all that is served has reached every pod of the fleet.
    pub fn programmed(&self) -> Programmed {
        if let Some(((kind, id), (pod, nack))) = self.nacks.first_key_value() {
            let message = format!("{kind} `{id}`: {}", nack.message);
            return Programmed::Nacked { pod: pod.to_string(), code: nack.code.clone(), message };
        }
        judge(
            self.held(self.served.ledger.latest()),
            self.away_nacks.first_key_value().map(|(_, pod)| *pod),
            self.served.is_deserted,
        )
    }

    /// How many pods could draw a host key, if they have this one.
    pub fn drawing(&self, key: &ObjectRef) -> usize {
        let has_it = matches!(self.served.table.host_keys.get(key), Some(Row::Usable(_)));
        if has_it { self.known.len() + self.unknown.len() } else { 0 }
    }
}

/// All fleets.
#[derive(Debug, Default)]
pub struct Fleets<'a> {
    /// By name; those of DataPlanes, or the one of all pods where there is no DataPlane.
    pub by_name: BTreeMap<&'a FleetName, Fleet<'a>>,
    /// Other replicas have not had the time yet to say what their pods hold.
    pub is_gathering: bool,
}

/// What a fleet was given of an object.
enum Share<'a> {
    Nothing,
    Unusable(&'a str),
    Usable,
}

impl<'a> Fleets<'a> {
    /// Whether an object that is usable is in effect wherever it should be: at every pod of each fleet that it goes to.
    pub fn programmed(&self, kind: Kind, id: &ObjectRef) -> Programmed {
        let mut unusable = None;
        let mut nack = None;
        let mut missed = None;
        let (mut held, mut serving, mut deserted) = (Held::default(), 0, 0);
        for (name, fleet) in &self.by_name {
            match (share(fleet.served.table, kind, id), fleet.served.ledger.since(kind, id)) {
                (Share::Usable, Some(since)) => {
                    held = held + fleet.held(since);
                    serving += 1;
                    deserted += usize::from(fleet.served.is_deserted);
                    nack = nack.or(fleet.nacks.get(&(kind, id)));
                    missed = missed.or(fleet.away_nacks.get(&(kind, id)).copied());
                }
                (Share::Unusable(why), _) => unusable = unusable.or(Some((*name, why))),
                (Share::Nothing | Share::Usable, _) => {}
            }
        }
        if let Some((pod, Nack { code, message, .. })) = nack {
            return Programmed::Nacked { pod: pod.to_string(), code: code.clone(), message: message.clone() };
        }
        match unusable {
            _ if serving > 0 => {}
            Some((Some(name), why)) => {
                return Programmed::UnusableIn { data_plane: name.to_string(), why: why.to_owned() };
            }
            Some((None, _)) => return Programmed::NotInTable,
            None => return Programmed::Unselected,
        }
        match judge(held, missed, deserted == serving) {
            Programmed::Everywhere | Programmed::Unsaid(Missing::Pods) if self.is_gathering => {
                Programmed::Unsaid(Missing::Replicas)
            }
            judged => judged,
        }
    }
}

fn judge(held: Held<'_>, missed: Option<&PodId>, is_deserted: bool) -> Programmed {
    let of = held.by + held.behind + held.unknown;
    let for_pod = held.waiting_for.or(missed).map(ToString::to_string).unwrap_or_default();
    match held {
        _ if of == 0 && is_deserted => Programmed::Deserted,
        Held { behind: 1.., by, .. } => Programmed::Waiting { by, of, for_pod },
        Held { unknown: 1.., .. } => Programmed::Unsaid(Missing::WordOf(for_pod)),
        _ if missed.is_some() => Programmed::Unsaid(Missing::WordOf(for_pod)),
        _ if of == 0 => Programmed::Unsaid(Missing::Pods),
        Held { .. } => Programmed::Everywhere,
    }
}

impl std::ops::Add for Held<'_> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // A pod that is behind says more than one of which nothing is known.
        let waiting_for = if self.behind == 0 && other.behind > 0 {
            other.waiting_for.or(self.waiting_for)
        } else {
            self.waiting_for.or(other.waiting_for)
        };
        Self {
            by: self.by + other.by,
            behind: self.behind + other.behind,
            unknown: self.unknown + other.unknown,
            waiting_for,
        }
    }
}

fn share<'a>(table: &'a RoutingTable, kind: Kind, id: &ObjectRef) -> Share<'a> {
    fn of<'a, T>(row: Option<&'a Row<T>>) -> Share<'a> {
        match row {
            None => Share::Nothing,
            Some(Row::Invalid { reason }) => Share::Unusable(reason),
            Some(Row::Usable(_)) => Share::Usable,
        }
    }
    match kind {
        Kind::Host => of(table.hosts.get(id)),
        Kind::Model => of(table.models.get(id)),
        Kind::HostKey => of(table.host_keys.get(id)),
        Kind::RelayKey => of(table.relay_keys.get(id)),
        Kind::Policy => of(table.policies.get(id)),
        Kind::DataPlane => Share::Nothing,
    }
}

#[cfg(test)]
mod tests;
