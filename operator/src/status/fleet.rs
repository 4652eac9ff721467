//! What data planes say that they hold.

use std::{collections::BTreeMap, fmt};

use crds::Kind;
use table::ObjectRef;

use super::ledger::Ledger;

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

/// What connected pods hold, whichever replica they hang on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// By pod; one that is not connected to any replica is absent.
    pub pods: BTreeMap<PodId, PodState>,
}

/// What one pod holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// The root digest of the table that it serves by, as hex; absent: it has none yet.
    pub root: Option<String>,
    /// The revision under which its replica sent that table; counted by that replica, and only shown.
    pub revision: u64,
    /// What it did not take of that table.
    pub nacks: Vec<Nack>,
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

/// What is known of the fleet, arranged so that it can be asked about each of thousands of objects.
#[derive(Debug, Default)]
pub struct Fleet<'a> {
    /// Pods that hold a table of the ledger, by its place there, the oldest first.
    known: Vec<(u64, &'a PodId)>,
    /// Pods that hold another table or none.
    unknown: Vec<&'a PodId>,
    nacks: BTreeMap<(Kind, &'a ObjectRef), (&'a PodId, &'a Nack)>,
    is_deserted: bool,
}

/// How many pods hold an object as it was compiled last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The fleet as `acks` and the ledger show it. `is_deserted` says that no pod has been connected for long.
    pub fn new(acks: &'a Acks, ledger: &Ledger, is_deserted: bool) -> Self {
        let mut fleet = Self { is_deserted, ..Self::default() };
        for (pod, state) in &acks.pods {
            match state.root.as_deref().and_then(|root| ledger.place(root)) {
                Some(place) => fleet.known.push((place, pod)),
                None => fleet.unknown.push(pod),
            }
            for nack in &state.nacks {
                fleet.nacks.entry((nack.kind, &nack.id)).or_insert((pod, nack));
            }
        }
        fleet.known.sort_unstable();
        fleet
    }

    /// Who holds what was compiled at `since`, a place in the ledger.
    pub fn held(&self, since: u64) -> Held<'a> {
        let behind = self.known.partition_point(|(place, _)| *place < since);
        let waiting_for = self.known[..behind].first().map(|(_, pod)| *pod).or(self.unknown.first().copied());
        Held { by: self.known.len() - behind, behind, unknown: self.unknown.len(), waiting_for }
    }

    /// The first pod that did not take the object, and why.
    pub fn nack(&self, kind: Kind, id: &ObjectRef) -> Option<(&'a PodId, &'a Nack)> {
        self.nacks.get(&(kind, id)).copied()
    }

    /// Whether no pod is connected.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// Whether no pod has been connected for long.
    pub fn is_deserted(&self) -> bool {
        self.is_deserted && self.is_empty()
    }

    /// How many pods are connected.
    pub fn size(&self) -> usize {
        self.known.len() + self.unknown.len()
    }
}
