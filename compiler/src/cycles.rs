//! Circles of virtual Models: every Model that is part of one is refused, with the way round it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crds::Kind;
use table::{Model, ObjectRef, Route, Row, Rows};

use crate::{findings::Reports, resolve::World};

/// Who names whom as a target.
type Edges = BTreeMap<ObjectRef, Vec<ObjectRef>>;

/// Refuses every virtual Model that can come back to itself. Those that merely lead to one lose that target alone.
pub(crate) fn refuse(world: &World<'_>, rows: &mut Rows<Model>, reports: &mut Reports) {
    let edges = without_dead_ends(edges(rows));
    for id in edges.keys() {
        let Some(way) = way_back(&edges, id) else { continue };
        let found = reports.of(Kind::Model, id);
        found.refuse(format!(
            "spec.virtual.targets: the Model leads back to itself ({}): take out one of these targets",
            in_words(world, id, &way)
        ));
        if let Some(row) = rows.get_mut(id) {
            *row = match std::mem::replace(row, Row::Invalid { reason: String::new() }) {
                Row::Usable(model) => found.row_if_accepted(model),
                invalid @ Row::Invalid { .. } => invalid,
            };
        }
    }
}

fn edges(rows: &Rows<Model>) -> Edges {
    let targets = |row: &Row<Model>| match row.usable().map(|model| &model.route) {
        Some(Route::Virtual { targets, .. }) => {
            let usable = targets.iter().filter(|target| target.unusable.is_none());
            Some(usable.map(|target| target.model.clone()).collect())
        }
        Some(Route::Bindings(_)) | None => None,
    };
    rows.iter().filter_map(|(id, row)| Some((id.clone(), targets(row)?))).collect()
}

/// What is left when Models without virtual targets are taken away until there are none: circles, and what leads to them.
fn without_dead_ends(edges: Edges) -> Edges {
    let mut waiting: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
    let mut named_by: BTreeMap<&ObjectRef, Vec<&ObjectRef>> = BTreeMap::new();
    for (id, targets) in &edges {
        let virtual_targets = targets.iter().filter(|target| edges.contains_key(target));
        for target in virtual_targets.clone() {
            named_by.entry(target).or_default().push(id);
        }
        waiting.insert(id, virtual_targets.count());
    }
    let mut ends: Vec<&ObjectRef> = waiting.iter().filter(|(_, left)| **left == 0).map(|(id, _)| *id).collect();
    let mut gone: BTreeSet<ObjectRef> = BTreeSet::new();
    while let Some(end) = ends.pop() {
        gone.insert(end.clone());
        for namer in named_by.get(end).into_iter().flatten() {
            let left = waiting.get_mut(namer).expect("who names a virtual Model is one");
            *left -= 1;
            if *left == 0 {
                ends.push(namer);
            }
        }
    }
    edges.into_iter().filter(|(id, _)| !gone.contains(id)).collect()
}

/// The shortest way from a Model back to itself, both ends included.
fn way_back<'a>(edges: &'a Edges, start: &'a ObjectRef) -> Option<Vec<&'a ObjectRef>> {
    let mut from: BTreeMap<&ObjectRef, &ObjectRef> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in edges.get(at).into_iter().flatten() {
            if next == start {
                let steps = std::iter::successors(Some(at), |step| from.get(*step).copied());
                let mut way: Vec<&ObjectRef> = std::iter::once(start).chain(steps).collect();
                way.reverse();
                return Some(way);
            }
            if next != start && !from.contains_key(next) {
                from.insert(next, at);
                open.push_back(next);
            }
        }
    }
    None
}

/// The way as the owner of `from` may see it: Models that are not open to that namespace stay unnamed.
fn in_words(world: &World<'_>, from: &ObjectRef, way: &[&ObjectRef]) -> String {
    let step = |id: &&ObjectRef| match (id.namespace == from.namespace, world.is_open(Kind::Model, id, &from.namespace))
    {
        (true, _) => format!("`{}`", id.name),
        (false, true) => format!("`{id}`"),
        (false, false) => "...".to_owned(),
    };
    way.iter().map(step).collect::<Vec<_>>().join(" -> ")
}
