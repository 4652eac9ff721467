//! What is found out about each object while it is compiled, and the conditions that follow from it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crds::Kind;
use foldhash::fast::RandomState;
use kube::Resource;
use table::{ObjectRef, Row};

use crate::{
    Resources,
    reports::{Condition, ConditionType, Reason, Report},
};

/// A reason and the words that go with it.
pub(crate) type Problem = (Reason, String);

/// What is known of one object so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    generation: Option<i64>,
    refused: Vec<Problem>,
    unresolved: Vec<Problem>,
    unready: Option<Problem>,
    notes: Vec<String>,
    is_revoked: bool,
    unmatched_globs: Vec<String>,
}

impl Findings {
    /// A field is wrong, and the object cannot be used.
    pub(crate) fn refuse(&mut self, message: String) {
        self.refused.push((Reason::Invalid, message));
    }

    /// Another object has what this one claims.
    pub(crate) fn conflict(&mut self, message: String) {
        self.refused.push((Reason::Conflicted, message));
    }

    /// Something that the object names is not there or not open to it.
    pub(crate) fn unresolved(&mut self, (reason, message): Problem) {
        match reason {
            Reason::Invalid => self.refuse(message),
            _ => self.unresolved.push((reason, message)),
        }
    }

    /// The object is right but does not serve at the moment. The first word stands.
    pub(crate) fn unready(&mut self, reason: Reason, message: String) {
        self.unready.get_or_insert((reason, message));
    }

    /// Something that its author should know though nothing is wrong.
    pub(crate) fn note(&mut self, message: String) {
        self.notes.push(message);
    }

    /// The object is refused for good, as its author wants.
    pub(crate) fn revoke(&mut self) {
        self.is_revoked = true;
        self.unready(Reason::Revoked, "spec.revoked is true".to_owned());
    }

    /// Patterns that match nothing.
    pub(crate) fn unmatched(&mut self, globs: Vec<String>) {
        self.unmatched_globs = globs;
    }

    /// The value, or the default after having noted why there is none.
    pub(crate) fn checked<T: Default>(&mut self, result: Result<T, String>) -> T {
        result.unwrap_or_else(|message| {
            self.refuse(message);
            T::default()
        })
    }

