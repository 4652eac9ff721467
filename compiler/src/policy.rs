//! Policies: what relay keys may reach, how hard, and how their requests are routed.

use std::collections::BTreeSet;

use crds::Kind;
use table::{
    Fallback, Globs, LimitScope, Limits, Model, ModelLimits, ObjectRef, PartialTimeouts, Policy, Retries, RetryOn,
    Routing, RoutingTable, Row, Rows, Stickiness, Strategy, Translation,
};

use crate::{
    durations,
    reports::{Reason, Reports},
    resolve::World,
    shared,
};

pub(crate) fn rows(world: &World<'_>, models: &Rows<Model>, reports: &mut Reports) -> Rows<Policy> {
    let mut rows = Rows::new();
    for (id, object) in &world.resources.policies {
        let row = match row(world, models, id, &object.spec, reports) {
            Ok(policy) => Row::Usable(policy),
            Err(message) => {
                reports.refuse(Kind::Policy, id, Reason::Invalid, message.clone());
                Row::Invalid { reason: message }
            }
        };
        rows.insert(id.clone(), row);
    }
    rows
}

fn row(
    world: &World<'_>,
    models: &Rows<Model>,
    id: &ObjectRef,
    spec: &crds::PolicySpec,
    reports: &mut Reports,
) -> Result<Policy, String> {
    let granted = spec.models.as_ref();
    let mut follow = |field: String, reference: &crds::ObjectRef| {
        let followed = world.follow(Kind::Model, &field, &id.namespace, reference);
        match followed {
            Ok(model) if models.get(&model).and_then(Row::usable).is_some() => Some(model),
            Ok(model) => {
                let message = format!("{field}: Model `{}` cannot be used; its own conditions say why", model.name);
                reports.unresolved(Kind::Policy, id, Reason::Invalid, message);
                None
            }
            Err((reason, message)) => {
                reports.unresolved(Kind::Policy, id, reason, message);
                None
            }
        }
    };
    let references = granted.and_then(|granted| granted.refs.as_ref()).into_iter().flatten().enumerate();
    let model_refs = references.filter_map(|(at, r)| follow(format!("spec.models.refs[{at}]"), r)).collect();
    let fallbacks = spec.routing.as_ref().and_then(|routing| routing.fallbacks.as_ref()).into_iter().flatten();
    let fallbacks = fallbacks
        .enumerate()
        .map(|(at, fallback)| {
            let to = fallback.to.iter().enumerate();
            let to = to.filter_map(|(n, model)| follow(format!("spec.routing.fallbacks[{at}].to[{n}]"), model));
            Fallback { matches: fallback.pattern.clone(), to: to.collect() }
        })
        .collect();
    let limits = spec.limits.as_ref();
    Ok(Policy {
        models: granted
            .map_or(Globs::default(), |granted| shared::granted(granted.allow.as_ref(), granted.deny.as_ref())),
        model_refs,
        hosts: spec
            .hosts
            .as_ref()
            .map_or(Globs::default(), |hosts| shared::restricted(hosts.allow.as_ref(), hosts.deny.as_ref())),
        limits: limits.map_or(Limits::default(), |limits| shared::limits(&limits.dimensions())),
        limit_scope: match limits.and_then(|limits| limits.scope) {
            None | Some(crds::LimitScope::PerKey) => LimitScope::PerKey,
            Some(crds::LimitScope::Shared) => LimitScope::Shared,
        },
        per_model: limits
            .and_then(|limits| limits.per_model.as_ref())
            .into_iter()
            .flatten()
            .map(model_limits)
            .collect(),
        budgets: budgets(spec)?,
        routing: routing(spec.routing.as_ref(), fallbacks),
        retries: retries(spec.retries.as_ref()),
        timeouts: timeouts(spec.timeouts.as_ref()),
        translation: match spec.translation {
            None | Some(crds::Translation::Lenient) => Translation::Lenient,
            Some(crds::Translation::Strict) => Translation::Strict,
        },
        allowed: world.grant(Kind::Policy, id),
    })
}

fn model_limits(written: &crds::ModelLimits) -> ModelLimits {
    ModelLimits { matches: written.pattern.clone(), limits: shared::limits(&written.dimensions()) }
}

