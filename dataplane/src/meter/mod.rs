//! Closes a request's books: what was really used, what it cost, what is settled, and one record of it.
//!
//! A [`Meter`] emits exactly one record, even when it is dropped half way. It never blocks: settling and the sink are
//! queues. Knows nothing of HTTP or of shapes; whoever answers tells it what was seen.

pub mod cost;
pub mod logs;
pub mod record;
pub mod sinks;

use std::{borrow::Cow, sync::Arc, time::Duration};

use protocol::usage::Usage;
use table::{NanoUsd, ObjectRef};
use tokio::time::Instant;

use self::{
    cost::cost,
    logs::Logs,
    record::{Attempt, AttemptOutcome, BudgetAlert, Loss, Record, RefusedBy, Reserved},
    sinks::Sinks,
};
use crate::{
    limit::{
        Refused,
        estimate::{Estimator, Sizes},
        reservation::{Reservation, Used},
        terms::Expected,
    },
    metrics::{EstimateKind, Metrics, RequestOver},
    spans::{Finished, Spans},
    trace::Trace,
    world::Price,
};

/// Losses that a record names at most; a caller decides how many fields it sends.
const MOST_LOSSES: usize = 256;

/// Characters of what an upstream says that a record keeps at most.
const MOST_SAID: usize = 1_024;

/// The status of a request whose caller went away before any was sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Where every request's books are kept.
pub struct Books {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Takes the records.
    pub sinks: Sinks,
    /// Takes them as log records.
    pub logs: Logs,
    /// Takes the spans.
    pub spans: Spans,
    /// Learns from what was used.
    pub estimator: Arc<Estimator>,
}

impl Books {
    /// Whether anybody takes what is known of a request.
    fn take_records(&self) -> bool {
        self.sinks.take_any() || self.logs.take_any() || self.spans.take_any()
    }
}

/// What a request was thought to take, and on what that rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The relay key, whose answers teach how long the next one will be.
    pub key: Arc<ObjectRef>,
    /// The public id of the model.
    pub model: Arc<str>,
    /// The request's sizes.
    pub sizes: Sizes,
    /// What was thought.
    pub expected: Expected,
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// The HTTP status that the caller saw.
    pub status: u16,
    /// The tokens that the upstream counted; absent: it did not say.
    pub usage: Option<Usage>,
    /// Bytes of text that were generated, for an estimate where nobody counted.
    pub output_bytes: u64,
    /// Why the answer ended; see [`record::finish`].
    pub finish: Option<Cow<'static, str>>,
    /// The code of the error that the caller saw.
    pub error_code: Option<Cow<'static, str>>,
    /// Whether the caller went away before the end.
    pub cancelled: bool,
}

/// The books of one request. Close it when the answer has ended; a dropped one is closed as cancelled, with what was
/// seen until then.
pub struct Meter {
    /// Absent once closed.
    open: Option<Box<Open>>,
}

struct Open {
    books: Arc<Books>,
    record: Record,
    started: Instant,
    basis: Option<Basis>,
    reservation: Option<Reservation>,
    price: Option<Arc<Price>>,
    first_content: Option<Duration>,
    attempt_started: Option<Instant>,
    /// Absent: no spans are reported.
    trace: Option<Trace>,
    /// When limits were asked, and when they had answered, since the request came.
    asked: Option<Duration>,
    answered: Option<Duration>,
}

impl Meter {
    /// Opens the books of a request that began at `started`.
    pub fn new(books: Arc<Books>, record: Record, started: Instant) -> Self {
        books.metrics.requests_in_flight.inc();
        let open = Open {
            books,
            record,
            started,
            basis: None,
            reservation: None,
            price: None,
            first_content: None,
            attempt_started: None,
            trace: None,
            asked: None,
            answered: None,
        };
        Self { open: Some(Box::new(open)) }
    }

    /// The record, to write names and facts into. Numbers that the meter knows itself are written when it is closed.
    pub fn record(&mut self) -> &mut Record {
        &mut self.open_mut().record
    }

    /// Its spans are reported, as parts of this trace.
    pub(crate) fn traced(&mut self, trace: Trace) {
        self.open_mut().trace = Some(trace);
    }

    /// Limits are asked from now on, until they refuse or reserve.
    pub fn reserving(&mut self) {
        let open = self.open_mut();
        open.asked = open.lap();
    }

    /// A limit refused the request.
    pub fn refused(&mut self, refused: &Refused) {
        let open = self.open_mut();
        open.answered = open.lap();
        open.books.metrics.refused(&refused.rule);
        let (scope, rule) = (refused.rule.scope.kind(), refused.rule.rule.as_str());
        open.record.refused_by = Some(RefusedBy { scope, rule });
        open.record.limits_degraded = refused.degraded;
    }

    /// Limits could not be checked, and nothing passes then.
    pub fn unchecked(&mut self) {
        let open = self.open_mut();
        open.answered = open.lap();
        open.record.limits_degraded = true;
    }