    /// The value, or nothing after having noted why it cannot be had.
    pub(crate) fn resolved<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.unresolved(problem)).ok()
    }

    /// The row of an object that cannot do without anything that it names.
    pub(crate) fn row_if_resolved<T>(&self, object: T) -> Row<T> {
        match self.words(self.refused.iter().chain(&self.unresolved)) {
            Some(reason) => Row::Invalid { reason },
            None => Row::Usable(object),
        }
    }

    /// The row of an object that can do with a part of what it names.
    pub(crate) fn row_if_accepted<T>(&self, object: T) -> Row<T> {
        match self.words(self.refused.iter()) {
            Some(reason) => Row::Invalid { reason },
            None => Row::Usable(object),
        }
    }

    fn words<'a>(&self, problems: impl Iterator<Item = &'a Problem>) -> Option<String> {
        let words: Vec<&str> = problems.map(|(_, message)| message.as_str()).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    fn report(self, kind: Kind, id: ObjectRef) -> Report {
        let refused = summary(&self.refused);
        let unresolved = summary(&self.unresolved);
        let unready = refused.clone().or_else(|| unresolved.clone()).or(self.unready);
        let mut conditions = vec![
            condition(ConditionType::Accepted, refused.clone(), Reason::Accepted, self.notes.join("; ")),
            condition(ConditionType::ResolvedRefs, unresolved, Reason::ResolvedRefs, String::new()),
            condition(ConditionType::Ready, unready, Reason::Ready, String::new()),
        ];
        if self.is_revoked {
            let message = "spec.revoked is true".to_owned();
            conditions.push(Condition {
                r#type: ConditionType::Revoked,
                status: true,
                reason: Reason::Revoked,
                message,
            });
        }
        if let Some((reason @ Reason::Conflicted, message)) = refused {
            conditions.push(Condition { r#type: ConditionType::Conflicted, status: true, reason, message });
        }
        let unmatched_globs = self.unmatched_globs;
        Report { kind, id, observed_generation: self.generation, conditions, unmatched_globs }
    }
}

/// The reason of the first problem, and the words of all.
fn summary(problems: &[Problem]) -> Option<Problem> {
    let (reason, _) = problems.first()?;
    let words: Vec<&str> = problems.iter().map(|(_, message)| message.as_str()).collect();
    Some((*reason, words.join("; ")))
}

fn condition(r#type: ConditionType, problem: Option<Problem>, good: Reason, note: String) -> Condition {
    match problem {
        Some((reason, message)) => Condition { r#type, status: false, reason, message },
        None => Condition { r#type, status: true, reason: good, message: note },
    }
}

/// The findings of all objects, by kind.
#[derive(Debug)]
pub(crate) struct Reports<'a>([OfKind<'a>; Kind::ALL.len()]);

/// The findings of a kind's objects, and where each object's are.
#[derive(Debug, Default)]
struct OfKind<'a> {
    /// In the order of objects; those that could not be read at all come last.
    found: Vec<(&'a ObjectRef, Findings)>,
    /// Made when somebody asks: where nothing is wrong nobody does.
    places: Option<HashMap<&'a ObjectRef, usize, RandomState>>,
    is_out_of_order: bool,
}

impl<'a> OfKind<'a> {
    fn of(&mut self, id: &ObjectRef) -> Option<&mut Findings> {
        let Self { found, places, .. } = self;
        let places =
            places.get_or_insert_with(|| found.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect());
        Some(&mut found[*places.get(id)?].1)
    }

    fn entry(&mut self, id: &'a ObjectRef) -> &mut Findings {
        if self.of(id).is_none() {
            if let Some(places) = &mut self.places {
                places.insert(id, self.found.len());
            }
            self.found.push((id, Findings::default()));
            self.is_out_of_order = true;
        }
        self.of(id).expect("it was there or was put there")
    }
}

impl<'a> Reports<'a> {
    pub(crate) fn for_each(resources: &'a Resources) -> Self {
        let mut all = Self(Kind::ALL.map(|_| OfKind::default()));
        all.begin(Kind::Host, &resources.hosts);
        all.begin(Kind::Model, &resources.models);
        all.begin(Kind::HostKey, &resources.host_keys);
        all.begin(Kind::RelayKey, &resources.relay_keys);
        all.begin(Kind::Policy, &resources.policies);
        for malformed in &resources.malformed {
            all.0[malformed.kind as usize].entry(&malformed.id).refuse(malformed.reason.clone());
        }
        all
    }

    fn begin(&mut self, kind: Kind, objects: &'a BTreeMap<ObjectRef, Arc<impl Resource>>) {
        let begun = objects.iter().map(|(id, object)| {
            let generation = object.meta().generation;
            (id, Findings { generation, ..Findings::default() })
        });
        self.0[kind as usize].found = begun.collect();
    }

    /// The findings of a kind's objects, in their order.
    pub(crate) fn in_order(&mut self, kind: Kind) -> impl Iterator<Item = &mut Findings> {
        self.0[kind as usize].found.iter_mut().map(|(_, findings)| findings)
    }

    /// The findings of one of the objects.
    pub(crate) fn of(&mut self, kind: Kind, id: &ObjectRef) -> &mut Findings {
        let found = self.0[kind as usize].of(id);
        found.expect("rows are only made of objects, and every object has findings")
    }

    pub(crate) fn finish(self) -> Vec<Report> {
        let mut reports = Vec::with_capacity(self.0.iter().map(|of| of.found.len()).sum());
        for (kind, OfKind { mut found, is_out_of_order, .. }) in Kind::ALL.into_iter().zip(self.0) {
            if is_out_of_order {
                found.sort_unstable_by_key(|(id, _)| *id);
            }
            reports.extend(found.into_iter().map(|(id, findings)| findings.report(kind, id.clone())));
        }
        reports
    }
}
