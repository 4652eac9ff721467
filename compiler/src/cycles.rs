//! Circles of virtual Models: every Model that is part of one is refused, with the way round it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crds::Kind;
use table::{Model, ObjectRef, Route, Row, Rows};

use crate::{findings::Reports, resolve::World};

/// How many steps of a long circle are told at its beginning, and at its end.
const SHOWN: usize = 4;

/// Who names whom as a target.
type Edges = BTreeMap<ObjectRef, Vec<ObjectRef>>;

/// Refuses every virtual Model that can come back to itself. Those that merely lead to one lose that target alone.
pub(crate) fn refuse(world: &World<'_>, rows: &mut Rows<Model>, reports: &mut Reports<'_>) {
    let edges = in_circles(edges(rows));
    let mut refused: BTreeSet<&ObjectRef> = BTreeSet::new();
    for id in edges.keys() {
        if refused.contains(id) {
            continue;
        }
        let Some(circle) = circle_through(&edges, id) else { continue };
        for at in 0..circle.len() {
            if refused.insert(circle[at]) {
                refuse_one(world, rows, reports, &circle, at);
            }
        }
    }
}

fn refuse_one(world: &World<'_>, rows: &mut Rows<Model>, reports: &mut Reports<'_>, circle: &[&ObjectRef], at: usize) {
    let found = reports.of(Kind::Model, circle[at]);
    found.refuse(format!(
        "spec.virtual.targets: the Model leads back to itself ({}): take out one of these targets",
        in_words(world, circle, at)
    ));
    let Some(row) = rows.get_mut(circle[at]) else { return };
    if let Row::Usable(model) = row {
        *row = found.row_if_accepted(model.clone());
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

/// The Models that are part of a circle, or stand between two.
fn in_circles(edges: Edges) -> Edges {
    let inward = reversed(&without_dead_ends(edges));
    reversed(&without_dead_ends(inward))
}

fn reversed(edges: &Edges) -> Edges {
    let mut turned: Edges = edges.keys().map(|id| (id.clone(), Vec::new())).collect();
    for (id, targets) in edges {
        for target in targets {
            if let Some(namers) = turned.get_mut(target) {
                namers.push(id.clone());
            }
        }
    }
    turned
}

/// What is left when those that name none of the others are taken away until there are none.
fn without_dead_ends(edges: Edges) -> Edges {
    let named_by = reversed(&edges);
    let mut waiting: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
    for (id, targets) in &edges {
        waiting.insert(id, targets.iter().filter(|target| edges.contains_key(target)).count());
    }
    let mut ends: Vec<&ObjectRef> = waiting.iter().filter(|(_, left)| **left == 0).map(|(id, _)| *id).collect();
    let mut gone: BTreeSet<ObjectRef> = BTreeSet::new();
    while let Some(end) = ends.pop() {
        gone.insert(end.clone());
        for namer in &named_by[end] {
            let left = waiting.get_mut(namer).expect("who names one of them is one of them");
            *left -= 1;
            if *left == 0 {
                ends.push(namer);
            }
        }
    }
    edges.into_iter().filter(|(id, _)| !gone.contains(id)).collect()
}

/// The shortest way from a Model back to itself, without coming back.
fn circle_through<'a>(edges: &'a Edges, start: &'a ObjectRef) -> Option<Vec<&'a ObjectRef>> {
    let mut from: BTreeMap<&ObjectRef, &ObjectRef> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in edges.get(at).into_iter().flatten() {
            if next == start {
                let mut way: Vec<&ObjectRef> =
                    std::iter::successors(Some(at), |step| from.get(*step).copied()).collect();
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(next) {
                from.insert(next, at);
                open.push_back(next);
            }
        }
    }
    None
}

/// The way round as the owner of `circle[at]` may see it: Models that are not open to that namespace stay unnamed, and of
/// many steps only the first and last are told.
fn in_words(world: &World<'_>, circle: &[&ObjectRef], at: usize) -> String {
    let own = &circle[at].namespace;
    let step = |id: &ObjectRef| match (id.namespace == *own, world.is_open(Kind::Model, id, own)) {
        (true, _) => format!("`{}`", id.name),
        (false, true) => format!("`{id}`"),
        (false, false) => "...".to_owned(),
    };
    let round = |n: usize| step(circle[(at + n) % circle.len()]);
    let steps: Vec<String> = match circle.len() {
        short if short <= 2 * SHOWN => (0..=short).map(round).collect(),
        long => {
            let first = (0..SHOWN).map(round);
            first.chain(["...".to_owned()]).chain((long + 1 - SHOWN..=long).map(round)).collect()
        }
    };
    steps.join(" -> ")
}
