//! Which statuses have to be written: a pure function of what was compiled, what the fleet holds, what became of tokens,
//! and what the objects say already.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use compiler::{ConditionType, Reason, Report, Resources};
use crds::{DataPlane, KeyBreaker, Kind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, core::ObjectMeta};
use serde::Serialize;
use serde_json::{Map, Value, json};
use table::{ObjectRef, RoutingTable, Row};

use super::{
    conditions::{Issue, Judgement, Programmed, awaits_token, dated, paused, words},
    data_plane,
    facts::Facts,
    fleet::{Acks, Fleets},
    health::Health,
    said::{Said, says_the_same},
};

/// The annotation with which the author of an object asks the operator to leave it alone.
pub const PAUSED: &str = "llmrelay.io/paused";

/// How long something has to be underway before it is taken back that an object is in effect or has its token: as long as
/// another replica may think that it leads, so that one of two which knows less takes nothing back.
pub const LASTING: Duration = Duration::from_secs(10);

/// The status of a DataPlane counts pods, which come and go: it is written no more often.
pub const COUNTED: Duration = Duration::from_secs(3);

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
    /// What data planes report of a HostKey; absent: nothing ever.
    pub breaker: Option<KeyBreaker>,
    /// What is underway has been so for long.
    pub is_lasting: bool,
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
    // This replica has not seen yet what another one has: it knows less, and has nothing to say.
    let is_issued = |issued: &&Condition| issued.status == "True" && issued.observed_generation == Some(generation);
    let has_token = said.condition("Issued").filter(is_issued).is_some();
    if subject.awaits_token() && !subject.is_lasting && !subject.is_paused && has_token {
        return Verdict::Same;
    }
    let status = if subject.is_paused {
        let mut status = base.status.as_object().cloned().unwrap_or_default();
        status.insert("conditions".to_owned(), json!(paused(&said, generation, now)));
        status
    } else {
        let mut status = subject.fields.clone();
        let Subject { report, programmed, issue, expires_at, breaker, is_lasting, .. } = subject;
        let (issue, breaker) = (issue.as_ref(), breaker.as_ref());
        let (expires_at, is_lasting) = (*expires_at, *is_lasting);
        let judgement = Judgement { report, programmed, issue, expires_at, breaker, is_lasting };
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
    pub fleets: &'a Fleets<'a>,
    /// What they report of host keys.
    pub health: &'a Health,
    /// The fleets that DataPlanes describe, to say how they are.
    pub described: &'a [Described<'a>],
}

/// A fleet that a DataPlane describes.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// Its name.
    pub id: &'a ObjectRef,
    /// The object.
    pub data_plane: &'a DataPlane,
    /// What goes to it.
    pub table: &'a RoutingTable,
    /// What its pods say.
    pub acks: &'a Acks,
    /// The digest of what goes to it.
    pub root: &'a str,
}

/// An object as it was heard of last. `None`: it cannot be read, or is gone.
pub type Seen = Option<Base>;

/// What was settled about each object, so that rounds pass quickly over those of which nothing new is known.
#[derive(Debug, Default)]
pub struct Rounds {
    settled: HashMap<(Kind, ObjectRef), u64>,
    underway: HashMap<(Kind, ObjectRef), Timestamp>,
    /// When DataPlanes were given last.
    counted: HashMap<ObjectRef, Timestamp>,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Round {
    /// The objects of which something new is known.
    pub subjects: Vec<Subject>,
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
        let reported = view.reports.iter().map(|report| {
            let is_malformed = malformed.contains(&(report.kind, &report.id));
            subject(view, report, tokens, is_malformed)
        });
        // While other replicas have not spoken, the numbers would be wrong.
        let described = view.described.iter().filter(|_| !view.fleets.is_gathering);
        let described = described.filter(|described| !malformed.contains(&(Kind::DataPlane, described.id)));
        for (mut subject, seen) in reported.chain(described.map(|described| fleet(view, described))) {
            round.wake_at(subject.expires_at.filter(|at| *at > now));
            let key = (subject.kind, subject.id.clone());
            let since = subject.is_underway().then(|| self.underway.get(&key).copied().unwrap_or(now));
            if let Some(since) = since {
                underway.insert(key.clone(), since);
                subject.is_lasting = now >= after(since, LASTING);
                round.wake_at(Some(after(since, LASTING)).filter(|at| *at > now));
            }
            let print = fingerprint(&subject, seen, now);
            if self.settled.get(&key) == Some(&print) {
                continue;
            }
            let until = since.map(|since| after(since, PATIENCE));
            let counted = self.counted.get(&key.1).filter(|_| subject.kind == Kind::DataPlane);
            let until = until.max(counted.map(|last| after(*last, COUNTED)));
            if until.is_some_and(|until| now < until) {
                round.wake_at(until);
                continue;
            }
            if subject.kind == Kind::DataPlane {
                self.counted.insert(key.1.clone(), now);
            }
            self.settled.insert(key, print);
            round.subjects.push(subject);
        }
        self.underway = underway;
        self.counted.retain(|_, last| now < after(*last, COUNTED));
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
        self.underway.clear();
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
        self.awaits_token() || (!self.report.is_refused() && self.programmed.is_underway())
    }

