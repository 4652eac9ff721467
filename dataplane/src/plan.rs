//! Which hosts and keys could serve a request, in which order, and why not the others.
//!
//! Decides by the table, the policies, and what is known of hosts and keys at this moment; sends nothing. Requests,
//! `relay explain` and lists of models all ask here.

mod claims;
mod draw;
mod expand;
mod fit;
mod lottery;
mod order;
mod rules;
mod skipped;

use std::{sync::Arc, time::Instant};

use http::HeaderValue;
use jiff::Timestamp;
use protocol::{Traits, WireShape, ask::Ask};
use table::{Auth, Binding, ObjectRef, Timeouts};

use crate::{
    admit::Grant,
    auth::Caller,
    denied::Denied,
    headers,
    limit::estimate::Estimate,
    pool::signals::HostSignals,
    resolve::Pin,
    world::{Host, HostKey, Model, Price, World},
};

pub use claims::{Step, Steps, caller_scopes};
pub use draw::{Draw, Weather};
pub use rules::Rules;
pub use skipped::{Place, Skipped, Why};

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Which endpoint is asked.
    pub purpose: Purpose,
    /// What the request asks for.
    pub ask: &'a Ask,
    /// How many tokens it is thought to take.
    pub estimate: Estimate,
    /// The time of day, for what expires.
    pub now: Timestamp,
    /// What chance is made of: equal seeds give equal plans.
    pub seed: u64,
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An answer in a conversation.
    Conversation,
    /// A count of its tokens.
    CountTokens,
    /// Embeddings.
    Embeddings,
}

/// Who could serve a request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order in which they are tried; never empty.
    pub candidates: Vec<Candidate>,
    /// What could not, and why.
    pub skipped: Vec<Skipped>,
    /// What the caller's policies say together.
    pub rules: Arc<Rules>,
    /// When the first of the keys that are out may be back; absent: none is out.
    pub earliest: Option<Instant>,
}

/// A model at a host, with the keys that may be drawn.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host: Arc<Host>,
    /// What is served there.
    pub served: Served,
    /// In the order in which they are tried; never empty.
    pub draws: Vec<Draw>,
    /// Health and load of the host.
    pub signals: Arc<HostSignals>,
    /// How long each phase may take: the host's times, cut by the policies'.
    pub timeouts: Timeouts,
    /// Whether its host or all of its keys are known to be failing: tried when nothing else is left.
    pub is_last_resort: bool,
}

/// What a candidate serves.
#[derive(Clone, Debug)]
pub enum Served {
    /// A binding of a Model, by its index.
    Bound {
        /// The Model.
        model: Arc<Model>,
        /// Which of its bindings.
        binding: usize,
    },
    /// A model that no Model names, under its own name.
    Family {
        /// The name.
        name: String,
        /// What models of that name take.
        traits: Box<Traits>,
    },
}

impl Served {
    fn binding(&self) -> Option<&Binding> {
        match self {
            Served::Bound { model, binding } => Some(&model.bindings()[*binding]),
            Served::Family { .. } => None,
        }
    }

    fn model(&self) -> Option<&Arc<Model>> {
        match self {
            Served::Bound { model, .. } => Some(model),
            Served::Family { .. } => None,
        }
    }

    fn upstream_model(&self) -> &str {
        match self {
            Served::Bound { model, binding } => &model.bindings()[*binding].upstream_model,
            Served::Family { name, .. } => name,
        }
    }

    fn told_upstream_model(&self) -> Arc<str> {
        match self {
            Served::Bound { model, binding } => model.upstream_model(*binding).clone(),
            Served::Family { name, .. } => name.as_str().into(),
        }
    }

    fn context_window(&self) -> Option<u64> {
        self.binding().and_then(|binding| binding.context_window).or(self.model()?.row.context_window)
    }

    fn price(&self) -> Option<&Arc<Price>> {
        match self {
            Served::Bound { model, binding } => model.price(*binding),
            Served::Family { .. } => None,
        }
    }
}

