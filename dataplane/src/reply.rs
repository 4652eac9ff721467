//! Heads and bodies of answers: an upstream's with what Relay says about it, refusals in the caller's shape, and texts of
//! Relay's own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use protocol::{Loss, WireShape, ask::Ask, codec, pipe::Facts};
use tokio::time::Instant;

use crate::{
    attempt::Committed,
    body::Body,
    breaker::{classify, outcome::Outcome},
    denied::Denied,
    dispatch, failure,
    headers::{self, Said},
    in_flight::Permit,
    meter::{
        End, Meter,
        record::{self, AttemptOutcome, Record},
    },
    pipeline::Call,
    plan::{Candidate, Draw},
    pool::signals::Flight,
    relay::Relay,
    respond::{Answer, Close, Ended, Patience},
    warnings,
    world::{Price, RelayKey, World},
};

/// An upstream's answer with what is needed to send it on.
pub(crate) struct Ready {
    pub(crate) committed: Committed,
    pub(crate) attempts: u32,
    /// The time that was spent waiting for upstreams.
    pub(crate) waited: Duration,
    pub(crate) candidate: Candidate,
    pub(crate) draw: Draw,
    pub(crate) ask: Ask,
    pub(crate) deadline: Instant,
    pub(crate) debug: Vec<String>,
    pub(crate) world: Arc<World>,
    pub(crate) caller: Arc<RelayKey>,
}

