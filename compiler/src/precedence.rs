//! Who wins where two objects claim the same: the older one, then the one whose name comes first.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use table::ObjectRef;

/// A claim on `what` by an object.
pub(crate) struct Claim<'a, W> {
    pub(crate) what: W,
    pub(crate) by: &'a ObjectRef,
    /// When the object was created; absent sorts first, as all manifests of a directory have none.
    pub(crate) since: Option<jiff::Timestamp>,
}

impl<'a, W> Claim<'a, W> {
    pub(crate) fn new(what: W, by: &'a ObjectRef, object: &impl Resource) -> Self {
        Self { what, by, since: object.creation_timestamp().map(|time| time.0) }
    }
}

/// The objects that lose a claim, each with what it lost and to whom. An object that loses one claim loses all, and so
/// leaves its other claims to the next.
pub(crate) fn losers<'a, W: Ord + Clone>(claims: Vec<Claim<'a, W>>) -> BTreeMap<&'a ObjectRef, (W, &'a ObjectRef)> {
    let mut by_object: BTreeMap<(Option<jiff::Timestamp>, &ObjectRef), Vec<W>> = BTreeMap::new();
    for claim in claims {
        by_object.entry((claim.since, claim.by)).or_default().push(claim.what);
    }
    let (mut owners, mut losers) = (BTreeMap::new(), BTreeMap::new());
    for ((_, object), wanted) in by_object {
        let lost = wanted.iter().find_map(|what| Some((what.clone(), *owners.get(what)?)));
        match lost {
            Some(lost) => {
                losers.insert(object, lost);
            }
            None => owners.extend(wanted.into_iter().map(|what| (what, object))),
        }
    }
    losers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(what: &'static str, by: &'a ObjectRef, since: &str) -> Claim<'a, &'static str> {
        Claim { what, by, since: Some(since.parse().unwrap()) }
    }

    #[test]
    fn the_older_wins_and_a_loser_leaves_its_other_claims() {
        let (a, b, c) = (ObjectRef::new("n", "a"), ObjectRef::new("n", "b"), ObjectRef::new("n", "c"));
        let claims = vec![
            claim("gpt", &a, "2026-01-02T00:00:00Z"),
            claim("gpt", &b, "2026-01-01T00:00:00Z"),
            claim("mini", &a, "2026-01-02T00:00:00Z"),
            claim("mini", &c, "2026-01-03T00:00:00Z"),
        ];
        assert_eq!(losers(claims), [(&a, ("gpt", &b))].into());
    }
}
