//! Who wins where two objects claim the same: the older one, then the one whose name comes first. Only objects that are
//! right in themselves have a claim.

use std::collections::BTreeMap;

use crds::Kind;
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
pub(crate) fn settle_models(world: &World<'_>, rows: &mut Rows<Model>, reports: &mut Reports) {
    let mut claims = BTreeMap::new();
    for (id, object) in &world.resources.models {
        let Some(model) = rows.get(id).and_then(Row::usable) else { continue };
        let names = model.aliases.iter().chain([&model.model_name]);
        claims.insert(Claimant::new(id, object), names.map(|name| (id.namespace.clone(), name.clone())).collect());
    }
    for (loser, (_, name), winner) in losers(claims) {
        let message = format!(
            "`{name}` is a name or alias of Model `{}` too, which is older or comes first: take another name or alias",
            winner.name
        );
        reports.of(Kind::Model, loser).conflict(message.clone());
        rows.insert(loser.clone(), Row::Invalid { reason: message });
    }
}

/// A token means one RelayKey. Whose it is stays unsaid: it may be of another namespace.
pub(crate) fn settle_relay_keys(world: &World<'_>, rows: &mut Rows<RelayKey>, reports: &mut Reports) {
    let mut claims = BTreeMap::new();
    for (id, object) in &world.resources.relay_keys {
        let Some(key) = rows.get(id).and_then(Row::usable) else { continue };
        claims.insert(Claimant::new(id, object), vec![key.token_sha256.clone()]);
    }
    for (loser, _, _) in losers(claims) {
        let message =
            "another RelayKey, which is older or comes first, has the same token: make another one".to_owned();
        reports.of(Kind::RelayKey, loser).conflict(message.clone());
        rows.insert(loser.clone(), Row::Invalid { reason: message });
    }
}

/// Who loses, what, and to whom. An object that loses one claim loses all, and so leaves its other claims to the next.
fn losers<'a, W: Ord + Clone>(claims: BTreeMap<Claimant<'a>, Vec<W>>) -> Vec<(&'a ObjectRef, W, &'a ObjectRef)> {
    let mut owners: BTreeMap<W, &ObjectRef> = BTreeMap::new();
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
        let claims = BTreeMap::from([
            (claimant(&a, "2026-01-02T00:00:00Z"), vec!["gpt", "mini"]),
            (claimant(&b, "2026-01-01T00:00:00Z"), vec!["gpt"]),
            (claimant(&c, "2026-01-03T00:00:00Z"), vec!["mini"]),
        ]);
        assert_eq!(losers(claims), [(&a, "gpt", &b)]);
    }
}