impl Candidate {
    /// What the host calls the model.
    pub fn upstream_model(&self) -> &str {
        self.served.upstream_model()
    }

    /// The same, to be kept.
    pub(crate) fn told_upstream_model(&self) -> Arc<str> {
        self.served.told_upstream_model()
    }

    /// The Model that it is of; absent: no Model names it.
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.served.model()
    }

    /// The public id of what it serves.
    pub fn public_model(&self) -> &str {
        match &self.served {
            Served::Bound { model, .. } => &model.row.model_name,
            Served::Family { name, .. } => name,
        }
    }

    /// The same, as a header tells it.
    pub(crate) fn public_model_header(&self) -> HeaderValue {
        match &self.served {
            Served::Bound { model, .. } => model.header.clone(),
            Served::Family { name, .. } => headers::told(name),
        }
    }

    /// What the model takes here.
    pub fn traits(&self) -> &Traits {
        match &self.served {
            Served::Bound { model, binding } => &model.bindings()[*binding].traits,
            Served::Family { traits, .. } => traits,
        }
    }

    /// The wire shape of its host.
    pub fn shape(&self) -> WireShape {
        self.host.row.shape
    }

    /// The most tokens of one answer where the Model says so.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.model()?.row.max_output_tokens
    }

    /// What an answer costs; absent: not known.
    pub fn price(&self) -> Option<&Arc<Price>> {
        self.served.price()
    }

    /// The host keys that are tried, in order; none where the host needs none.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<HostKey>> {
        self.draws.iter().filter_map(|draw| draw.key.as_ref())
    }

    /// Whether it needs a host key.
    pub fn needs_key(&self) -> bool {
        needs_key(&self.host)
    }
}

fn needs_key(host: &Host) -> bool {
    match host.row.auth {
        Auth::Bearer | Auth::Header(_) | Auth::Query(_) => true,
        Auth::None => false,
    }
}

/// Who could serve a request, in which order, and why not the others. Errs where nobody could.
pub fn plan(world: &World, grant: &Grant, query: &Query<'_>, weather: &Weather<'_>) -> Result<Plan, Denied> {
    let mut skipped = Vec::new();
    let plan = explained(world, grant, query, weather, &mut skipped)?;
    Ok(Plan { skipped, ..plan })
}

/// As [`plan`], with what was skipped apart, so that it is told also where nobody could serve.
pub fn explained(
    world: &World,
    grant: &Grant,
    query: &Query<'_>,
    weather: &Weather<'_>,
    skipped: &mut Vec<Skipped>,
) -> Result<Plan, Denied> {
    let rules = grant.caller().key.rules.clone();
    let chance = if rules.is_sticky { draw::affinity(query) } else { query.seed };
    let groups = expand::groups(world, grant, chance, skipped);
    let ordered = order::of(groups, &rules, chance, query, weather);
    let (fitting, too_small) = fit::sort_out(ordered, grant, query, skipped);
    // An estimate must not refuse what the largest model might still take; its own words say more than ours would.
    let leaves = if fitting.is_empty() { fit::largest(too_small, skipped) } else { fitting };
    let ready = Vec::with_capacity(leaves.len());
    let mut candidates = Candidates { ready, ..Candidates::default() };
    for leaf in leaves {
        let Some(keys) = fit::keys(&leaf, grant.caller(), query.now, skipped) else { continue };
        let places = (&mut *skipped, &mut candidates.out);
        let draws = draw::draws(&leaf, keys, &rules, query, weather, places);
        candidates.add(leaf, draws, &rules, weather);
    }
    let earliest = candidates.out.iter().map(|out| out.until).min();
    match candidates.in_order() {
        Ok(candidates) => Ok(Plan { candidates, skipped: Vec::new(), rules, earliest }),
        Err(out) if out.is_empty() => Err(skipped::denial(&grant.resolved().name, skipped)),
        Err(out) => Err(draw::all_out(&grant.resolved().name, &out, weather.now)),
    }
}

