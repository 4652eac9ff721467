//! From a granted model to the places where it is served: virtual models become their targets, in order, and the
//! fallbacks of the policies follow.

use std::{cmp::Reverse, sync::Arc};

use protocol::Traits;
use smallvec::SmallVec;
use table::{Binding, ObjectRef, Route, Target, VirtualStrategy};

use super::{Place, Served, Skipped, Why, lottery, place};
use crate::{
    admit::{self, Grant},
    resolve::{self, MAX_DEPTH, Meaning},
    world::{Found, Host, Model, Policy, World},
};

/// A model at a host: what may become a candidate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) host: Arc<Host>,
    pub(super) served: Served,
    pub(super) priority: u32,
    pub(super) weight: u32,
}

/// Places among which the strategy of the policies chooses.
pub(super) type Group = Vec<Leaf>;

/// Groups that are tried one after the other: nearly always one.
pub(super) type Groups = SmallVec<[Group; 1]>;

/// Every place that could serve a grant.
pub(super) fn groups(world: &World, grant: &Grant, chance: u64, skipped: &mut Vec<Skipped>) -> Groups {
    let policies = grant.policies();
    let resolved = grant.resolved();
    let mut groups = match &resolved.meaning {
        Meaning::Model(model) => of_model(world, policies, model, chance, skipped),
        Meaning::Family(hosts) => hosts.iter().map(|host| vec![family(host, &resolved.name)]).collect(),
    };
    if resolved.pin.is_none() {
        for model in fallbacks(world, grant, skipped) {
            groups.extend(of_model(world, policies, &model, chance, skipped));
        }
    }
    groups
}

/// The places of one Model.
pub(super) fn of_model(
    world: &World,
    policies: &[Arc<Policy>],
    model: &Arc<Model>,
    chance: u64,
    skipped: &mut Vec<Skipped>,
) -> Groups {
    let mut expansion = Expansion { world, policies, chance, trail: Vec::new(), groups: Groups::new(), skipped };
    expansion.add(model);
    expansion.groups
}

fn family(host: &Arc<Host>, name: &str) -> Leaf {
    let served = Served::Family { name: name.to_owned(), traits: Box::new(Traits::for_model(name)) };
    Leaf { host: host.clone(), served, priority: 0, weight: 100 }
}

/// Models that follow by the policies' word, as far as the caller is granted them too.
fn fallbacks(world: &World, grant: &Grant, skipped: &mut Vec<Skipped>) -> Vec<Arc<Model>> {
    let caller = grant.caller();
    let named =
        |policy: &Arc<Policy>| policy.fallbacks.iter().find(|(glob, _)| glob.matches(grant.public_model())).cloned();
    let mut models = Vec::new();
    for id in grant.policies().iter().filter_map(named).flat_map(|(_, to)| to) {
        let mut skip = |why: &str| skipped.push(disabled(&id, why));
        match world.model(&id) {
            None => skip("it is missing"),
            Some(Found::Invalid(_)) => skip("its manifest is refused"),
            Some(Found::Usable(model)) if !resolve::is_visible(model, caller.namespace()) => {
                skip("it is not open to the caller's namespace");
            }
            Some(Found::Usable(model)) if !admit::is_granted(world, caller, model) => {
                skip("it is a fallback that a policy does not grant");
            }
            Some(Found::Usable(model)) => models.push(model.clone()),
        }
    }
    models
}

struct Expansion<'a> {
    world: &'a World,
    policies: &'a [Arc<Policy>],
    chance: u64,
    /// The virtual models that are being expanded.
    trail: Vec<ObjectRef>,
    groups: Groups,
    skipped: &'a mut Vec<Skipped>,
}

impl Expansion<'_> {
    fn add(&mut self, model: &Arc<Model>) {
        if self.trail.contains(&model.id) || self.trail.len() > MAX_DEPTH {
            self.skipped.push(Skipped { place: Place::Model(model.id.clone()), why: Why::Cycle });
            return;
        }
        if model.row.suspended {
            self.skipped.push(disabled(&model.id, "it is suspended"));
            return;
        }
        if let Some(policy) = admit::denier(self.policies, model) {
            let why = Why::Policy(policy.id.name.clone());
            self.skipped.push(Skipped { place: Place::Model(model.id.clone()), why });
            return;
        }
        match &model.row.route {
            Route::Bindings(bindings) => self.add_bindings(model, bindings),
            Route::Virtual { strategy, targets } => {
                self.trail.push(model.id.clone());
                for target in self.in_order(*strategy, targets) {
                    self.add_target(target);
                }
                self.trail.pop();
            }
        }
    }

    fn in_order<'t>(&self, strategy: VirtualStrategy, targets: &'t [Target]) -> Vec<&'t Target> {
        let mut ordered: Vec<&Target> = targets.iter().collect();
        match strategy {
            VirtualStrategy::Failover => ordered.sort_by_key(|target| target.priority),
            VirtualStrategy::Weighted => {
                let score = |target: &Target| lottery::score(self.chance, &target.model.to_string(), target.weight);
                ordered.sort_by(|a, b| score(b).total_cmp(&score(a)));
            }
        }
        ordered
    }

    fn add_target(&mut self, target: &Target) {
        if let Some(reason) = &target.unusable {
            return self.skipped.push(disabled(&target.model, reason));
        }
        match self.world.model(&target.model) {
            Some(Found::Usable(model)) => self.add(&model.clone()),
            Some(Found::Invalid(_)) => self.skipped.push(disabled(&target.model, "its manifest is refused")),
            None => self.skipped.push(disabled(&target.model, "it is missing")),
        }
    }

    fn add_bindings(&mut self, model: &Arc<Model>, bindings: &[Binding]) {
        let mut group = Group::with_capacity(bindings.len());
        for (index, binding) in bindings.iter().enumerate() {
            let obstacle = match self.world.host(&binding.host) {
                _ if binding.suspended => "the binding is suspended",
                _ if binding.unusable.is_some() => binding.unusable.as_deref().unwrap_or_default(),
                None => "the host is missing",
                Some(Found::Invalid(_)) => "the host's manifest is refused",
                Some(Found::Usable(host)) => {
                    let served = Served::Bound { model: model.clone(), binding: index };
                    let (priority, weight) = (binding.priority, binding.weight);
                    group.push(Leaf { host: host.clone(), served, priority, weight });
                    continue;
                }
            };
            let place = place(&binding.host, Some(model));
            self.skipped.push(Skipped { place, why: Why::Disabled(obstacle.to_owned()) });
        }
        if bindings.is_empty() {
            self.skipped.push(disabled(&model.id, "it has no host"));
        }
        self.groups.push(group);
    }
}

fn disabled(model: &ObjectRef, reason: &str) -> Skipped {
    Skipped { place: Place::Model(model.clone()), why: Why::Disabled(reason.to_owned()) }
}

/// Heavier ones first.
pub(super) fn by_weight(leaf: &Leaf) -> Reverse<u32> {
    Reverse(leaf.weight)
}