    /// Takes over the reservation: settled when the meter is closed, released when no attempt was begun.
    pub fn reserved(&mut self, reservation: Reservation, basis: Basis) {
        let open = self.open_mut();
        open.answered = open.lap();
        let Expected { input, output, cost } = basis.expected;
        open.record.reserved = Some(Reserved { input, output, cost_nano_usd: cost });
        open.record.limits_degraded = reservation.is_degraded();
        for alert in reservation.alerts() {
            open.books.metrics.budget_alert(&alert.rule);
            let (scope, rule) = (alert.rule.scope.kind(), alert.rule.rule.as_str());
            open.record.budget_alerts.push(BudgetAlert { scope, rule, percent: alert.percent });
        }
        open.books.metrics.reservations_live.inc();
        (open.reservation, open.basis) = (Some(reservation), Some(basis));
    }

    /// The reservation, while the request is under way.
    pub fn reservation(&self) -> Option<&Reservation> {
        self.open.as_ref().and_then(|open| open.reservation.as_ref())
    }

    /// An attempt on a candidate of the claims begins at `now`; outcome and durations of `attempt` are filled in later. The host,
    /// key, model and shape become the record's own, and so does the price become that of the request.
    pub fn attempt(&mut self, candidate: usize, mut attempt: Attempt, price: Option<Arc<Price>>, now: Instant) {
        let open = self.open_mut();
        if let Some(reservation) = &open.reservation {
            reservation.charge(candidate);
        }
        attempt.started_ms = millis(now.saturating_duration_since(open.started));
        open.attempt_started = Some(now);
        open.price = price;
        let record = &mut open.record;
        (record.host, record.host_key) = (Some(attempt.host.clone()), attempt.host_key.clone());
        (record.upstream_model, record.upstream_shape) = (Some(attempt.upstream_model.clone()), Some(attempt.shape));
        record.attempts.push(attempt);
    }

    /// The attempt under way has failed by `now`, or is committed to the caller.
    pub fn attempted(&mut self, outcome: AttemptOutcome, status: Option<u16>, reason: Option<String>, now: Instant) {
        self.open_mut().attempted(outcome, status, reason, now);
    }

    /// The price where the answer turned out to come from another model than was asked for.
    pub fn price(&mut self, price: Option<Arc<Price>>) {
        self.open_mut().price = price;
    }

    /// The first content was seen at `now`.
    pub fn first_content(&mut self, now: Instant) {
        let open = self.open_mut();
        open.first_content.get_or_insert(now.saturating_duration_since(open.started));
    }

    /// Adds losses of a translation to the record and the metrics.
    pub fn lost<'a>(&mut self, losses: impl IntoIterator<Item = &'a protocol::Loss>) {
        let open = self.open_mut();
        for loss in losses.into_iter().map(Loss::from) {
            open.books.metrics.loss(&loss);
            if open.record.losses.len() < MOST_LOSSES {
                open.record.losses.push(loss);
            }
        }
    }

    /// Since the request began.
    pub fn elapsed(&self) -> Duration {
        self.open.as_ref().map(|open| open.started.elapsed()).unwrap_or_default()
    }

    /// Closes the books: settles, counts and sends the record.
    pub fn close(self, end: End) {
        self.close_at(end, Instant::now());
    }

    /// Closes the books of a request that was over at `now`.
    pub(crate) fn close_at(mut self, end: End, now: Instant) {
        if let Some(open) = self.open.take() {
            open.close(end, now);
        }
    }

    fn open_mut(&mut self) -> &mut Open {
        self.open.as_mut().expect("only `close` and `drop` take it, and both end the meter")
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.close(End { status: CLIENT_CLOSED_REQUEST, cancelled: true, ..End::default() }, Instant::now());
    }
}

impl Open {
    /// Since the request began, for its spans; absent: it gets none.
    fn lap(&self) -> Option<Duration> {
        self.trace.as_ref().map(|_| self.started.elapsed())
    }

    fn attempted(&mut self, outcome: AttemptOutcome, status: Option<u16>, reason: Option<String>, now: Instant) {
        let Some(attempt) = self.record.attempts.last_mut().filter(|attempt| attempt.outcome.is_none()) else { return };
        (attempt.outcome, attempt.status, attempt.reason) = (Some(outcome), status, reason.map(cut));
        attempt.duration_ms = self.attempt_started.take().map(|began| millis(now.saturating_duration_since(began)));
        self.books.metrics.attempt(&attempt.host, outcome);
    }

    fn close(mut self: Box<Self>, mut end: End, now: Instant) {
        self.end_attempt(&end, now);
        let usage = end.usage.take().or_else(|| self.estimated_usage(&end));
        let cost = self.cost(usage.as_ref());
        self.settle(usage.as_ref(), cost);
        self.learn(usage.as_ref());
        let duration = now.saturating_duration_since(self.started);
        self.count(&end, usage.as_ref(), cost, duration);
        self.books.metrics.requests_in_flight.dec();
        if !self.books.take_records() {
            return;
        }
        self.write(end, usage, cost, duration);
        let Self { books, record, trace, asked, answered, .. } = *self;
        let record = Arc::new(record);
        if let Some(trace) = trace {
            books.spans.send(Finished { trace, record: record.clone(), reserve: asked.zip(answered) });
        }
        books.logs.send(record.clone());
        books.sinks.send(record);
    }

