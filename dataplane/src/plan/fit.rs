//! Which places can serve a request: in service, open by policy, able to do what is needed, and with a key to draw.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use protocol::ask::Needs;
use smallvec::SmallVec;
use table::Capability;

use super::{Place, Purpose, Query, Skipped, Why, expand::Leaf, is_pinned_away, needs_key, place};
use crate::{
    admit::{self, Grant},
    auth::Caller,
    resolve::Pin,
    world::{HostKey, Model, Policy},
};

/// Those that can serve, and those that could if their context window were larger.
pub(super) fn sort_out(
    leaves: Vec<Leaf>,
    grant: &Grant,
    query: &Query<'_>,
    skipped: &mut Vec<Skipped>,
) -> (Vec<Leaf>, Vec<(Leaf, Why)>) {
    let pin = grant.resolved().pin.as_ref();
    let repeated = repeated(&leaves);
    let obstacle = |(at, leaf): (usize, &Leaf)| {
        let obstacle = standing_obstacle(leaf, grant.policies(), pin).or_else(|| unfitness(leaf, query));
        obstacle.or_else(|| repeated.contains(&at).then_some(Why::Repeated))
    };
    let obstacles: SmallVec<[Option<Why>; 4]> = leaves.iter().enumerate().map(obstacle).collect();
    if obstacles.iter().all(Option::is_none) {
        return (leaves, Vec::new());
    }
    let (mut fitting, mut too_small) = (Vec::with_capacity(leaves.len()), Vec::new());
    for (leaf, obstacle) in leaves.into_iter().zip(obstacles) {
        match obstacle {
            None => fitting.push(leaf),
            Some(why @ Why::TooSmall { .. }) => too_small.push((leaf, why)),
            Some(why) => skipped.push(Skipped { place: place(&leaf.host.id, leaf.served.model()), why }),
        }
    }
    if !fitting.is_empty() {
        let too_small = too_small.drain(..);
        skipped.extend(too_small.map(|(leaf, why)| Skipped { place: place(&leaf.host.id, leaf.served.model()), why }));
    }
    (fitting, too_small)
}

/// The places at which the same model at the same host comes before.
fn repeated(leaves: &[Leaf]) -> HashSet<usize> {
    if leaves.len() < 2 {
        return HashSet::new();
    }
    let mut seen = HashSet::with_capacity(leaves.len());
    let is_new = |leaf| seen.insert(leaf);
    let places = leaves.iter().map(|leaf| (&leaf.host.id, leaf.served.upstream_model())).map(is_new);
    places.enumerate().filter(|(_, is_new)| !is_new).map(|(at, _)| at).collect()
}

/// Of those that are all too small the largest, in their order; the others are skipped.
pub(super) fn largest(too_small: Vec<(Leaf, Why)>, skipped: &mut Vec<Skipped>) -> Vec<Leaf> {
    let window = too_small.iter().filter_map(|(leaf, _)| leaf.served.context_window()).max();
    let mut kept = Vec::new();
    for (leaf, why) in too_small {
        if leaf.served.context_window() == window {
            kept.push(leaf);
        } else {
            skipped.push(Skipped { place: place(&leaf.host.id, leaf.served.model()), why });
        }
    }
    kept
}

/// What keeps a place from serving any request of these policies.
pub(super) fn standing_obstacle(leaf: &Leaf, policies: &[Arc<Policy>], pin: Option<&Pin>) -> Option<Why> {
    if is_pinned_away(pin, &leaf.host) {
        return Some(Why::NotPinned);
    }
    if leaf.host.row.suspended {
        return Some(Why::Disabled("the host is suspended".to_owned()));
    }
    admit::host_denier(policies, &leaf.host).map(|policy| Why::Policy(policy.id.name.clone()))
}

/// What keeps a place from serving this request.
fn unfitness(leaf: &Leaf, query: &Query<'_>) -> Option<Why> {
    // Neither embeddings nor counts are translated.
    let is_translated = match query.purpose {
        Purpose::Conversation => true,
        Purpose::CountTokens | Purpose::Embeddings => false,
    };
    if !is_translated && leaf.host.row.shape != query.ask.shape {
        return Some(Why::Shape(leaf.host.row.shape));
    }
    if let Some(lacks) = leaf.served.model().and_then(|model| lacks(model, query)) {
        return Some(Why::Lacks(lacks));
    }
    let window = leaf.served.context_window()?;
    (query.estimate.input > window).then_some(Why::TooSmall { window, input: query.estimate.input })
}

/// The first thing that a request needs and a model is not said to do. What a translation can drop with a warning, such
/// as an effort of reasoning, is no need.
fn lacks(model: &Model, query: &Query<'_>) -> Option<&'static str> {
    let can = &model.row.capabilities;
    if can.is_empty() {
        return None;
    }
    let Needs { tools, parallel_tools: _, vision, documents: _, json_schema, reasoning: _, audio_in, audio_out } =
        query.ask.needs;
    let converses = match query.purpose {
        Purpose::Conversation | Purpose::CountTokens => true,
        Purpose::Embeddings => false,
    };
    let is_for_vectors = can.contains(&Capability::Embeddings) || can.contains(&Capability::Rerank);
    let needed = [
        (converses && is_for_vectors, Capability::Chat, "conversation (capability Chat)"),
        (!converses, Capability::Embeddings, "embeddings (capability Embeddings)"),
        (tools, Capability::Tools, "tools (capability Tools)"),
        (vision, Capability::Vision, "images (capability Vision)"),
        (json_schema, Capability::JsonSchema, "answers by schema (capability JsonSchema)"),
        (audio_in, Capability::AudioIn, "audio input (capability AudioIn)"),
        (audio_out, Capability::AudioOut, "audio output (capability AudioOut)"),
    ];
    needed
        .into_iter()
        .find(|(is_needed, capability, _)| *is_needed && !can.contains(capability))
        .map(|(.., words)| words)
}

/// Keys of a host that may be drawn.
pub(super) type Keys<'a> = SmallVec<[&'a Arc<HostKey>; 8]>;

/// The keys that the caller may draw there, as listed; absent: there is none although one is needed.
pub(super) fn keys<'a>(
    leaf: &'a Leaf,
    caller: &Caller,
    now: Timestamp,
    skipped: &mut Vec<Skipped>,
) -> Option<Keys<'a>> {
    let mut keys = Keys::new();
    if !needs_key(&leaf.host) {
        return Some(keys);
    }
    for key in &leaf.host.pool {
        match key.obstacle(caller.namespace(), leaf.served.upstream_model(), now) {
            None => keys.push(key),
            Some(why) => skipped.push(Skipped { place: Place::Key(key.clone()), why: Why::Key(why) }),
        }
    }
    if keys.is_empty() {
        skipped.push(Skipped { place: place(&leaf.host.id, leaf.served.model()), why: Why::NoKey });
        return None;
    }
    Some(keys)
}
