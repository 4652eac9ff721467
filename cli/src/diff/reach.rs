//! Which models each relay key gains or loses, as the data plane lists them for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use compiler::Compilation;
use dataplane::{auth, models, world::World};
use jiff::Timestamp;
use serde::Serialize;
use table::ObjectRef;

/// What changes for one relay key.
#[derive(Debug, Serialize)]
pub(super) struct Reach {
    key: ObjectRef,
    /// Ids and aliases that it may ask for now.
    gains: Vec<String>,
    /// Ids and aliases that it may not ask for any more.
    loses: Vec<String>,
    /// Ids and aliases that mean another Model than before.
    moves: Vec<Move>,
    /// Why nothing can be asked for with it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// An id that means another Model than before.
#[derive(Debug, Serialize)]
struct Move {
    id: String,
    before: ObjectRef,
    after: ObjectRef,
}

/// What a relay key may ask for, or why nothing.
type Models = Result<BTreeMap<String, Option<ObjectRef>>, String>;

/// What changes for each relay key of either side.
pub(super) fn differences(before: &Compilation, after: &Compilation) -> Vec<Reach> {
    let now = Timestamp::now();
    let (old, new) = (world(before), world(after));
    let keys = |compilation: &Compilation| compilation.table.relay_keys.keys().cloned().collect::<BTreeSet<_>>();
    let all: BTreeSet<ObjectRef> = keys(before).union(&keys(after)).cloned().collect();
    all.into_iter().filter_map(|key| Reach::of(&key, models(&old, &key, now), models(&new, &key, now))).collect()
}

fn world(compilation: &Compilation) -> World {
    World::load(compilation.table.clone(), compilation.credentials.clone())
}

/// Absent: there is no such key, or it is refused as an object, which is shown elsewhere.
fn models(world: &World, id: &ObjectRef, now: Timestamp) -> Option<Models> {
    let key = world.relay_key(id)?;
    let address = key.row.allowed_cidrs.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), ipnet::IpNet::addr);
    Some(match auth::usable(key, address, now) {
        Ok(caller) => {
            let listed = models::reachable(world, &caller, now).into_iter();
            Ok(listed.map(|listed| (listed.id, listed.model.map(|model| model.id.clone()))).collect())
        }
        Err(denied) => Err(denied.to_string()),
    })
}

impl Reach {
    fn of(key: &ObjectRef, before: Option<Models>, after: Option<Models>) -> Option<Self> {
        let refused = match (&before, &after) {
            (None | Some(Ok(_)), Some(Err(reason))) => Some(reason.clone()),
            _ => None,
        };
        let before = before.and_then(Result::ok).unwrap_or_default();
        let after = after.and_then(Result::ok).unwrap_or_default();
        let missing = |of: &BTreeMap<String, _>, within: &BTreeMap<String, _>| {
            of.keys().filter(|id| !within.contains_key(*id)).cloned().collect::<Vec<String>>()
        };
        let (gains, loses) = (missing(&after, &before), missing(&before, &after));
        let moves: Vec<Move> = before.into_iter().filter_map(|(id, old)| Move::of(id, old, &after)).collect();
        let is_same = gains.is_empty() && loses.is_empty() && moves.is_empty() && refused.is_none();
        (!is_same).then(|| Self { key: key.clone(), gains, loses, moves, refused })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let key = &self.key;
        let mut lines = Vec::new();
        lines.extend(self.refused.iter().map(|reason| format!("RelayKey {key} cannot be used: {reason}")));
        lines.extend(self.gains.iter().map(|id| format!("RelayKey {key} gains model `{id}`")));
        lines.extend(self.loses.iter().map(|id| format!("RelayKey {key} loses model `{id}`")));
        lines.extend(self.moves.iter().map(|moved| {
            let Move { id, before, after } = moved;
            format!("RelayKey {key}: `{id}` means Model {after}, and meant {before}")
        }));
        lines
    }
}

impl Move {
    fn of(id: String, before: Option<ObjectRef>, after: &BTreeMap<String, Option<ObjectRef>>) -> Option<Self> {
        let (before, after) = (before?, after.get(&id)?.clone()?);
        (before != after).then_some(Self { id, before, after })
    }
}
