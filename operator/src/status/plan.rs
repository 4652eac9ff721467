//! Which statuses have to be written: a pure function of what was compiled, what the fleet holds, what became of tokens,
//! and what the objects say already.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use compiler::{Report, Resources};
use crds::Kind;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, core::ObjectMeta};
use serde::Serialize;
use serde_json::{Map, Value, json};
use table::{ObjectRef, RoutingTable, Row};

use super::{
    conditions::{Issue, Judgement, Programmed, dated, paused, words},
    facts::Facts,
    fleet::Fleet,
    ledger::Ledger,
    said::{Said, says_the_same},
};

/// The annotation with which the author of an object asks the operator to leave it alone.
pub const PAUSED: &str = "llmrelay.io/paused";

/// How long an object whose acknowledgements or token are on their way is given before it is said that they are missing.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// One object with all that is known of it: enough to write its status, and to judge anew if the object has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub id: ObjectRef,
    /// What the compiler found.
    pub report: Report,
    /// What the fleet acknowledged.
    pub programmed: Programmed,
    /// What became of its token, if it is a RelayKey with `spec.secret`.
    pub issue: Option<Issue>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// Its author asks for it to be left alone.
    pub is_paused: bool,
    /// The fields of its status besides generation and conditions.
    pub fields: Map<String, Value>,
}

/// An object as it was seen, and what its status says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// Which object: one that was made anew under the same name is another.
    pub uid: String,
    /// Which version of it.
    pub version: String,
    /// The generation of its spec.
    pub generation: i64,
    /// Its status; null where it has none.
    pub status: Value,
}

/// Whether a status has to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It says all of this already.
    Same,
    /// What is known is about an older generation than what it says, or than the object has: silence until that was compiled.
    Stale,
    /// This.
    Write(Value),
}

/// What to say of a subject that was last seen as `base`.
pub fn verdict(subject: &Subject, base: &Base, now: Timestamp) -> Verdict {
    let said = Said::of(&base.status);
    let generation = subject.report.observed_generation.unwrap_or(base.generation);
    if generation < base.generation || said.newest_generation().is_some_and(|newest| generation < newest) {
        return Verdict::Stale;
    }
    let status = if subject.is_paused {
        let mut status = base.status.as_object().cloned().unwrap_or_default();
        status.insert("conditions".to_owned(), json!(paused(&said, generation, now)));
        status
    } else {
        let mut status = subject.fields.clone();
        let Subject { report, programmed, issue, expires_at, .. } = subject;
        let judgement = Judgement { report, programmed, issue: issue.as_ref(), expires_at: *expires_at };
        let conditions = dated(words(judgement, &said, generation, now), &said, generation, now);
        status.insert("observedGeneration".to_owned(), json!(generation));
        status.insert("conditions".to_owned(), json!(conditions));
        status
    };
    let status = Value::Object(status);
    if says_the_same(&status, &base.status) { Verdict::Same } else { Verdict::Write(status) }
}

/// What a RelayKey's token came to, for its status.
pub trait Tokens {
    /// Of a RelayKey with `spec.secret`; `None`: it needs no token any more.
    fn issue(&self, key: &ObjectRef) -> Option<Issue>;
    /// The fields of the status that tell of tokens.
    fn fields(&self, key: &ObjectRef) -> Map<String, Value>;
}

/// Everything that statuses are about at one moment.
pub struct View<'a> {
    /// The objects that were compiled.
    pub resources: &'a Resources,
    /// What came of it.
    pub reports: &'a [Report],
    /// The same.
    pub table: &'a RoutingTable,
    /// Read off the table.
    pub facts: &'a Facts,
    /// What data planes hold.
    pub fleet: &'a Fleet<'a>,
    /// Since when objects are as they are.
    pub ledger: &'a Ledger,
}

/// One object that has to be looked at again, as it was seen when it was compiled. `None`: it could not even be read.
pub type Seen = Option<Base>;

/// What was settled about each object, so that rounds pass quickly over those of which nothing new is known.
#[derive(Debug, Default)]
pub struct Rounds {
    settled: HashMap<(Kind, ObjectRef), u64>,
    underway: HashMap<(Kind, ObjectRef), Timestamp>,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Round {
    /// The objects of which something new is known.
    pub subjects: Vec<(Subject, Seen)>,
    /// When the next round is due even if nothing happens.
    pub next: Option<Timestamp>,
}

impl Rounds {
    /// Looks at all objects. Those that it gives are not given again until something new is known of them, or until
    /// they are [forgotten](Self::forget).
    pub fn round(&mut self, view: &View<'_>, tokens: &impl Tokens, now: Timestamp) -> Round {
        let mut round = Round::default();
        let mut underway = HashMap::new();
        let malformed: HashSet<(Kind, &ObjectRef)> =
            view.resources.malformed.iter().map(|malformed| (malformed.kind, &malformed.id)).collect();
        for report in view.reports {
            let is_malformed = malformed.contains(&(report.kind, &report.id));
            let (subject, seen) = subject(view, report, tokens, is_malformed);
            round.wake_at(subject.expires_at.filter(|at| *at > now));
            let print = fingerprint(&subject, seen.as_ref(), now);
            let key = (subject.kind, subject.id.clone());
            if self.settled.get(&key) == Some(&print) {
                continue;
            }
            if subject.is_underway() {
                let since = self.underway.get(&key).copied().unwrap_or(now);
                let until = after(since, PATIENCE);
                underway.insert(key.clone(), since);
                if now < until {
                    round.wake_at(Some(until));
                    continue;
                }
            }
            self.settled.insert(key, print);
            round.subjects.push((subject, seen));
        }
        self.underway = underway;
        if self.settled.len() > 2 * view.reports.len() + 1024 {
            let known: HashSet<(Kind, &ObjectRef)> =
                view.reports.iter().map(|report| (report.kind, &report.id)).collect();
            self.settled.retain(|(kind, id), _| known.contains(&(*kind, id)));
        }
        round
    }

