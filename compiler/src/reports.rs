//! What is said of each object: conditions as the Kubernetes API has them, in words for the person who wrote the manifest.

use crds::Kind;
use serde::{Serialize, Serializer};
use table::ObjectRef;

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
    /// Globs of a Policy that match nothing, each with its field: perhaps misspelt. At most 16.
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

fn kind_name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
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
pub enum ConditionType {
    /// The object itself is right.
    Accepted,
    /// What it names is there and may be named.
    ResolvedRefs,
    /// It is right, what it names is there, and it can serve.
    Ready,
    /// It is refused for good. Only said when true.
    Revoked,
    /// Another object has what it claims. Only said when true.
    Conflicted,
}

/// Why a condition is as it is: a closed set, of which these can be decided without a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// The object is right.
    Accepted,
    /// Everything that it names is there.
    ResolvedRefs,
    /// It can serve.
    Ready,
    /// A field of it, or of an object that it depends on, is wrong.
    Invalid,
    /// An older object has what it claims.
    Conflicted,
    /// Nothing of its own namespace has the name.
    RefNotFound,
    /// Nothing of another namespace that has the name is open to it.
    RefNotPermitted,
    /// There is no such Secret.
    SecretNotFound,
    /// The Secret has no such key.
    SecretKeyMissing,
    /// The value of the Secret's key is empty.
    SecretEmpty,
    /// Its Host is suspended.
    HostDisabled,
    /// Its Host has no usable HostKey.
    NoHealthyKey,
    /// `spec.revoked` is true.
    Revoked,
    /// `spec.suspend` is true.
    Paused,
}
