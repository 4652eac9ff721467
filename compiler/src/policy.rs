//! Policies: what relay keys may reach, how hard, and how their requests are routed.

use std::{collections::BTreeSet, time::Duration};

use crds::Kind;
use table::{
    Budget, Fallback, Globs, LimitMode, LimitScope, Model, ModelLimits, ObjectRef, PartialTimeouts, Policy,
    RedisOutage, Retries, RetryOn, Routing, Row, Rows, Stickiness, Strategy, Translation, Visibility,
};

use crate::{
    duration,
    findings::{Findings, Reports},
    resolve::World,
    shared,
};

pub(crate) fn rows(world: &World<'_>, models: &Rows<Model>, reports: &mut Reports<'_>) -> Rows<Policy> {
    world.rows(Kind::Policy, &world.resources.policies, reports, |id, object, found| {
        let names = Names { world, models, namespace: &id.namespace };
        let policy = policy(&names, world, id, &object.spec, found);
        found.row_if_accepted(policy)
    })
}

fn policy(
    names: &Names<'_>,
    world: &World<'_>,
    id: &ObjectRef,
    spec: &crds::PolicySpec,
    found: &mut Findings,
) -> Policy {
    let limits = spec.limits.as_ref();
    Policy {
        models: models(spec, found),
        model_refs: model_refs(names, spec, found),
        hosts: hosts(spec.hosts.as_ref(), found),
        limits: limits.map(|limits| shared::limits(&limits.dimensions())).unwrap_or_default(),
        limit_scope: match limits.and_then(|limits| limits.scope) {
            None | Some(crds::LimitScope::PerKey) => LimitScope::PerKey,
            Some(crds::LimitScope::Shared) => LimitScope::Shared,
        },
        limit_mode: match limits.and_then(|limits| limits.mode) {
            None | Some(crds::LimitMode::Exact) => LimitMode::Exact,
            Some(crds::LimitMode::Leased) => LimitMode::Leased,
        },
        redis_outage: match spec.redis_outage.as_ref().and_then(|outage| outage.mode) {
            None | Some(crds::RedisOutageMode::LocalShare) => RedisOutage::LocalShare,
            Some(crds::RedisOutageMode::Closed) => RedisOutage::Closed,
            Some(crds::RedisOutageMode::Open) => RedisOutage::Open,
        },
        per_model: per_model(limits),
        budgets: budgets(spec, found),
        routing: routing(names, spec.routing.as_ref(), found),
        retries: retries(spec.retries.as_ref(), found),
        timeouts: timeouts(spec.timeouts.as_ref(), found),
        translation: match spec.translation {
            None | Some(crds::Translation::Lenient) => Translation::Lenient,
            Some(crds::Translation::Strict) => Translation::Strict,
        },
        allowed: world.grant(Kind::Policy, id),
    }
}

/// An empty grant is let stand, because it is how a Policy is closed for a while; but it is said.
fn models(spec: &crds::PolicySpec, found: &mut Findings) -> Globs {
    let granted = spec.models.as_ref();
    let globs = granted.map(|models| shared::granted(models.allow.as_ref(), models.deny.as_ref())).unwrap_or_default();
    let has_refs = granted.and_then(|models| models.refs.as_ref()).is_some_and(|refs| !refs.is_empty());
    if globs.allow.is_empty() && !has_refs {
        found.note(
            "spec.models grants no Model, so keys with this Policy reach nothing: name some in `spec.models.allow` \
             (`\"*\"` for all)"
                .to_owned(),
        );
    }
    globs
}

fn hosts(written: Option<&crds::HostGrant>, found: &mut Findings) -> Globs {
    let Some(hosts) = written else { return Globs::default() };
    if hosts.allow.iter().flatten().next().is_none() {
        found.refuse(
            "spec.hosts grants no Host, so nothing can be served: name some in `spec.hosts.allow` (`\"*\"` for all), or \
             leave out `spec.hosts`"
                .to_owned(),
        );
    }
    shared::granted(hosts.allow.as_ref(), hosts.deny.as_ref())
}

/// Models by reference, as one namespace may name them.
struct Names<'a> {
    world: &'a World<'a>,
    models: &'a Rows<Model>,
    namespace: &'a str,
}

impl Names<'_> {
    /// The Model, unless it cannot be named or used.
    fn model(&self, field: &str, reference: &crds::ObjectRef, found: &mut Findings) -> Option<ObjectRef> {
        let id = found.resolved(self.world.follow(Kind::Model, field, self.namespace, reference))?;
        match self.models.get(&id) {
            Some(Row::Usable(model)) => {
                if model.visibility == Visibility::Internal {
                    found.note(format!("{field}: Model `{id}` is Internal, so no caller can ask for it"));
                }
                Some(id)
            }
            Some(Row::Invalid { .. }) | None => {
                found.note(shared::broken(Kind::Model, field, &id));
                None
            }
        }
    }
}

