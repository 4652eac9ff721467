//! How new a table is: the highest version seen of each kind of source, within one history. Refuses what is older.

use std::{collections::BTreeMap, fmt};

/// What follows the name of a kind where its state is said.
const STATE: &str = "#state";

/// The highest version seen, by kind of source. Versions of one kind are comparable within one epoch.
///
/// Beside `hosts` there may be `hosts#state`: a hash of what was there at that version, the same wherever the same is
/// there. Of two servers that have the same objects, one has seen somebody's status, the end of another object or a
/// bookmark, and the other has read everything later and not: there a lower version is not older.
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
        self.versions().find_map(|(kind, held)| {
            let version = offered.version(kind)?;
            let is_same = self.state(kind).is_some_and(|state| offered.state(kind) == Some(state));
            (version < held && !is_same).then(|| Regression { kind: kind.to_owned(), held, offered: version })
        })
    }

    /// Takes the higher version of both of every kind, and the state that belongs to it.
    pub fn advance(&mut self, other: &SourceVector) {
        for (kind, version) in other.versions() {
            if self.version(kind).is_some_and(|held| held > version) {
                continue;
            }
            self.0.insert(kind.to_owned(), version);
            if let Some(state) = other.state(kind) {
                self.0.insert(format!("{kind}{STATE}"), state);
            }
        }
    }

    fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        let all = self.0.iter().filter(|(name, _)| !name.ends_with(STATE));
        all.map(|(kind, version)| (kind.as_str(), *version))
    }

    fn state(&self, kind: &str) -> Option<u64> {
        self.0.get(&format!("{kind}{STATE}")).copied()
    }

    /// The components of `self` that are not in `base` as they are.
    pub fn moved_since(&self, base: &SourceVector) -> SourceVector {
        let moved = |name: &str| base.0.get(name) != self.0.get(name);
        // A version and its state go together, also where one of them stayed: neither says anything alone.
        let goes = |name: &str| {
            let kind = name.strip_suffix(STATE).unwrap_or(name);
            moved(kind) || moved(&format!("{kind}{STATE}"))
        };
        Self(self.0.iter().filter(|(name, _)| goes(name)).map(own).collect())
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
    fn a_lower_version_of_the_same_state_is_no_regression() {
        let held = vector(&[("keys", 9), ("keys#state", 7)]);
        let (same, other) = (vector(&[("keys", 8), ("keys#state", 7)]), vector(&[("keys", 8), ("keys#state", 6)]));
        assert_eq!(held.regression(&same), None);
        assert_eq!(held.regression(&other).map(|error| error.kind), Some("keys".to_owned()));
        assert_eq!(held.regression(&vector(&[("keys", 10), ("keys#state", 1)])), None, "a state alone is never older");
        assert_eq!(same.moved_since(&held), same, "the state goes with its version");
    }

    #[test]
    fn a_state_stays_with_the_version_it_belongs_to() {
        let mut held = vector(&[("keys", 9), ("keys#state", 7)]);
        held.advance(&vector(&[("keys", 8), ("keys#state", 6)]));
        assert_eq!(held, vector(&[("keys", 9), ("keys#state", 7)]));
        held.advance(&vector(&[("keys", 10), ("keys#state", 6)]));
        assert_eq!(held, vector(&[("keys", 10), ("keys#state", 6)]));
    }

    #[test]
    fn a_state_that_changed_without_its_version_arrives() {
        // What is named of a collection changed, and the collection did not.
        let (base, whole) = (vector(&[("keys", 9), ("keys#state", 7)]), vector(&[("keys", 9), ("keys#state", 6)]));
        let mut advanced = base.clone();
        advanced.advance(&whole.moved_since(&base));
        assert_eq!(advanced, whole);
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