    fn awaits_token(&self) -> bool {
        awaits_token(&self.report, self.issue.as_ref())
    }
}

fn subject<'a>(
    view: &View<'a>,
    report: &Report,
    tokens: &impl Tokens,
    is_malformed: bool,
) -> (Subject, Option<&'a ObjectMeta>) {
    let (kind, id) = (report.kind, &report.id);
    let resources = view.resources;
    let mut fields = view.facts.fields(kind, id);
    let mut issue = None;
    let mut expires_at = None;
    let seen = match kind {
        _ if is_malformed => None,
        Kind::Host => resources.hosts.get(id).map(|object| object.meta()),
        Kind::Model => resources.models.get(id).map(|object| object.meta()),
        Kind::HostKey => resources.host_keys.get(id).map(|object| {
            expires_at = object.spec.expires_at.as_ref().and_then(crds::Instant::timestamp);
            object.meta()
        }),
        Kind::RelayKey => resources.relay_keys.get(id).map(|object| {
            expires_at = object.spec.expires_at.as_ref().and_then(crds::Instant::timestamp);
            if object.spec.secret.is_some() {
                issue = tokens.issue(id);
                fields.extend(tokens.fields(id));
            }
            object.meta()
        }),
        Kind::Policy => resources.policies.get(id).map(|object| object.meta()),
        // A fleet is not compiled, so that only one which cannot be read has a report.
        Kind::DataPlane => None,
    };
    let breaker = view.health.of_key(id).filter(|_| kind == Kind::HostKey).cloned();
    if let Some(breaker) = &breaker {
        fields.insert("breaker".to_owned(), json!(breaker));
    }
    if let Some(breaker) = view.health.of_host(id).filter(|_| kind == Kind::Host && !fields.is_empty()) {
        let open: u32 = breaker.reasons.iter().flatten().map(|reason| reason.open_keys).sum();
        if open > 0 {
            fields["keys"]["open"] = json!(open);
        }
        fields.insert("breaker".to_owned(), json!(breaker));
    }
    let is_paused = seen.is_some_and(asks_for_pause);
    let subject = Subject {
        kind,
        id: id.clone(),
        report: report.clone(),
        programmed: programmed(view, kind, id),
        issue,
        expires_at,
        breaker,
        is_lasting: false,
        is_paused,
        fields,
    };
    (subject, seen)
}

/// A DataPlane, of which nothing is compiled: all that can be wrong with it is that nobody serves.
fn fleet<'a>(view: &View<'_>, described: &Described<'a>) -> (Subject, Option<&'a ObjectMeta>) {
    let Described { id, data_plane, table, acks, root } = *described;
    let name = Some(id.clone());
    let accepted = compiler::Condition {
        r#type: ConditionType::Accepted,
        status: true,
        reason: Reason::Accepted,
        message: String::new(),
    };
    let report = Report {
        kind: Kind::DataPlane,
        id: id.clone(),
        observed_generation: data_plane.metadata.generation,
        conditions: vec![accepted],
        unmatched_globs: Vec::new(),
    };
    let programmed = match view.fleets.by_name.get(&name) {
        _ if data_plane.spec.selector.is_some() && data_plane::is_empty(table) => Programmed::SelectsNothing,
        Some(fleet) => fleet.programmed(),
        None => Programmed::Deserted,
    };
    let subject = Subject {
        kind: Kind::DataPlane,
        id: id.clone(),
        report,
        programmed,
        issue: None,
        expires_at: None,
        breaker: None,
        is_lasting: false,
        is_paused: asks_for_pause(data_plane.meta()),
        fields: data_plane::fields(&name, acks, root),
    };
    (subject, Some(data_plane.meta()))
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
    if is_usable { view.fleets.programmed(kind, id) } else { Programmed::NotInTable }
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

/// Equal while nothing new is known. What the object's status says is no part of it: that is what comes of this, and who
/// finds that somebody else has written something there has the object [forgotten](Rounds::forget).
fn fingerprint(subject: &Subject, seen: Option<&ObjectMeta>, now: Timestamp) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Subject { report, programmed, issue, expires_at, is_lasting, is_paused, fields, .. } = subject;
    report.observed_generation.hash(&mut hasher);
    for condition in &report.conditions {
        (condition.r#type as u8, condition.status, condition.reason as u8, &condition.message).hash(&mut hasher);
    }
    (programmed, issue, is_lasting, is_paused, expires_at.is_some_and(|at| at <= now)).hash(&mut hasher);
    fields.hash(&mut hasher);
    seen.map(|meta| (&meta.uid, meta.generation)).hash(&mut hasher);
    hasher.finish()
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