fn model_refs(names: &Names<'_>, spec: &crds::PolicySpec, found: &mut Findings) -> Vec<ObjectRef> {
    let refs = spec.models.as_ref().and_then(|models| models.refs.as_ref()).into_iter().flatten().enumerate();
    let mut models: Vec<ObjectRef> = Vec::new();
    for (at, reference) in refs {
        let model = names.model(&format!("spec.models.refs[{at}]"), reference, found);
        models.extend(model.filter(|model| !models.contains(model)));
    }
    models
}

fn per_model(limits: Option<&crds::PolicyLimits>) -> Vec<ModelLimits> {
    let written = limits.and_then(|limits| limits.per_model.as_ref()).into_iter().flatten();
    written.map(|own| ModelLimits { matches: own.pattern.clone(), limits: shared::limits(&own.dimensions()) }).collect()
}

fn budgets(spec: &crds::PolicySpec, found: &mut Findings) -> Vec<Budget> {
    let mut periods = BTreeSet::new();
    let mut budgets = Vec::new();
    for (at, written) in spec.budgets.iter().flatten().enumerate() {
        let field = format!("spec.budgets[{at}]");
        if !periods.insert(written.period) {
            found.refuse(format!("{field}.period `{}` has a budget already: one a period", written.period));
        }
        budgets.extend(shared::budget(&field, written, found));
    }
    budgets
}

fn routing(names: &Names<'_>, written: Option<&crds::Routing>, found: &mut Findings) -> Routing {
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
        fallbacks: fallbacks(names, routing, found),
        stickiness: match routing.stickiness {
            None | Some(crds::Stickiness::None) => Stickiness::None,
            Some(crds::Stickiness::Conversation) => Stickiness::Conversation,
        },
    }
}

fn fallbacks(names: &Names<'_>, routing: &crds::Routing, found: &mut Findings) -> Vec<Fallback> {
    let mut fallbacks = Vec::new();
    for (at, fallback) in routing.fallbacks.iter().flatten().enumerate() {
        let mut to = Vec::new();
        for (n, reference) in fallback.to.iter().enumerate() {
            to.extend(names.model(&format!("spec.routing.fallbacks[{at}].to[{n}]"), reference, found));
        }
        fallbacks.push(Fallback { matches: fallback.pattern.clone(), to });
    }
    fallbacks
}

fn retries(written: Option<&crds::Retries>, found: &mut Findings) -> Retries {
    let standard = Retries::default();
    let Some(retries) = written else { return standard };
    let (backoff_base, backoff_max) = backoff(retries.backoff.as_ref(), &standard, found);
    Retries {
        on: retries.on.as_ref().map_or(standard.on, |on| retry_on(on)),
        per_try_timeout: duration::optional(found, "spec.retries.perTryTimeout", retries.per_try_timeout.as_ref()),
        backoff_base,
        backoff_max,
        budget_percent: retries.budget_percent.unwrap_or(standard.budget_percent),
    }
}

fn retry_on(written: &[crds::RetryOn]) -> Vec<RetryOn> {
    let failures: BTreeSet<RetryOn> = written
        .iter()
        .map(|failure| match failure {
            crds::RetryOn::RateLimited => RetryOn::RateLimited,
            crds::RetryOn::ServerError => RetryOn::ServerError,
            crds::RetryOn::Connect => RetryOn::Connect,
            crds::RetryOn::Timeout => RetryOn::Timeout,
        })
        .collect();
    failures.into_iter().collect()
}

fn backoff(written: Option<&crds::Backoff>, standard: &Retries, found: &mut Findings) -> (Duration, Duration) {
    let base = ("base", written.and_then(|backoff| backoff.base.as_ref()), standard.backoff_base);
    let max = ("max", written.and_then(|backoff| backoff.max.as_ref()), standard.backoff_max);
    duration::ordered(found, "spec.retries.backoff", base, max)
}

fn timeouts(written: Option<&crds::PolicyTimeouts>, found: &mut Findings) -> PartialTimeouts {
    let Some(timeouts) = written else { return PartialTimeouts::default() };
    let mut optional = |name: &str, written: Option<&crds::Duration>| {
        duration::optional(found, &format!("spec.timeouts.{name}"), written)
    };
    PartialTimeouts {
        first_byte: optional("firstByte", timeouts.first_byte.as_ref()),
        stream_idle: optional("streamIdle", timeouts.stream_idle.as_ref()),
        request: optional("request", timeouts.request.as_ref()),
    }
}
