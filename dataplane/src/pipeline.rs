//! One request, from its head to the head of its answer: the stages in order, each with a typed hand-off to the next.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use http::{HeaderMap, Request, Response, request::Parts};
use hyper::body::Incoming;
use jiff::Timestamp;
use protocol::{WireShape, ask, ask::Ask};
use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::{
    admit::{self, Grant},
    asides,
    attempt::Exchange,
    auth::{self, Caller},
    body::Body,
    denied::Denied,
    dispatch::{self, Dispatched},
    forward, headers,
    in_flight::Permit,
    in_force::InForce,
    inbound::{self, Inbound},
    intake,
    limit::{
        LimitError,
        estimate::{Estimate, Sizes},
        terms::Expected,
    },
    listener::Origin,
    meter::{
        Basis, End, Meter, cost,
        record::{Hex, Record},
    },
    plan::{self, Plan, Purpose, Query, Weather},
    relay::{Installed, Relay},
    reply,
    route::{self, Endpoint},
    trace::Trace,
};

/// Who asks, and under which id.
pub(crate) struct Call {
    pub(crate) origin: Origin,
    pub(crate) shape: WireShape,
    pub(crate) id: Arc<str>,
    pub(crate) trace: Trace,
    pub(crate) began: Instant,
    /// The time of day at that moment.
    pub(crate) came: Timestamp,
    /// The table in effect when the request came.
    pub(crate) installed: Result<Arc<Installed>, Denied>,
    /// Counts against the most requests in flight until the answer has ended.
    pub(crate) permit: Option<Permit>,
}

/// Answers a request. Never fails: what cannot be answered gets a refusal in the caller's shape.
pub(crate) async fn handle(relay: Arc<Relay>, origin: Origin, request: Request<Incoming>) -> Response<Body> {
    let shape = route::shape_of(request.uri().path(), request.headers());
    let id = headers::request_id(rand::random());
    let trace = Trace::of(request.headers(), relay.config.otlp.makes_spans());
    let (began, came) = (Instant::now(), Timestamp::now());
    let call = Call { origin, shape, id, trace, began, came, installed: relay.installed(), permit: None };
    let answered = AssertUnwindSafe(answer(&relay, call, request)).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        let id = headers::request_id(rand::random());
        error!(request_id = &*id, "a request failed by a bug of the router's");
        reply::denied(&Denied::Panicked, shape, &id)
    })
}

async fn answer(relay: &Arc<Relay>, mut call: Call, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let refuse = |call: &Call, denied: &Denied| {
        log(call, &head, denied);
        reply::denied(denied, call.shape, &call.id)
    };
    call.permit = match relay.in_flight.enter() {
        Ok(permit) => Some(permit),
        Err(limit) => return refuse(&call, &Denied::Busy { limit }),
    };
    if let Some(shared) = forward::shared_for(relay, &call, &head.headers) {
        let passed = Box::pin(forward::pass(relay, shared, &mut call, &head, body)).await;
        return passed.unwrap_or_else(|denied| refuse(&call, &denied));
    }
    let inbound = match inbound::read(&head.method, &head.uri, &head.headers) {
        Ok(inbound) => inbound,
        Err(denied) => return refuse(&call, &denied),
    };
    call.shape = inbound.shape;
    let purpose = match &inbound.endpoint {
        Endpoint::Conversation => Purpose::Conversation,
        Endpoint::CountTokens => Purpose::CountTokens,
        Endpoint::Embeddings => Purpose::Embeddings,
        Endpoint::Root => return reply::text("relay\n"),
        Endpoint::Models | Endpoint::Model(_) | Endpoint::Usage => {
            return match Box::pin(asides::answer(relay, &call, &inbound, &head)).await {
                Ok(response) => response,
                Err(denied) => refuse(&call, &denied),
            };
        }
    };
    let mut meter = Meter::new(relay.books.clone(), record(&call, purpose), call.began);
    if call.trace.is_reported() {
        meter.traced(call.trace.clone());
    }
    let serving = Box::pin(converse(relay, &call, purpose, &inbound, &head, body, &mut meter));
    match call.origin.lookout.unless_expired(&relay.drain, serving).await.unwrap_or(Err(Denied::ShuttingDown)) {
        Ok(Served::Stream(ready)) => reply::answer(relay, call, ready, meter),
        Ok(Served::Own(response)) => {
            meter.close(End { status: response.status().as_u16(), ..End::default() });
            response
        }
        Err(denied) => {
            let error_code = denied.to_wire().code.map_or(denied.label().into(), Cow::Owned);
            let mut response = refuse(&call, &denied);
            reply::put_so_far(response.headers_mut(), meter.record());
            meter.close(End { status: response.status().as_u16(), error_code: Some(error_code), ..End::default() });
            response
        }
    }
}