    /// Has the object looked at again in the next round: what was to be written of it was not.
    pub fn forget(&mut self, kind: Kind, id: &ObjectRef) {
        self.settled.remove(&(kind, id.clone()));
    }

    /// Has every object looked at again.
    pub fn forget_all(&mut self) {
        self.settled.clear();
    }
}

impl Round {
    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.next = match (self.next, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

impl Subject {
    /// Whether what is missing may be on its way.
    fn is_underway(&self) -> bool {
        self.issue == Some(Issue::Pending) || (!self.report.is_refused() && self.programmed.is_underway())
    }
}

fn subject(view: &View<'_>, report: &Report, tokens: &impl Tokens, is_malformed: bool) -> (Subject, Seen) {
    let (kind, id) = (report.kind, &report.id);
    let resources = view.resources;
    let mut fields = view.facts.fields(kind, id);
    let mut issue = None;
    let mut expires_at = None;
    let seen = match kind {
        _ if is_malformed => None,
        Kind::Host => resources.hosts.get(id).map(|object| (object.meta(), value(&object.status))),
        Kind::Model => resources.models.get(id).map(|object| (object.meta(), value(&object.status))),
        Kind::HostKey => resources.host_keys.get(id).map(|object| {
            expires_at = object.spec.expires_at.as_ref().and_then(crds::Instant::timestamp);
            (object.meta(), value(&object.status))
        }),
        Kind::RelayKey => resources.relay_keys.get(id).map(|object| {
            expires_at = object.spec.expires_at.as_ref().and_then(crds::Instant::timestamp);
            if object.spec.secret.is_some() {
                issue = tokens.issue(id);
                fields.extend(tokens.fields(id));
            }
            (object.meta(), value(&object.status))
        }),
        Kind::Policy => resources.policies.get(id).map(|object| (object.meta(), value(&object.status))),
        // A fleet is not compiled, so that only one which cannot be read has a report, and none has a status from here.
        Kind::DataPlane => None,
    };
    let is_paused = seen.as_ref().is_some_and(|(meta, _)| asks_for_pause(meta));
    let programmed = programmed(view, kind, id);
    let subject =
        Subject { kind, id: id.clone(), report: report.clone(), programmed, issue, expires_at, is_paused, fields };
    (subject, seen.map(|(meta, status)| base(meta, status)))
}

fn programmed(view: &View<'_>, kind: Kind, id: &ObjectRef) -> Programmed {
    let table = view.table;
    let is_usable = match kind {
        Kind::Host => matches!(table.hosts.get(id), Some(Row::Usable(_))),
        Kind::Model => matches!(table.models.get(id), Some(Row::Usable(_))),
        Kind::HostKey => matches!(table.host_keys.get(id), Some(Row::Usable(_))),
        Kind::RelayKey => matches!(table.relay_keys.get(id), Some(Row::Usable(_))),
        Kind::Policy => matches!(table.policies.get(id), Some(Row::Usable(_))),
        Kind::DataPlane => false,
    };
    match view.ledger.since(kind, id) {
        Some(since) if is_usable => {
            Programmed::judge(view.fleet.held(since), view.fleet.nack(kind, id), view.fleet.is_deserted())
        }
        Some(_) | None => Programmed::NotInTable,
    }
}

/// Whether the author of an object asks for it to be left alone.
pub fn asks_for_pause(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().and_then(|all| all.get(PAUSED)).is_some_and(|value| value == "true")
}

/// An object's metadata and status as a base.
pub fn base(meta: &ObjectMeta, status: Value) -> Base {
    Base {
        uid: meta.uid.clone().unwrap_or_default(),
        version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
        status,
    }
}

/// A status as JSON; null where there is none.
pub fn value(status: &Option<impl Serialize>) -> Value {
    status.as_ref().and_then(|status| serde_json::to_value(status).ok()).unwrap_or(Value::Null)
}

/// Equal while nothing new is known.
fn fingerprint(subject: &Subject, seen: Option<&Base>, now: Timestamp) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Subject { report, programmed, issue, expires_at, is_paused, fields, .. } = subject;
    report.observed_generation.hash(&mut hasher);
    for condition in &report.conditions {
        (condition.r#type as u8, condition.status, condition.reason as u8, &condition.message).hash(&mut hasher);
    }
    (programmed, issue, is_paused, expires_at.is_some_and(|at| at <= now)).hash(&mut hasher);
    Value::Object(fields.clone()).to_string().hash(&mut hasher);
    seen.map(|base| (&base.uid, base.generation, base.status.to_string())).hash(&mut hasher);
    hasher.finish()
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
