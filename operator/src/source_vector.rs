//! How new a compiled table is, by what it was made of: so that a replica which lags behind can never bring back what
//! another one has taken away.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// How new what was compiled is, by watched collection: `relaykeys` where the whole cluster is watched, and
/// `relaykeys/team-a` where one namespace is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceVector(pub BTreeMap<String, Position>);

/// Where one watched collection stands.
///
/// Versions alone cannot compare replicas: of two that hold the same objects, one has seen the deletion of another
/// object, or a bookmark, or somebody's status, and the other has listed later and not. So a collection is older only
/// where its version is lower *and* it holds something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The highest `resourceVersion` of a list, an event or a bookmark.
    pub version: u64,
    /// A hash of what is there and means something; the same wherever the same is there.
    pub state: u64,
}

impl Position {
    /// Whether this is an older state of the collection than `other`.
    pub fn is_older_than(self, other: Self) -> bool {
        self.version < other.version && self.state != other.state
    }
}

impl SourceVector {
    /// Whether any collection of both is older here than in `other`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let both = self.0.iter().filter_map(|(name, here)| Some((here, other.0.get(name)?)));
        both.into_iter().any(|(here, there)| here.is_older_than(*there))
    }

    /// As they travel: the version under the collection's name, its state under that name and `#state`.
    pub fn numbers(&self) -> BTreeMap<String, u64> {
        let positions = self.0.iter();
        let pairs = positions.flat_map(|(name, at)| [(name.clone(), at.version), (format!("{name}#state"), at.state)]);
        pairs.collect()
    }
}

impl fmt::Display for SourceVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, position)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{name}={}", position.version)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(relay_keys: (u64, u64), hosts: (u64, u64)) -> SourceVector {
        let at = |(version, state)| Position { version, state };
        SourceVector([("relaykeys".to_owned(), at(relay_keys)), ("hosts".to_owned(), at(hosts))].into())
    }

    #[test]
    fn a_collection_that_lags_and_differs_makes_a_vector_older() {
        let held = vector((100, 1), (50, 7));
        assert!(vector((90, 2), (60, 8)).is_older_than(&held));
        assert!(!vector((110, 2), (60, 8)).is_older_than(&held));
    }

    #[test]
    fn a_lower_version_of_the_same_objects_is_not_older() {
        let held = vector((100, 1), (50, 7));
        assert!(!vector((90, 1), (60, 8)).is_older_than(&held));
    }

    #[test]
    fn collections_that_only_one_side_watches_do_not_compare() {
        let held = vector((100, 1), (50, 7));
        let mut other = SourceVector::default();
        other.0.insert("relaykeys/team-a".to_owned(), Position { version: 1, state: 2 });
        assert!(!other.is_older_than(&held) && !held.is_older_than(&other));
    }

    #[test]
    fn numbers_hold_both_halves() {
        let numbers = vector((100, 1), (50, 7)).numbers();
        let wanted = [("hosts", 50), ("hosts#state", 7), ("relaykeys", 100), ("relaykeys#state", 1)];
        assert_eq!(numbers, wanted.map(|(name, number)| (name.to_owned(), number)).into());
    }
}
