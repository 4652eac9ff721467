//! Models: where a public id is served, what it takes and what it costs.

use std::collections::{BTreeMap, BTreeSet};

use crds::Kind;
use table::{
    Binding, Capability, Host, Model, ObjectRef, ReasoningStyle, Route, Row, Rows, Target, Traits, VirtualStrategy,
    Visibility,
};

use crate::{
    precedence::{Claim, losers},
    pricing,
    reports::{Reason, Reports},
    resolve::World,
    shared,
};

pub(crate) fn rows(world: &World<'_>, hosts: &Rows<Host>, reports: &mut Reports) -> Rows<Model> {
    let models = &world.resources.models;
    let claims = models.iter().flat_map(|(id, object)| {
        names(id, &object.spec).into_iter().map(move |name| Claim::new((&id.namespace, name), id, object))
    });
    let lost = losers(claims.collect());
    let mut rows = Rows::new();
    for (id, object) in models {
        let row = match lost.get(id) {
            Some(((_, name), owner)) => Err((
                Reason::Conflicted,
                format!("`{name}` is already the name or an alias of Model `{}`, which is older", owner.name),
            )),
            None => row(world, hosts, id, &object.spec, reports).map_err(|message| (Reason::Invalid, message)),
        };
        rows.insert(
            id.clone(),
            row.map_or_else(
                |(reason, message)| {
                    reports.refuse(Kind::Model, id, reason, message.clone());
                    Row::Invalid { reason: message }
                },
                Row::Usable,
            ),
        );
    }
    refuse_cycles(&mut rows, reports);
    note_unusable(&mut rows, reports);
    rows
}

fn names<'a>(id: &'a ObjectRef, spec: &'a crds::ModelSpec) -> BTreeSet<&'a str> {
    let own = spec.model_name.as_deref().unwrap_or(&id.name);
    spec.aliases.iter().flatten().map(String::as_str).chain([own]).collect()
}

fn row(
    world: &World<'_>,
    hosts: &Rows<Host>,
    id: &ObjectRef,
    spec: &crds::ModelSpec,
    reports: &mut Reports,
) -> Result<Model, String> {
    let route = match (&spec.hosts, &spec.virtual_) {
        (Some(bindings), None) => Route::Bindings(
            bindings
                .iter()
                .enumerate()
                .map(|(at, binding)| self::binding(world, hosts, id, spec, (at, binding), reports))
                .collect::<Result<_, _>>()?,
        ),
        (None, Some(written)) => virtual_route(world, id, written, reports),
        (Some(_), Some(_)) | (None, None) => {
            return Err("spec needs exactly one of `hosts` and `virtual`".to_owned());
        }
    };
    if spec.suspend.unwrap_or(false) {
        reports.unready(Kind::Model, id, Reason::Paused, "`spec.suspend` is true".to_owned());
    }
    let model_name = spec.model_name.clone().unwrap_or_else(|| id.name.clone());
    let mut aliases: Vec<String> = spec.aliases.clone().unwrap_or_default();
    aliases.retain(|alias| *alias != model_name);
    aliases.sort();
    Ok(Model {
        model_name,
        aliases,
        route,
        capabilities: spec.capabilities.iter().flatten().map(|capability| self::capability(*capability)).collect(),
        context_window: spec.context_window,
        max_output_tokens: spec.max_output_tokens,
        pricing: spec.pricing.as_ref().map(|written| pricing::pricing("spec.pricing", written)).transpose()?,
        visibility: match spec.visibility {
            None | Some(crds::Visibility::Public) => Visibility::Public,
            Some(crds::Visibility::Internal) => Visibility::Internal,
        },
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::Model, id),
    })
}

fn binding(
    world: &World<'_>,
    hosts: &Rows<Host>,
    id: &ObjectRef,
    spec: &crds::ModelSpec,
    (at, written): (usize, &crds::Binding),
    reports: &mut Reports,
) -> Result<Binding, String> {
    let field = format!("spec.hosts[{at}]");
    let (host, unusable) = match world.follow(Kind::Host, &format!("{field}.hostRef"), &id.namespace, &written.host_ref)
    {
        Ok(host) => {
            let unusable = match hosts.get(&host) {
                Some(Row::Usable(_)) => None,
                Some(Row::Invalid { .. }) | None => {
                    let message =
                        format!("{field}.hostRef: Host `{}` cannot be used; its own conditions say why", host.name);
                    reports.unresolved(Kind::Model, id, Reason::Invalid, message.clone());
                    Some(message)
                }
            };
            (host, unusable)
        }
        Err((reason, message)) => {
            reports.unresolved(Kind::Model, id, reason, message.clone());
            let namespace = written.host_ref.namespace.as_deref().unwrap_or(&id.namespace);
            (ObjectRef::new(namespace, &written.host_ref.name), Some(message))
        }
    };
    let model_name = spec.model_name.clone().unwrap_or_else(|| id.name.clone());
    let upstream_model = written.upstream_model.clone().unwrap_or(model_name);
    let pricing_field = format!("{field}.pricing");
    Ok(Binding {
        name: written.name.clone(),
        host,
        traits: traits(&upstream_model, spec),
        upstream_model,
        weight: written.weight.unwrap_or(shared::WEIGHT),
        priority: written.priority.unwrap_or(0),
        suspended: written.suspend.unwrap_or(false),
        pricing: written.pricing.as_ref().map(|written| pricing::pricing(&pricing_field, written)).transpose()?,
        context_window: written.context_window,
        unusable,
    })
}