fn budgets(spec: &crds::PolicySpec) -> Result<Vec<table::Budget>, String> {
    let mut periods = BTreeSet::new();
    let mut budgets = Vec::new();
    for (at, written) in spec.budgets.iter().flatten().enumerate() {
        let field = format!("spec.budgets[{at}]");
        if !periods.insert(written.period) {
            return Err(format!("{field}.period `{}` has a budget already: one a period", written.period));
        }
        budgets.push(shared::budget(&field, written)?);
    }
    Ok(budgets)
}

fn routing(written: Option<&crds::Routing>, fallbacks: Vec<Fallback>) -> Routing {
    let standard = Routing::default();
    let Some(routing) = written else { return standard };
    Routing {
        strategy: match routing.strategy {
            None | Some(crds::RoutingStrategy::Priority) => Strategy::Priority,
            Some(crds::RoutingStrategy::Weighted) => Strategy::Weighted,
            Some(crds::RoutingStrategy::LeastLatency) => Strategy::LeastLatency,
            Some(crds::RoutingStrategy::Cheapest) => Strategy::Cheapest,
            Some(crds::RoutingStrategy::LeastBusy) => Strategy::LeastBusy,
        },
        max_attempts: routing.max_attempts.unwrap_or(standard.max_attempts),
        fallbacks,
        stickiness: match routing.stickiness {
            None | Some(crds::Stickiness::None) => Stickiness::None,
            Some(crds::Stickiness::Conversation) => Stickiness::Conversation,
        },
    }
}

fn retries(written: Option<&crds::Retries>) -> Retries {
    let standard = Retries::default();
    let Some(retries) = written else { return standard };
    let backoff = retries.backoff.as_ref();
    let on = retries.on.as_ref().map(|on| {
        let kinds = on.iter().map(|kind| match kind {
            crds::RetryOn::RateLimited => RetryOn::RateLimited,
            crds::RetryOn::ServerError => RetryOn::ServerError,
            crds::RetryOn::Connect => RetryOn::Connect,
            crds::RetryOn::Timeout => RetryOn::Timeout,
        });
        kinds.collect::<BTreeSet<_>>().into_iter().collect()
    });
    Retries {
        on: on.unwrap_or(standard.on),
        per_try_timeout: durations::optional(retries.per_try_timeout.as_ref()),
        backoff_base: durations::or(backoff.and_then(|backoff| backoff.base.as_ref()), standard.backoff_base),
        backoff_max: durations::or(backoff.and_then(|backoff| backoff.max.as_ref()), standard.backoff_max),
        budget_percent: retries.budget_percent.unwrap_or(standard.budget_percent),
    }
}

fn timeouts(written: Option<&crds::PolicyTimeouts>) -> PartialTimeouts {
    let Some(timeouts) = written else { return PartialTimeouts::default() };
    PartialTimeouts {
        first_byte: durations::optional(timeouts.first_byte.as_ref()),
        stream_idle: durations::optional(timeouts.stream_idle.as_ref()),
        request: durations::optional(timeouts.request.as_ref()),
    }
}

/// Allow and deny globs of a policy that match no model id, no model pattern of a Host, and no Host: perhaps misspelt.
pub(crate) fn unmatched_globs(policy: &Policy, table: &RoutingTable) -> Vec<String> {
    let models = table.models.values().filter_map(Row::usable);
    let ids: Vec<&str> =
        models.flat_map(|model| model.aliases.iter().chain([&model.model_name])).map(String::as_str).collect();
    let families: Vec<&str> = table
        .hosts
        .values()
        .filter_map(Row::usable)
        .flat_map(|host| &host.model_patterns)
        .map(String::as_str)
        .collect();
    let hosts: Vec<&str> = table.hosts.keys().map(|id| id.name.as_str()).collect();
    let is_unmatched = |glob: &&String, names: &[&str]| !names.iter().any(|name| shared::matches(glob, name));
    let overlaps = |glob: &str| {
        let stem = glob.split(['*', '?']).next().unwrap_or_default();
        let stems = families.iter().map(|family| family.split(['*', '?']).next().unwrap_or_default());
        stems.into_iter().any(|family| family.starts_with(stem) || stem.starts_with(family))
    };
    let of_models = policy.models.allow.iter().chain(&policy.models.deny);
    let of_hosts = policy.hosts.allow.iter().chain(&policy.hosts.deny);
    let unmatched = of_models.filter(|glob| is_unmatched(glob, &ids) && !overlaps(glob));
    unmatched.chain(of_hosts.filter(|glob| is_unmatched(glob, &hosts))).cloned().collect()
}
