//! How new a table is: the highest version seen of each kind of source, within one history. Refuses what is older.

use std::{collections::BTreeMap, fmt};

/// The highest version seen, by kind of source. Versions of one kind are comparable within one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceVector(BTreeMap<String, u64>);

/// A component that went back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{kind}` is at version {offered}, but {held} was seen before")]
pub struct Regression {
    /// The kind of source.
    pub kind: String,
    /// What was seen before.
    pub held: u64,
    /// What is offered.
    pub offered: u64,
}

impl SourceVector {
    /// The first component in which `offered` is older. A kind that only one of them has is no regression: what is
    /// watched may differ between versions of the operator, and nobody publishes before all its kinds were read.
    pub fn regression(&self, offered: &SourceVector) -> Option<Regression> {
        self.0.iter().find_map(|(kind, &held)| {
            let &offered = offered.0.get(kind)?;
            (offered < held).then(|| Regression { kind: kind.clone(), held, offered })
        })
    }

    /// Takes the higher of both in every component.
    pub fn advance(&mut self, other: &SourceVector) {
        for (kind, &version) in &other.0 {
            let held = self.0.entry(kind.clone()).or_insert(version);
            *held = version.max(*held);
        }
    }

    /// The components of `self` that are not in `base` as they are.
    pub fn moved_since(&self, base: &SourceVector) -> SourceVector {
        Self(self.0.iter().filter(|(kind, version)| base.0.get(*kind) != Some(version)).map(own).collect())
    }

    /// Version of a kind.
    pub fn version(&self, kind: &str) -> Option<u64> {
        self.0.get(kind).copied()
    }

    /// As it travels.
    pub fn to_wire(&self) -> BTreeMap<String, u64> {
        self.0.clone()
    }
}

fn own((kind, version): (&String, &u64)) -> (String, u64) {
    (kind.clone(), *version)
}

impl From<BTreeMap<String, u64>> for SourceVector {
    fn from(components: BTreeMap<String, u64>) -> Self {
        Self(components)
    }
}

impl<K: Into<String>> FromIterator<(K, u64)> for SourceVector {
    fn from_iter<I: IntoIterator<Item = (K, u64)>>(components: I) -> Self {
        Self(components.into_iter().map(|(kind, version)| (kind.into(), version)).collect())
    }
}

impl fmt::Display for SourceVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, version)) in self.0.iter().enumerate() {
            write!(f, "{}{kind}={version}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(components: &[(&str, u64)]) -> SourceVector {
        components.iter().copied().collect()
    }

    #[test]
    fn one_older_component_is_a_regression_however_new_the_others_are() {
        let held = vector(&[("hosts", 5), ("keys", 9)]);
        let error = held.regression(&vector(&[("hosts", 50), ("keys", 8)])).unwrap();
        assert_eq!(error.to_string(), "`keys` is at version 8, but 9 was seen before");
        assert_eq!(held.regression(&vector(&[("hosts", 5), ("keys", 9)])), None);
        assert_eq!(held.regression(&vector(&[("keys", 10), ("models", 1)])), None);
    }

    #[test]
    fn what_moved_brings_the_base_to_the_whole() {
        let base = vector(&[("hosts", 5), ("keys", 9)]);
        let whole = vector(&[("hosts", 5), ("keys", 10), ("models", 1)]);
        let moved = whole.moved_since(&base);
        assert_eq!(moved, vector(&[("keys", 10), ("models", 1)]));
        let mut advanced = base;
        advanced.advance(&moved);
        assert_eq!(advanced, whole);
    }
}
