//! What is said of each object: conditions as the Kubernetes API has them, in words for the person who wrote the manifest.

use std::collections::BTreeMap;

use crds::Kind;
use kube::Resource;
use serde::Serialize;
use table::{Auth, ObjectRef, RoutingTable, Row};

use crate::{Resources, policy};

/// What is said of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its kind.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// Its namespace and name.
    pub id: ObjectRef,
    /// The generation that was compiled; absent where the manifest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs and Ready, in this order, then those that are only said when true.
    pub conditions: Vec<Condition>,
    /// Globs of a Policy that match nothing: perhaps misspelt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched_globs: Vec<String>,
}

impl Report {
    /// The condition of a type.
    pub fn condition(&self, of: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == of)
    }

    /// Whether the object was refused, or something that it names is missing.
    pub fn is_refused(&self) -> bool {
        let is_false = |of| self.condition(of).is_some_and(|condition| !condition.status);
        is_false(ConditionType::Accepted) || is_false(ConditionType::ResolvedRefs)
    }
}

fn kind_name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// One thing that is said of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What is said.
    pub r#type: ConditionType,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people: the field, its value, and what would be right.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are those of the status contract")]
pub enum ConditionType {
    Accepted,
    ResolvedRefs,
    Ready,
    Revoked,
    Conflicted,
}

/// Why a condition is as it is: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are those of the status contract")]
pub enum Reason {
    Accepted,
    ResolvedRefs,
    Ready,
    Invalid,
    Conflicted,
    RefNotFound,
    RefNotPermitted,
    SecretNotFound,
    SecretKeyMissing,
    SecretEmpty,
    HostDisabled,
    NoHealthyKey,
    Revoked,
    Paused,
}

/// What is known of one object so far.
#[derive(Debug, Default)]
struct Draft {
    generation: Option<i64>,
    refused: Option<(Reason, String)>,
    unresolved: Vec<(Reason, String)>,
    notes: Vec<String>,
    unready: Option<(Reason, String)>,
    revoked: bool,
    unmatched_globs: Vec<String>,
}

/// The reports in the making.
#[derive(Debug)]
pub(crate) struct Reports(BTreeMap<(Kind, ObjectRef), Draft>);

impl Reports {
    pub(crate) fn for_each(resources: &Resources) -> Self {
        let mut drafts = BTreeMap::new();
        let mut add = |kind: Kind, id: &ObjectRef, generation: Option<i64>| {
            drafts.insert((kind, id.clone()), Draft { generation, ..Draft::default() });
        };
        resources.hosts.iter().for_each(|(id, object)| add(Kind::Host, id, object.meta().generation));
        resources.models.iter().for_each(|(id, object)| add(Kind::Model, id, object.meta().generation));
        resources.host_keys.iter().for_each(|(id, object)| add(Kind::HostKey, id, object.meta().generation));
        resources.relay_keys.iter().for_each(|(id, object)| add(Kind::RelayKey, id, object.meta().generation));
        resources.policies.iter().for_each(|(id, object)| add(Kind::Policy, id, object.meta().generation));
        let mut reports = Self(drafts);
        for malformed in &resources.malformed {
            reports.refuse(malformed.kind, &malformed.id, Reason::Invalid, malformed.reason.clone());
        }
        reports
    }

    fn draft(&mut self, kind: Kind, id: &ObjectRef) -> &mut Draft {
        self.0.entry((kind, id.clone())).or_default()
    }

    /// The object cannot be used. The first word stands.
    pub(crate) fn refuse(&mut self, kind: Kind, id: &ObjectRef, reason: Reason, message: String) {
        self.draft(kind, id).refused.get_or_insert((reason, message));
    }

    /// Something that the object names cannot be used.
    pub(crate) fn unresolved(&mut self, kind: Kind, id: &ObjectRef, reason: Reason, message: String) {
        self.draft(kind, id).unresolved.push((reason, message));
    }

    /// Something that its author should know though nothing is wrong.
    pub(crate) fn note(&mut self, kind: Kind, id: &ObjectRef, message: String) {
        self.draft(kind, id).notes.push(message);
    }

    /// The object is fine but does not serve at the moment.
    pub(crate) fn unready(&mut self, kind: Kind, id: &ObjectRef, reason: Reason, message: String) {
        self.draft(kind, id).unready.get_or_insert((reason, message));
    }

    /// A relay key is refused for good.
    pub(crate) fn revoked(&mut self, id: &ObjectRef) {
        self.draft(Kind::RelayKey, id).revoked = true;
    }

    /// Hosts that need a credential and have none are not ready.
    pub(crate) fn note_keys_of_hosts(&mut self, table: &RoutingTable) {
        let usable = |key: &table::HostKey| !key.suspended;
        for (id, host) in &table.hosts {
            let Row::Usable(host) = host else { continue };
            let keys = table.host_keys.values().filter_map(Row::usable).filter(|key| key.host == *id && usable(key));
            if host.auth != Auth::None && keys.count() == 0 {
                let message = format!(
                    "no usable HostKey refers to this Host: add one whose `spec.hostRef.name` is `{}`",
                    id.name
                );
                self.unready(Kind::Host, id, Reason::NoHealthyKey, message);
            }
        }
    }

    /// Globs of policies that match no Model and no Host.
    pub(crate) fn note_unmatched_globs(&mut self, table: &RoutingTable) {
        for (id, policy) in &table.policies {
            let Row::Usable(policy) = policy else { continue };
            self.draft(Kind::Policy, id).unmatched_globs = policy::unmatched_globs(policy, table);
        }
    }

    pub(crate) fn finish(self) -> Vec<Report> {
        self.0.into_iter().map(|((kind, id), draft)| draft.report(kind, id)).collect()
    }
}

impl Draft {
    fn report(self, kind: Kind, id: ObjectRef) -> Report {
        let condition = |r#type, status, reason, message: String| Condition { r#type, status, reason, message };
        let mut conditions = Vec::new();
        let accepted = self.refused.is_none();
        conditions.push(match &self.refused {
            Some((reason, message)) => condition(ConditionType::Accepted, false, *reason, message.clone()),
            None => condition(ConditionType::Accepted, true, Reason::Accepted, self.notes.join("; ")),
        });
        let messages = |problems: &[(Reason, String)]| {
            problems.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>().join("; ")
        };
        let resolved = match self.unresolved.first() {
            Some((reason, _)) => condition(ConditionType::ResolvedRefs, false, *reason, messages(&self.unresolved)),
            None => condition(ConditionType::ResolvedRefs, true, Reason::ResolvedRefs, String::new()),
        };
        let unready = self.refused.clone().or_else(|| {
            let (reason, _) = self.unresolved.first()?;
            Some((*reason, messages(&self.unresolved)))
        });
        conditions.push(resolved);
        conditions.push(match unready.or(self.unready) {
            Some((reason, message)) => condition(ConditionType::Ready, false, reason, message),
            None => condition(ConditionType::Ready, true, Reason::Ready, String::new()),
        });
        if self.revoked {
            conditions.push(condition(
                ConditionType::Revoked,
                true,
                Reason::Revoked,
                "`spec.revoked` is true".to_owned(),
            ));
        }
        if !accepted && self.refused.as_ref().is_some_and(|(reason, _)| *reason == Reason::Conflicted) {
            let message = self.refused.map(|(_, message)| message).unwrap_or_default();
            conditions.push(condition(ConditionType::Conflicted, true, Reason::Conflicted, message));
        }
        let unmatched_globs = self.unmatched_globs;
        Report { kind, id, observed_generation: self.generation, conditions, unmatched_globs }
    }
}