/// What a request got.
#[expect(clippy::large_enum_variant, reason = "nearly every one is the large one, and it is moved once")]
enum Served {
    /// An upstream's answer, its first content seen.
    Stream(reply::Ready),
    /// An answer of Relay's own.
    Own(Response<Body>),
}

async fn converse(
    relay: &Arc<Relay>,
    call: &Call,
    purpose: Purpose,
    inbound: &Inbound<'_>,
    head: &Parts,
    body: Incoming,
    meter: &mut Meter,
) -> Result<Served, Denied> {
    let installed = call.installed.as_ref().map_err(Denied::clone)?;
    let world = &installed.world;
    let caller = authenticate(relay, installed, call, inbound, &head.headers)?;
    note_caller(meter, &caller);
    let encoding = inbound.content_encoding.as_deref();
    let InForce { body_limit, body_read_timeout, .. } = installed.in_force;
    let body = intake::read(body, encoding, body_limit, body_read_timeout, &call.origin.lookout).await?;
    let ask = match purpose {
        Purpose::Conversation | Purpose::CountTokens => ask::read(call.shape, &body)?,
        Purpose::Embeddings => ask::read_embeddings(&body)?,
    };
    note_ask(meter, &ask);
    let grant = admit::admit(world, caller, &ask.model).inspect_err(|_| meter.record().asked_for(&ask.model))?;
    note_grant(meter, &grant, &ask);
    let sizes = sizes(&ask, purpose);
    let estimate = relay.books.estimator.estimate(&grant.caller().key.id, grant.public_model(), &sizes);
    let now = Timestamp::now();
    let plan = match planned(relay, installed, &grant, &ask, purpose, estimate, now) {
        // Nobody counts exactly: an estimate that says so beats none.
        Err(denied) if purpose == Purpose::CountTokens && matches!(denied, Denied::NotCapable { .. }) => {
            return Ok(Served::Own(asides::estimated_count(call, estimate.input)));
        }
        planned => planned?,
    };
    let steps = plan.steps();
    let open = match purpose {
        // Counting costs no tokens and holds nobody's quota.
        Purpose::CountTokens => (0..steps.len()).collect::<Open>(),
        Purpose::Conversation | Purpose::Embeddings => {
            reserve(relay, &grant, &plan, estimate, sizes, now, meter).await?
        }
    };
    let request = plan.candidates.first().map(|candidate| candidate.timeouts.request).unwrap_or_default();
    let deadline = call.began + request;
    let exchange = Exchange {
        relay,
        installed,
        accepts_gzip: inbound.accepts_gzip,
        headers: &head.headers,
        body: &body,
        ask: &ask,
        plan: &plan,
        purpose,
        request_id: &call.id,
        trace: &call.trace,
        lookout: &call.origin.lookout,
        deadline,
    };
    let dispatched = dispatch::first_content(&exchange, &steps, &open, meter).await?;
    let debug = if inbound.debug { plan.debug_lines(grant.caller().namespace()) } else { Vec::new() };
    let Dispatched { committed, step, attempts, waited } = dispatched;
    drop(steps);
    let (candidate, draw) = plan.into_step(step).expect("the step that was taken is one of the plan's");
    let (caller, world) = (grant.caller().key.clone(), world.clone());
    let ready = reply::Ready { committed, attempts, waited, candidate, draw, ask, deadline, debug, world, caller };
    Ok(Served::Stream(ready))
}

/// Finds out who calls.
pub(crate) fn authenticate(
    relay: &Relay,
    installed: &Installed,
    call: &Call,
    inbound: &Inbound<'_>,
    headers: &HeaderMap,
) -> Result<Caller, Denied> {
    let address = auth::client_address(call.origin.peer.ip(), headers, &relay.config.trusted_proxies);
    auth::authenticate(&installed.world, &inbound.bearers, address, call.came)
}

fn planned(
    relay: &Relay,
    installed: &Installed,
    grant: &Grant,
    ask: &Ask,
    purpose: Purpose,
    estimate: Estimate,
    now: Timestamp,
) -> Result<Plan, Denied> {
    let query = Query { purpose, ask, estimate, now, seed: rand::random() };
    let now = Instant::now().into_std();
    let weather = Weather { signals: &relay.signals, keyring: &installed.keyring, now };
    plan::plan(&installed.world, grant, &query, &weather)
}

/// Steps that may be taken, by their indices.
type Open = SmallVec<[usize; 8]>;

