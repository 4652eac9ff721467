//! Models: where a public id is served, what it takes and what it costs. Who has an id when two Models claim it is
//! decided in `precedence`, circles of virtual Models are found in `cycles`.

use std::collections::BTreeSet;

use crds::Kind;
use table::{Binding, Capability, Host, Model, ObjectRef, Route, Row, Rows, Target, VirtualStrategy, Visibility};

use crate::{
    findings::{Findings, Reports},
    pricing,
    resolve::World,
    shared, traits,
};

pub(crate) fn rows(world: &World<'_>, hosts: &Rows<Host>, reports: &mut Reports<'_>) -> Rows<Model> {
    world.rows(Kind::Model, &world.resources.models, reports, |id, object, found| {
        let model = model(world, hosts, id, &object.spec, found);
        found.row_if_accepted(model)
    })
}

fn model(world: &World<'_>, hosts: &Rows<Host>, id: &ObjectRef, spec: &crds::ModelSpec, found: &mut Findings) -> Model {
    let model_name = spec.model_name.clone().unwrap_or_else(|| id.name.clone());
    Model {
        aliases: aliases(&model_name, spec),
        route: route(world, hosts, id, spec, found),
        capabilities: spec.capabilities.iter().flatten().map(|capability| self::capability(*capability)).collect(),
        context_window: spec.context_window,
        max_output_tokens: spec.max_output_tokens,
        pricing: spec.pricing.as_ref().map(|written| pricing::pricing("spec.pricing", written, found)),
        visibility: match spec.visibility {
            None | Some(crds::Visibility::Public) => Visibility::Public,
            Some(crds::Visibility::Internal) => Visibility::Internal,
        },
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::Model, id),
        model_name,
    }
}

fn aliases(model_name: &str, spec: &crds::ModelSpec) -> Vec<String> {
    let distinct: BTreeSet<&String> = spec.aliases.iter().flatten().filter(|alias| *alias != model_name).collect();
    distinct.into_iter().cloned().collect()
}

fn route(world: &World<'_>, hosts: &Rows<Host>, id: &ObjectRef, spec: &crds::ModelSpec, found: &mut Findings) -> Route {
    match (&spec.hosts, &spec.virtual_) {
        (Some(bindings), None) => {
            let bindings = bindings.iter().enumerate();
            Route::Bindings(bindings.map(|(at, written)| binding(world, hosts, id, spec, at, written, found)).collect())
        }
        (None, Some(written)) => virtual_route(world, id, written, found),
        (Some(_), Some(_)) | (None, None) => {
            found.refuse("spec needs exactly one of `hosts` and `virtual`".to_owned());
            Route::Bindings(Vec::new())
        }
    }
}

fn binding(
    world: &World<'_>,
    hosts: &Rows<Host>,
    id: &ObjectRef,
    spec: &crds::ModelSpec,
    at: usize,
    written: &crds::Binding,
    found: &mut Findings,
) -> Binding {
    let model_name = spec.model_name.as_ref().unwrap_or(&id.name);
    let upstream_model = written.upstream_model.as_ref().unwrap_or(model_name).clone();
    Binding {
        name: written.name.clone(),
        host: world.target(&id.namespace, &written.host_ref),
        traits: traits::traits(world, format_args!("spec.hosts[{at}]"), &upstream_model, spec, found),
        upstream_model,
        weight: written.weight.unwrap_or(shared::WEIGHT),
        priority: written.priority.unwrap_or(0),
        suspended: written.suspend.unwrap_or(false),
        pricing: written.pricing.as_ref().map(|own| pricing::pricing(&format!("spec.hosts[{at}].pricing"), own, found)),
        context_window: written.context_window,
        unusable: unusable_host(world, hosts, id, at, &written.host_ref, found),
    }
}

/// Why a binding's host cannot be used, where it cannot.
fn unusable_host(
    world: &World<'_>,
    hosts: &Rows<Host>,
    id: &ObjectRef,
    at: usize,
    reference: &crds::ObjectRef,
    found: &mut Findings,
) -> Option<String> {
    let field = format_args!("spec.hosts[{at}].hostRef");
    match world.follow(Kind::Host, field, &id.namespace, reference) {
        Ok(host) => match hosts.get(&host) {
            Some(Row::Usable(_)) => None,
            Some(Row::Invalid { .. }) | None => Some(shared::broken(Kind::Host, field, &host)),
        },
        Err(problem) => {
            let message = problem.1.clone();
            found.unresolved(problem);
            Some(message)
        }
    }
}

fn virtual_route(world: &World<'_>, id: &ObjectRef, written: &crds::Virtual, found: &mut Findings) -> Route {
    let targets = written.targets.iter().enumerate();
    Route::Virtual {
        strategy: match written.strategy {
            crds::VirtualStrategy::Weighted => VirtualStrategy::Weighted,
            crds::VirtualStrategy::Failover => VirtualStrategy::Failover,
        },
        targets: targets.map(|(at, written)| target(world, id, at, written, found)).collect(),
    }
}

fn target(world: &World<'_>, id: &ObjectRef, at: usize, written: &crds::Target, found: &mut Findings) -> Target {
    let followed = world.follow(Kind::Model, target_field(at), &id.namespace, &written.model_ref);
    let unusable = followed.as_ref().err().map(|(_, message)| message.clone());
    found.resolved(followed);
    Target {
        model: world.target(&id.namespace, &written.model_ref),
        weight: written.weight.unwrap_or(shared::WEIGHT),
        priority: written.priority.unwrap_or(0),
        unusable,
    }
}

fn target_field(at: usize) -> String {
    format!("spec.virtual.targets[{at}].modelRef")
}

/// Marks the targets that are there but turned out unusable.
pub(crate) fn mark_dead_targets(rows: &mut Rows<Model>) {
    let usable: BTreeSet<ObjectRef> =
        rows.iter().filter(|(_, row)| row.usable().is_some()).map(|(id, _)| id.clone()).collect();
    for row in rows.values_mut() {
        let Row::Usable(Model { route: Route::Virtual { targets, .. }, .. }) = row else { continue };
        for (at, target) in targets.iter_mut().enumerate() {
            if target.unusable.is_none() && !usable.contains(&target.model) {
                target.unusable = Some(shared::broken(Kind::Model, target_field(at), &target.model));
            }
        }
    }
}

fn capability(written: crds::Capability) -> Capability {
    match written {
        crds::Capability::Chat => Capability::Chat,
        crds::Capability::Embeddings => Capability::Embeddings,
        crds::Capability::Streaming => Capability::Streaming,
        crds::Capability::Tools => Capability::Tools,
        crds::Capability::ParallelTools => Capability::ParallelTools,
        crds::Capability::JsonSchema => Capability::JsonSchema,
        crds::Capability::Vision => Capability::Vision,
        crds::Capability::AudioIn => Capability::AudioIn,
        crds::Capability::AudioOut => Capability::AudioOut,
        crds::Capability::Reasoning => Capability::Reasoning,
        crds::Capability::PromptCache => Capability::PromptCache,
    }
}