/// The response that sends an upstream's answer on.
pub(crate) fn answer(relay: &Arc<Relay>, call: Call, ready: Ready, mut meter: Meter) -> Response<Body> {
    let Ready { committed, attempts, waited, candidate, draw, ask, deadline, debug, world, caller } = ready;
    let Committed { status, headers: theirs, held, rest, flow, flight, mut losses } = committed;
    let is_same = candidate.shape() == ask.shape;
    let (is_compressed, was_undone) = (flow.is_compressed(), flow.was_undone());
    let (facts, rest) = match rest {
        None => (flow.into_facts(), None),
        Some(rest) => (flow.facts(), Some((rest, flow))),
    };
    if rest.is_none() {
        losses.extend(facts.losses.iter().cloned());
    }
    let overhead = call.began.elapsed().saturating_sub(waited);
    let warnings = warnings::value(&losses);
    note(&mut meter, &losses, warnings.as_ref(), overhead);
    let mut ours = headers::downward(&theirs, is_same, is_compressed);
    if ask.stream {
        headers::put_stream(&mut ours);
    } else if !is_same {
        ours.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut values = headers::values();
    headers::put_request_id(&mut ours, &mut values, call.shape, &call.id);
    if let Some(reservation) = meter.reservation() {
        headers::put_rate_limits(&mut ours, &mut values, call.shape, reservation.standing(), Timestamp::now);
        if reservation.is_degraded() {
            headers::put_degraded(&mut ours);
        }
    }
    if let Some(upstream_id) = &facts.upstream_id {
        headers::put_upstream_id(&mut ours, &mut values, upstream_id);
    }
    let said = Said {
        model: Some(candidate.public_model_header()),
        host: Some(candidate.host.header.clone()),
        attempts: Some(attempts),
        overhead: Some(overhead),
        warnings,
        debug,
    };
    headers::put_said(&mut ours, &mut values, said);
    let patience = Patience { idle: candidate.timeouts.stream_idle, deadline, keep_alive: relay.config.keep_alive };
    let (shape, streamed, request_id) = (call.shape, ask.stream, call.id);
    let is_unaltered = is_same && !streamed && !was_undone;
    let secret = draw.secret.clone();
    let mut settle = Settle {
        relay: relay.clone(),
        meter: Some(meter),
        flight,
        draw,
        candidate,
        world,
        caller,
        asked: ask.model,
        status: status.as_u16(),
        streamed,
        _permit: call.permit,
    };
    if streamed {
        relay.books.metrics.streams_open.inc();
    }
    let body = match rest {
        None => {
            settle.close(Ended::Complete, facts);
            ours.remove(header::CONTENT_LENGTH);
            whole(held)
        }
        Some((rest, flow)) => {
            if !is_unaltered {
                ours.remove(header::CONTENT_LENGTH);
            }
            let (drain, upstream) = (relay.drain.clone(), Some(rest));
            Answer { held, upstream, flow, close: settle, shape, streamed, request_id, secret, patience, drain }
                .into_body()
        }
    };
    with_headers(status, ours, body)
}

fn note(meter: &mut Meter, losses: &[Loss], warnings: Option<&HeaderValue>, overhead: Duration) {
    meter.lost(losses);
    let record = meter.record();
    record.overhead_ms = Some(overhead.as_secs_f64() * 1_000.0);
    if let Some(warnings) = warnings.and_then(|value| value.to_str().ok()) {
        record.warnings.push(warnings.to_owned());
    }
}

/// A refusal in the caller's shape.
pub(crate) fn denied(denied: &Denied, shape: WireShape, request_id: &str) -> Response<Body> {
    let error = denied.to_wire();
    let status = StatusCode::from_u16(codec::error_status(shape, &error)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut ours = denied.headers(shape, Timestamp::now());
    headers::put_request_id(&mut ours, &mut headers::values(), shape, request_id);
    ours.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with_headers(status, ours, whole(vec![codec::encode_error(shape, &error, request_id).into()]))
}

/// Says what had become of a request before it was refused: who was tried, and how its limits were held to.
pub(crate) fn put_so_far(headers: &mut HeaderMap, record: &Record) {
    if record.limits_degraded {
        headers::put_degraded(headers);
    }
    let Some(last) = record.attempts.last() else { return };
    let said = Said {
        model: record.model.as_deref().map(headers::told),
        host: Some(headers::told(&last.host)),
        attempts: u32::try_from(record.attempts.len()).ok(),
        ..Said::default()
    };
    headers::put_said(headers, &mut headers::values(), said);
}

/// A JSON answer of Relay's own.
pub(crate) fn json(value: &serde_json::Value, shape: WireShape, request_id: &str) -> Response<Body> {
    let mut ours = HeaderMap::new();
    headers::put_request_id(&mut ours, &mut headers::values(), shape, request_id);
    ours.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with_headers(StatusCode::OK, ours, whole(vec![value.to_string().into()]))
}

/// A text of Relay's own.
pub(crate) fn text(text: &'static str) -> Response<Body> {
    let mut ours = HeaderMap::new();
    ours.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    with_headers(StatusCode::OK, ours, whole(vec![text.into()]))
}

fn with_headers(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn whole(mut pieces: Vec<Bytes>) -> Body {
    Body::whole(if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() })
}

/// Closes the books of an answer, and tells key and host how it went.
struct Settle {
    relay: Arc<Relay>,
    /// Absent once closed.
    meter: Option<Meter>,
    flight: Flight,
    draw: Draw,
    candidate: Candidate,
    world: Arc<World>,
    caller: Arc<RelayKey>,
    /// The model as the caller wrote it.
    asked: String,
    status: u16,
    streamed: bool,
    _permit: Option<Permit>,
}

impl Close for Settle {
    fn close(&mut self, ended: Ended, facts: Facts) {
        let Some(mut meter) = self.meter.take() else { return };
        if self.streamed {
            self.relay.books.metrics.streams_open.dec();
            // Those of a whole answer were in the header already.
            meter.lost(&facts.losses);
        }
        let (outcome, label, code) = match &ended {
            Ended::Complete => (Outcome::Ok, AttemptOutcome::Ok, None),
            Ended::Failed(error) => {
                let outcome = classify::answered(self.candidate.shape(), error, &HeaderMap::new(), Timestamp::now());
                let outcome = if outcome == Outcome::CallerFault { outcome } else { Outcome::ServerError };
                (outcome, AttemptOutcome::ServerError, Some("upstream_failed_mid_answer"))
            }
            // Caller or upstream may have been slow: it tells against nobody.
            Ended::Overdue(_) => (Outcome::Cancelled, AttemptOutcome::Timeout, Some("request_timeout")),
            Ended::Cancelled => (Outcome::Cancelled, AttemptOutcome::Cancelled, None),
            Ended::Drained => (Outcome::Cancelled, AttemptOutcome::Cancelled, Some("drained")),
        };
        let reason = match &ended {
            Ended::Failed(error) | Ended::Overdue(error) => Some(failure::reason(error, outcome)),
            Ended::Complete | Ended::Cancelled | Ended::Drained => None,
        };
        let now = Instant::now();
        self.tell(outcome, now);
        meter.attempted(label, Some(self.status), reason, now);
        if let Some(price) = self.price_of_answer(&facts) {
            meter.price(Some(price));
        }
        let record = meter.record();
        (record.answered_model, record.upstream_id) = (facts.model, facts.upstream_id);
        let end = End {
            status: self.status,
            usage: facts.usage,
            output_bytes: facts.output_bytes,
            finish: facts.stop.as_ref().map(record::finish),
            error_code: code.map(Into::into),
            cancelled: ended == Ended::Cancelled,
        };
        meter.close_at(end, now);
    }
}

impl Settle {
    fn tell(&self, outcome: Outcome, now: Instant) {
        dispatch::report(&self.relay.books.metrics, &self.candidate, &self.draw, outcome, &self.flight, now);
    }

    /// The price of the model that the answer names, where the table knows it as another than was asked for.
    fn price_of_answer(&self, facts: &Facts) -> Option<Arc<Price>> {
        let answered = facts.model.as_deref()?;
        if answered == self.candidate.upstream_model() || answered == self.asked {
            return None;
        }
        let namespace = &self.caller.id.namespace;
        self.world.price_of_answer(namespace, &self.candidate.host.id, answered).cloned()
    }
}