/// What is known of the upstream model by its name, and the manifest's own words over it.
fn traits(upstream_model: &str, spec: &crds::ModelSpec) -> Traits {
    let mut traits = Traits::for_model(upstream_model);
    if let Some(max) = spec.max_output_tokens {
        traits.max_output_tokens = max;
    }
    let Some(written) = &spec.traits else { return traits };
    fn set<T>(place: &mut T, written: Option<T>) {
        if let Some(written) = written {
            *place = written;
        }
    }
    traits.known = true;
    set(&mut traits.sampling, written.sampling);
    set(&mut traits.temperature_with_top_p, written.temperature_with_top_p);
    set(&mut traits.stop, written.stop);
    set(&mut traits.efforts, written.efforts.clone());
    set(&mut traits.chat_tools_with_reasoning, written.chat_tools_with_reasoning);
    set(&mut traits.developer_role, written.developer_role);
    set(&mut traits.forced_tool_choice, written.forced_tool_choice);
    set(&mut traits.prefill, written.prefill);
    set(&mut traits.mid_conversation_system, written.mid_conversation_system);
    set(&mut traits.json_schema, written.json_schema);
    set(&mut traits.prompt_cache_breakpoints, written.prompt_cache_breakpoints);
    let reasoning = written.reasoning.map(|reasoning| match reasoning {
        crds::ReasoningTrait::None => ReasoningStyle::None,
        crds::ReasoningTrait::Effort => ReasoningStyle::Effort,
        crds::ReasoningTrait::AdaptiveThinking => ReasoningStyle::AdaptiveThinking,
        crds::ReasoningTrait::BudgetThinking => ReasoningStyle::BudgetThinking,
    });
    set(&mut traits.reasoning, reasoning);
    traits
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

fn virtual_route(world: &World<'_>, id: &ObjectRef, written: &crds::Virtual, reports: &mut Reports) -> Route {
    let mut target = |(at, target): (usize, &crds::Target)| {
        let field = format!("spec.virtual.targets[{at}].modelRef");
        let followed = world.follow(Kind::Model, &field, &id.namespace, &target.model_ref);
        let (model, unusable) = followed.map_or_else(
            |(reason, message)| {
                reports.unresolved(Kind::Model, id, reason, message.clone());
                let namespace = target.model_ref.namespace.as_deref().unwrap_or(&id.namespace);
                (ObjectRef::new(namespace, &target.model_ref.name), Some(message))
            },
            |model| (model, None),
        );
        let weight = target.weight.unwrap_or(shared::WEIGHT);
        Target { model, weight, priority: target.priority.unwrap_or(0), unusable }
    };
    Route::Virtual {
        strategy: match written.strategy {
            crds::VirtualStrategy::Weighted => VirtualStrategy::Weighted,
            crds::VirtualStrategy::Failover => VirtualStrategy::Failover,
        },
        targets: written.targets.iter().enumerate().map(&mut target).collect(),
    }
}

/// Refuses every virtual model that is part of a cycle; those that merely lead to one lose that target alone.
fn refuse_cycles(rows: &mut Rows<Model>, reports: &mut Reports) {
    let edges: BTreeMap<ObjectRef, Vec<ObjectRef>> = rows
        .iter()
        .filter_map(|(id, row)| match row.usable().map(|model| &model.route) {
            Some(Route::Virtual { targets, .. }) => {
                Some((id.clone(), targets.iter().map(|target| target.model.clone()).collect()))
            }
            Some(Route::Bindings(_)) | None => None,
        })
        .collect();
    for id in edges.keys() {
        let Some(cycle) = cycle_through(&edges, id) else { continue };
        let path = cycle.iter().map(|id| format!("`{}`", id.name)).collect::<Vec<_>>().join(" -> ");
        let message = format!("spec.virtual.targets: the model is its own target: {path}");
        reports.refuse(Kind::Model, id, Reason::Invalid, message.clone());
        rows.insert(id.clone(), Row::Invalid { reason: message });
    }
}

/// The shortest way from a model back to itself, both ends included.
fn cycle_through(edges: &BTreeMap<ObjectRef, Vec<ObjectRef>>, start: &ObjectRef) -> Option<Vec<ObjectRef>> {
    let (mut seen, mut open) = (BTreeSet::new(), std::collections::VecDeque::from([vec![start.clone()]]));
    while let Some(path) = open.pop_front() {
        let last = path.last()?;
        for next in edges.get(last).into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                open.push_back(longer);
            }
        }
    }
    None
}

/// Targets that turned out unusable, and models that nothing serves.
fn note_unusable(rows: &mut Rows<Model>, reports: &mut Reports) {
    let usable: BTreeSet<ObjectRef> =
        rows.iter().filter(|(_, row)| row.usable().is_some()).map(|(id, _)| id.clone()).collect();
    for (id, row) in rows.iter_mut() {
        let Row::Usable(model) = row else { continue };
        let Route::Virtual { targets, .. } = &mut model.route else { continue };
        for (at, target) in targets.iter_mut().enumerate() {
            if target.unusable.is_none() && !usable.contains(&target.model) {
                let name = &target.model.name;
                let message = format!(
                    "spec.virtual.targets[{at}].modelRef: Model `{name}` cannot be used; its own conditions say why"
                );
                reports.unresolved(Kind::Model, id, Reason::Invalid, message.clone());
                target.unusable = Some(message);
            }
        }
    }
}
