//! Keys and rows of the table: how objects are named, and how one that cannot be used is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The namespace and name of an object; written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Where the object lives.
    pub namespace: String,
    /// What it is called there.
    pub name: String,
}

impl ObjectRef {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ObjectRef {
    type Err = String;

    /// Errs when the text has no `/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| format!("`{text}` is not of the form `namespace/name`"))?;
        Ok(Self::new(namespace, name))
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One object of the table. An object that cannot be used stays, so that a request which meets it gets an explained
/// error instead of a missing route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Row<T> {
    /// The object as compiled.
    Usable(T),
    /// The object exists but cannot be used.
    Invalid {
        /// Which field is wrong and what would be right; for people.
        reason: String,
    },
}

impl<T> Row<T> {
    /// The object, unless it is invalid.
    pub fn usable(&self) -> Option<&T> {
        match self {
            Row::Usable(object) => Some(object),
            Row::Invalid { .. } => None,
        }
    }
}

/// All objects of one kind, sorted by namespace and name.
pub type Rows<T> = BTreeMap<ObjectRef, Row<T>>;

/// Which namespaces may refer to an object; the object's own always may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceGrant {
    /// Only the object's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// These besides its own (a selector, resolved by the compiler).
    Listed(BTreeSet<String>),
}

impl NamespaceGrant {
    /// Whether an object that lives in `own` may be used from `from`.
    pub fn permits(&self, own: &str, from: &str) -> bool {
        own == from
            || match self {
                NamespaceGrant::Same => false,
                NamespaceGrant::All => true,
                NamespaceGrant::Listed(namespaces) => namespaces.contains(from),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_it_was_written() {
        let reference = ObjectRef::new("team-a", "openai");
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }

    #[test]
    fn an_object_is_always_open_to_its_own_namespace() {
        assert!(NamespaceGrant::Same.permits("a", "a"));
        assert!(!NamespaceGrant::Same.permits("a", "b"));
        assert!(NamespaceGrant::All.permits("a", "b"));
        assert!(!NamespaceGrant::Listed(["c".to_owned()].into()).permits("a", "b"));
    }
}