    /// An attempt that nobody ended went as the request did.
    fn end_attempt(&mut self, end: &End, now: Instant) {
        let outcome = match (end.cancelled, end.status) {
            (true, _) => AttemptOutcome::Cancelled,
            (false, 200..=299) => AttemptOutcome::Ok,
            (false, _) => AttemptOutcome::ServerError,
        };
        self.attempted(outcome, None, None, now);
    }

    /// Where nobody counted what an upstream took and gave: the input as it was thought, the output by its bytes. An
    /// attempt that failed took nothing, as far as is known; one that the caller cut off took its input.
    fn estimated_usage(&self, end: &End) -> Option<Usage> {
        let last = self.record.attempts.last()?.outcome;
        let took = matches!(last, Some(AttemptOutcome::Ok | AttemptOutcome::Cancelled)) || end.output_bytes > 0;
        let basis = self.basis.as_ref().filter(|_| took)?;
        let output = self.books.estimator.tokens_of_text(&basis.model, end.output_bytes);
        Some(Usage { input: basis.expected.input, output, estimated: true, ..Usage::default() })
    }

    fn cost(&self, usage: Option<&Usage>) -> Option<NanoUsd> {
        let price = self.price.as_ref()?;
        cost(usage?, self.record.images, &price.pricing, self.record.started_at)
    }

    fn settle(&mut self, usage: Option<&Usage>, cost: Option<NanoUsd>) {
        let Some(reservation) = self.reservation.take() else { return };
        self.books.metrics.reservations_live.dec();
        if self.record.attempts.is_empty() {
            // Dropping it gives everything back: nothing was sent to anyone.
            return;
        }
        reservation.settle(Used {
            input_tokens: usage.map_or(0, Usage::input_total),
            output_tokens: usage.map_or(0, |usage| usage.output),
            cost: cost.unwrap_or_default(),
        });
    }

    fn learn(&self, usage: Option<&Usage>) {
        let (Some(basis), Some(usage)) = (&self.basis, usage.filter(|usage| !usage.estimated)) else { return };
        let (input, output) = (usage.input_total(), usage.output);
        self.books.metrics.estimate(EstimateKind::Input, basis.expected.input, input);
        self.books.metrics.estimate(EstimateKind::Output, basis.expected.output, output);
        self.books.estimator.learn(&basis.key, &basis.model, &basis.sizes, input, output);
    }

    fn count(&self, end: &End, usage: Option<&Usage>, cost: Option<NanoUsd>, duration: Duration) {
        let (metrics, record) = (&self.books.metrics, &self.record);
        // A model that no Model names is called whatever its caller likes.
        let model = record.model.as_deref().map(|name| if record.model_ref.is_some() { name } else { "other" });
        let model = metrics.model(model);
        let over = RequestOver {
            shape: record.client_shape,
            host: record.host.as_deref(),
            status: end.status,
            duration,
            first_content: self.first_content,
            overhead: record.overhead_ms.map(|overhead| Duration::from_secs_f64(overhead.max(0.0) / 1_000.0)),
        };
        metrics.request_over(&model, &over);
        if let Some(usage) = usage {
            model.tokens(usage);
            model.cost(cost);
            if let (Some(key), Some(team)) = (&record.relay_key, &record.team) {
                metrics.spent(key, team, usage, cost);
            }
        }
    }

    fn write(&mut self, end: End, usage: Option<Usage>, cost: Option<NanoUsd>, duration: Duration) {
        let record = &mut self.record;
        (record.usage, record.cost_nano_usd) = (usage, cost);
        record.price_source = self.price.take().filter(|_| cost.is_some()).map(|price| price.source.clone());
        record.first_content_ms = self.first_content.map(millis);
        record.duration_ms = millis(duration);
        (record.status, record.cancelled) = (end.status, end.cancelled);
        (record.finish, record.error_code) = (end.finish.map(cut_word), end.error_code.map(cut_word));
        record.answered_model = record.answered_model.take().map(cut);
        record.upstream_id = record.upstream_id.take().map(cut);
    }
}

fn cut_word(said: Cow<'static, str>) -> Cow<'static, str> {
    match said {
        Cow::Borrowed(word) => Cow::Borrowed(word),
        Cow::Owned(said) => Cow::Owned(cut(said)),
    }
}

fn cut(said: String) -> String {
    if said.len() <= MOST_SAID {
        return said;
    }
    match said.char_indices().nth(MOST_SAID) {
        Some((end, _)) => said[..end].to_owned(),
        None => said,
    }
}

/// To the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