/// Candidates in the making.
#[derive(Default)]
struct Candidates {
    ready: Vec<Candidate>,
    /// Those whose keys have failed, but were neither refused nor limited.
    last_resort: Vec<Candidate>,
    /// Keys that are out.
    out: Vec<draw::Out>,
}

impl Candidates {
    fn add(&mut self, leaf: expand::Leaf, draws: draw::Draws, rules: &Rules, weather: &Weather<'_>) {
        let is_ready = !draws.ready.is_empty();
        let (place, draws) =
            if is_ready { (&mut self.ready, draws.ready) } else { (&mut self.last_resort, draws.last_resort) };
        if draws.is_empty() {
            return;
        }
        let signals = weather.signals.host(&leaf.host.id);
        let is_last_resort = !is_ready || draw::is_failing(&signals, weather.now);
        let timeouts = rules.timeouts_at(&leaf.host.row);
        place.push(Candidate { host: leaf.host, served: leaf.served, draws, signals, timeouts, is_last_resort });
    }

    /// Those with a key that is ready, failing hosts last; else those that are worth a last try; else what is out.
    fn in_order(mut self) -> Result<Vec<Candidate>, Vec<draw::Out>> {
        self.ready.sort_by_key(|candidate| candidate.is_last_resort);
        let tried = if self.ready.is_empty() { self.last_resort } else { self.ready };
        if tried.is_empty() { Err(self.out) } else { Ok(tried) }
    }
}

/// Whether a caller who was granted `model` could be served by anybody, whatever it asks for.
pub(crate) fn is_reachable(world: &World, caller: &Caller, model: &Arc<Model>, now: Timestamp) -> bool {
    let mut unheard = Vec::new();
    let groups = expand::of_model(world, &caller.key.policies, model, 0, &mut unheard);
    groups.into_iter().flatten().any(|leaf| {
        fit::standing_obstacle(&leaf, &caller.key.policies, None).is_none()
            && fit::keys(&leaf, caller, now, &mut Vec::new()).is_some()
    })
}

impl Plan {
    /// The plan as lines for people, candidates first: what `relay explain` and the debug header show.
    pub fn lines(&self) -> Vec<String> {
        let tried = self.candidates.iter().enumerate().map(|(at, candidate)| {
            let keys: Vec<&str> = candidate.keys().map(|key| key.id.name.as_str()).collect();
            let keys = if candidate.needs_key() { format!("keys {}", keys.join(", ")) } else { "no key".to_owned() };
            let (host, upstream) = (&candidate.host.id, candidate.upstream_model());
            let last = if candidate.is_last_resort { ", failing" } else { "" };
            format!(
                "{}. {} at {host} as {upstream} ({}, {keys}{last})",
                at + 1,
                candidate.public_model(),
                candidate.shape()
            )
        });
        tried.chain(self.skipped.iter().map(|skipped| format!("- {skipped}"))).collect()
    }

    /// The plan for the debug header of a caller of `namespace`: keys of other namespaces that it may not draw are not
    /// its to know.
    pub fn debug_lines(&self, namespace: &str) -> Vec<String> {
        let is_shown = |skipped: &&Skipped| match &skipped.place {
            Place::Key(key) => key.id.namespace == namespace,
            Place::Model(_) | Place::Host { .. } => true,
        };
        let skipped = self.skipped.iter().filter(is_shown).map(|skipped| format!("- {skipped}"));
        let mut lines = self.lines();
        lines.truncate(self.candidates.len());
        lines.extend(skipped);
        lines
    }
}

/// A host that a pin names, or every one.
fn is_pinned_away(pin: Option<&Pin>, host: &Host) -> bool {
    pin.is_some_and(|pin| !pin.takes(host))
}

/// The place of a leaf in skipped lines.
fn place(host: &ObjectRef, model: Option<&Arc<Model>>) -> Place {
    Place::Host { model: model.map(|model| model.row.model_name.clone()), host: host.clone() }
}

#[cfg(test)]
mod scoped;
#[cfg(test)]
mod tests;
