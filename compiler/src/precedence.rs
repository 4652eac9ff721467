//! Who wins where two objects claim the same: the older one, then the one whose name comes first. Only objects that are
//! right in themselves have a claim.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use crds::Kind;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use table::{Model, ObjectRef, RelayKey, Row, Rows};

use crate::{findings::Reports, resolve::World};

/// An object with its age. One of a directory has none, and counts as older than all that have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant<'a> {
    since: Option<Timestamp>,
    id: &'a ObjectRef,
}

impl<'a> Claimant<'a> {
    fn new(id: &'a ObjectRef, object: &impl Resource) -> Self {
        Self { since: object.creation_timestamp().map(|time| time.0), id }
    }
}

/// In one namespace a name or alias means one Model.
pub(crate) fn settle_models(world: &World<'_>, rows: &mut Rows<Model>, reports: &mut Reports<'_>) {
    let claims = usable(rows).flat_map(|(id, model)| names(model).map(|name| (id.namespace.as_str(), name)));
    if !is_any_twice(claims, rows.len()) {
        return;
    }
    let names =
        |id: &ObjectRef, model: &Model| names(model).map(|name| (id.namespace.clone(), name.to_owned())).collect();
    for (loser, (_, name), winner) in settled(rows, &world.resources.models, names) {
        let message = format!(
            "`{name}` is a name or alias of Model `{}` too, which is older or comes first: take another name or alias",
            winner.name
        );
        reports.of(Kind::Model, loser).conflict(message.clone());
        rows.insert(loser.clone(), Row::Invalid { reason: message });
    }
}

/// A token means one RelayKey. Whose it is stays unsaid: it may be of another namespace.
pub(crate) fn settle_relay_keys(world: &World<'_>, rows: &mut Rows<RelayKey>, reports: &mut Reports<'_>) {
    if !is_any_twice(usable(rows).flat_map(|(_, key)| hashes(key)), rows.len()) {
        return;
    }
    let hashes = |_: &ObjectRef, key: &RelayKey| hashes(key).map(str::to_owned).collect();
    for (loser, _, _) in settled(rows, &world.resources.relay_keys, hashes) {
        let message =
            "another RelayKey, which is older or comes first, has the same token: make another one".to_owned();
        reports.of(Kind::RelayKey, loser).conflict(message.clone());
        rows.insert(loser.clone(), Row::Invalid { reason: message });
    }
}

fn names(model: &Model) -> impl Iterator<Item = &str> {
    model.aliases.iter().chain([&model.model_name]).map(String::as_str)
}

/// As they are written, which for usable keys is in one way.
fn hashes(key: &RelayKey) -> impl Iterator<Item = &str> {
    let previous = key.previous.iter().map(|previous| &previous.token_sha256);
    previous.chain([&key.token_sha256]).map(String::as_str)
}

fn usable<T>(rows: &Rows<T>) -> impl Iterator<Item = (&ObjectRef, &T)> {
    rows.iter().filter_map(|(id, row)| Some((id, row.usable()?)))
}

/// Whether anything is claimed twice, which is rare: only then it matters who is older.
fn is_any_twice<W: Eq + Hash>(mut claims: impl Iterator<Item = W>, expected: usize) -> bool {
    let mut claimed = HashSet::with_capacity_and_hasher(expected, RandomState::default());
    !claims.all(|what| claimed.insert(what))
}

/// The losers among the usable rows.
fn settled<'a, T, O: Resource, W: Clone + Eq + Hash>(
    rows: &Rows<T>,
    objects: &'a BTreeMap<ObjectRef, Arc<O>>,
    wanted: impl Fn(&ObjectRef, &T) -> Vec<W>,
) -> Vec<(&'a ObjectRef, W, &'a ObjectRef)> {
    let claims = usable(rows).filter_map(|(id, row)| {
        let (id, object) = objects.get_key_value(id)?;
        Some((Claimant::new(id, &**object), wanted(id, row)))
    });
    losers(claims.collect())
}

/// Who loses, what, and to whom. An object that loses one claim loses all, and so leaves its other claims to the next.
fn losers<'a, W: Clone + Eq + Hash>(mut claims: Vec<(Claimant<'a>, Vec<W>)>) -> Vec<(&'a ObjectRef, W, &'a ObjectRef)> {
    claims.sort_unstable_by_key(|(claimant, _)| *claimant);
    let mut owners: HashMap<W, &ObjectRef> = HashMap::with_capacity(claims.len());
    let mut losers = Vec::new();
    for (claimant, wanted) in claims {
        let lost = wanted.iter().find_map(|what| Some((what.clone(), *owners.get(what)?)));
        match lost {
            Some((what, owner)) => losers.push((claimant.id, what, owner)),
            None => owners.extend(wanted.into_iter().map(|what| (what, claimant.id))),
        }
    }
    losers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant<'a>(id: &'a ObjectRef, since: &str) -> Claimant<'a> {
        Claimant { since: Some(since.parse().unwrap()), id }
    }

    #[test]
    fn the_older_wins_and_a_loser_leaves_its_other_claims() {
        let (a, b, c) = (ObjectRef::new("n", "a"), ObjectRef::new("n", "b"), ObjectRef::new("n", "c"));
        let claims = vec![
            (claimant(&a, "2026-01-02T00:00:00Z"), vec!["gpt", "mini"]),
            (claimant(&b, "2026-01-01T00:00:00Z"), vec!["gpt"]),
            (claimant(&c, "2026-01-03T00:00:00Z"), vec!["mini"]),
        ];
        assert_eq!(losers(claims), [(&a, "gpt", &b)]);
    }
}