/// Reserves every limit and budget at once; gives the steps whose host keys have room.
async fn reserve(
    relay: &Relay,
    grant: &Grant,
    plan: &Plan,
    estimate: Estimate,
    sizes: Sizes,
    now: Timestamp,
    meter: &mut Meter,
) -> Result<Open, Denied> {
    let price = plan.candidates.first().and_then(plan::Candidate::price);
    let images = sizes.images as u64;
    let cost = price.and_then(|price| cost::expected_cost(&estimate, images, &price.pricing, now));
    let expected = Expected { input: estimate.input, output: estimate.output, cost: cost.unwrap_or_default() };
    meter.reserving();
    // Every open key is wanted: those that cannot take the request's shape are passed over without an attempt.
    match relay.limiter.reserve(plan.claims(grant, expected, usize::MAX)).await {
        Ok(reservation) => {
            let open = Open::from_slice(reservation.candidates());
            let key = grant.caller().key.id.clone();
            let basis = Basis { key, model: grant.told_model(), sizes, expected };
            meter.reserved(reservation, basis);
            Ok(open)
        }
        Err(LimitError::Refused(refused)) => {
            meter.refused(&refused);
            Err(Denied::Limited(LimitError::Refused(refused)))
        }
        Err(LimitError::Unavailable) => {
            meter.unchecked();
            Err(Denied::Limited(LimitError::Unavailable))
        }
    }
}

fn sizes(ask: &Ask, purpose: Purpose) -> Sizes {
    Sizes {
        text_bytes: ask.text_bytes,
        messages: ask.messages,
        tools: ask.tools,
        images: ask.images,
        max_output: match purpose {
            Purpose::Conversation => ask.max_tokens.map(|most| most.saturating_mul(ask.answers.max(1))),
            // Neither generates anything.
            Purpose::CountTokens | Purpose::Embeddings => Some(0),
        },
    }
}

fn record(call: &Call, purpose: Purpose) -> Record {
    let operation = match purpose {
        Purpose::Conversation => "chat",
        Purpose::CountTokens => "count_tokens",
        Purpose::Embeddings => "embeddings",
    };
    let mut record = Record::new(call.id.clone(), operation, call.came);
    record.client_shape = Some(call.shape);
    record.trace_id = Some(Hex(call.trace.id_bytes()));
    record.span_id = call.trace.told_span().map(Hex);
    record
}

fn note_caller(meter: &mut Meter, caller: &Caller) {
    let (record, asker) = (meter.record(), &caller.key.asker);
    (record.relay_key, record.team) = (Some(asker.key.clone()), Some(asker.team.clone()));
    (record.policies, record.attributes) = (asker.policies.clone(), asker.attributes.clone());
}

fn note_ask(meter: &mut Meter, ask: &Ask) {
    let record = meter.record();
    (record.streamed, record.images) = (ask.stream, ask.images as u64);
}

fn note_grant(meter: &mut Meter, grant: &Grant, ask: &Ask) {
    let (record, model) = (meter.record(), grant.told_model());
    record.asked_for_known(&ask.model, &model);
    record.model = Some(model);
    record.model_ref = match &grant.resolved().meaning {
        crate::resolve::Meaning::Model(model) => Some(model.name.clone()),
        crate::resolve::Meaning::Family(_) => None,
    };
}

fn log(call: &Call, head: &Parts, denied: &Denied) {
    let (request_id, path, reason) = (&*call.id, head.uri.path(), denied.label());
    let level = denied.level();
    if level == tracing::Level::ERROR {
        error!(request_id, path, reason, "refused: {}", one_line(denied));
    } else if level == tracing::Level::WARN {
        warn!(request_id, path, reason, "refused: {}", one_line(denied));
    } else if level == tracing::Level::INFO {
        info!(request_id, path, reason, "refused: {}", one_line(denied));
    } else {
        debug!(request_id, path, reason, "refused: {}", one_line(denied));
    }
}

/// A text as a log takes it: what callers and upstreams wrote into it must not begin lines of its own, nor go on for ever.
pub(crate) fn one_line(text: &impl std::fmt::Display) -> String {
    text.to_string().chars().take(1_024).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use protocol::error::{ErrorKind, WireError};

    use super::*;

    #[test]
    fn a_refusal_is_one_line_of_a_log_whatever_an_upstream_says() {
        let said = format!("no\nINFO all is well\u{1b}[0m{}", "x".repeat(1 << 20));
        let line = one_line(&Denied::Upstream(WireError::new(ErrorKind::ServerError, said)));
        assert!(line.starts_with("no INFO all is well [0mxxx") && line.len() == 1_024, "{line}");
    }
}
