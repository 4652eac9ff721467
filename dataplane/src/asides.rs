//! What callers may ask beside answers: which models they have, how they stand against their limits, and an estimate of
//! a token count where no upstream counts.

use http::{HeaderValue, Response, request::Parts};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    body::Body,
    denied::Denied,
    inbound::Inbound,
    limit::{RuleUsage, rule::Rule},
    models::{self, Page},
    pipeline::{self, Call},
    plan,
    relay::Relay,
    reply,
    route::Endpoint,
};

/// Answers everything but conversations.
pub(crate) async fn answer(
    relay: &Relay,
    call: &Call,
    inbound: &Inbound<'_>,
    head: &Parts,
) -> Result<Response<Body>, Denied> {
    let installed = call.installed.clone()?;
    let world = &installed.world;
    let caller = pipeline::authenticate(relay, &installed, call, inbound, &head.headers)?;
    let now = Timestamp::now();
    let value = match &inbound.endpoint {
        Endpoint::Model(id) => models::one(call.shape, &models::find(world, &caller, id, now)?),
        Endpoint::Models => {
            let page = Page::read(head.uri.query())?;
            models::list(call.shape, &models::reachable(world, &caller, now), &page)
        }
        Endpoint::Usage | Endpoint::Conversation | Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Root => {
            match relay.limiter.usage(plan::caller_scopes(&caller)).await {
                Ok(rules) => json!({
                    "object": "relay.usage",
                    "relay_key": caller.key.id.name,
                    "as_of": now,
                    "limits": rules.iter().map(rule).collect::<Vec<_>>(),
                }),
                Err(error) => return Err(Denied::Limited(error)),
            }
        }
    };
    Ok(reply::json(&value, call.shape, &call.id))
}

fn rule(usage: &RuleUsage) -> Value {
    let unit = match usage.rule.rule {
        Rule::Budget(_) => "nano_usd",
        Rule::Rate { .. } | Rule::Concurrency => "count",
    };
    json!({
        "scope": usage.rule.scope.kind(),
        "rule": usage.rule.rule.as_str(),
        "unit": unit,
        "limit": usage.limit,
        "used": usage.used,
        "remaining": usage.remaining,
        "resets_in_ms": usage.resets_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// A count that nobody made exactly; its header says so.
pub(crate) fn estimated_count(call: &Call, tokens: u64) -> Response<Body> {
    let mut response = reply::json(&json!({ "input_tokens": tokens }), call.shape, &call.id);
    response.headers_mut().insert("x-relay-estimated", HeaderValue::from_static("true"));
    response
}
