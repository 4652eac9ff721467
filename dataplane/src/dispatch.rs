//! The attempt loop: tries one key after the other until an answer's first content was seen and before the caller has
//! seen anything. Decides what a failure means for the request; what it means for the key is the breaker's business.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    Refusal,
    error::{ErrorKind, WireError},
};
use rand::RngExt;
use table::RetryOn;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    attempt::{Committed, Exchange, Failure},
    breaker::{Phase, Transition, outcome::Outcome},
    denied::Denied,
    failure::{self, Failures},
    meter::{
        Meter,
        record::{Attempt, AttemptOutcome},
    },
    metrics::{BreakerState, Metrics},
    pipeline,
    plan::{Candidate, Draw, Step},
    pool::signals::Flight,
};

/// An answer whose first content was seen, and who gave it.
pub(crate) struct Dispatched {
    pub(crate) committed: Committed,
    /// The index of the step that was taken.
    pub(crate) step: usize,
    pub(crate) attempts: u32,
    /// The time that was spent waiting for upstreams.
    pub(crate) waited: Duration,
}

struct Loop<'a> {
    exchange: &'a Exchange<'a>,
    meter: &'a mut Meter,
    failures: Failures,
    refusal: Option<Refusal>,
    attempts: u32,
    waited: Duration,
    /// The public id of a model whose context window was too small.
    too_small: Option<String>,
    /// There once a step was answered.
    answered: Option<Dispatched>,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another key; this one would say the same again.
    MoveOn,
    /// Another key, and this one again when there is none.
    Transient,
    /// A model with a larger window.
    LargerModel,
    /// The caller is told.
    Stop,
}

/// Tries `steps`, of which those with the indices `open` may be used, until one answers.
pub(crate) async fn first_content(
    exchange: &Exchange<'_>,
    steps: &[Step<'_>],
    open: &[usize],
    meter: &mut Meter,
) -> Result<Dispatched, Denied> {
    let mut tries = Loop {
        exchange,
        meter,
        failures: Failures::default(),
        refusal: None,
        attempts: 0,
        waited: Duration::ZERO,
        too_small: None,
        answered: None,
    };
    if let Some(&first) = open.first() {
        tries.earn_repeats(steps[first].candidate);
    }
    let mut again = VecDeque::new();
    for &index in open {
        match tries.run(index, steps[index]).await? {
            Tried::Answered => break,
            Tried::Failed(Next::Stop) => return Err(tries.verdict()),
            Tried::Failed(Next::Transient) => again.push_back(index),
            Tried::Failed(Next::MoveOn | Next::LargerModel) | Tried::Skipped => {}
        }
    }
    if let Some(dispatched) = tries.answered.take() {
        return Ok(dispatched);
    }
    let mut repeats = 0;
    while let Some(index) = again.pop_front() {
        let step = steps[index];
        if tries.is_out(step) {
            continue;
        }
        if !tries.may_repeat(step.candidate, repeats).await {
            break;
        }
        repeats += 1;
        match tries.run(index, step).await? {
            Tried::Failed(Next::Transient) => again.push_back(index),
            Tried::Failed(Next::MoveOn) => {}
            Tried::Answered | Tried::Failed(Next::LargerModel | Next::Stop) | Tried::Skipped => break,
        }
    }
    tries.answered.take().ok_or_else(|| tries.verdict())
}

enum Tried {
    Answered,
    Failed(Next),
    Skipped,
}

impl Loop<'_> {
    async fn run(&mut self, index: usize, step: Step<'_>) -> Result<Tried, Denied> {
        let (exchange, candidate) = (self.exchange, step.candidate);
        let is_too_small = self.too_small.as_deref() == Some(candidate.public_model());
        if self.attempts >= exchange.plan.rules.max_attempts || is_too_small {
            return Ok(Tried::Skipped);
        }
        if Instant::now() >= exchange.deadline {
            let message = "the request took longer than it may (`timeouts.request`)";
            self.failures.add(WireError::new(ErrorKind::Timeout, message));
            return Ok(Tried::Failed(Next::Stop));
        }
        let outgoing = match exchange.outgoing(candidate) {
            Ok(outgoing) => outgoing,
            Err(refusal) if refusal.malformed => return Err(Denied::Refused(refusal)),
            Err(refusal) => {
                // Another target may be able to serve it; the first refusal is what the caller is told if none is.
                self.refusal.get_or_insert(refusal);
                return Ok(Tried::Skipped);
            }
        };
        self.attempts += 1;
        let began = Instant::now();
        self.begin(index, step, began);
        let attempted = Box::pin(exchange.attempt(self.attempts, step, outgoing, began)).await;
        let over = Instant::now();
        self.waited += over.saturating_duration_since(began);
        match attempted {
            Ok(committed) => {
                committed.flight.first_content(over.into_std());
                self.meter.first_content(over);
                let (attempts, waited) = (self.attempts, self.waited);
                self.answered = Some(Dispatched { committed, step: index, attempts, waited });
                Ok(Tried::Answered)
            }
            Err((failure, flight)) => Ok(Tried::Failed(self.failed(step, failure, &flight, over))),
        }
    }

    fn begin(&mut self, index: usize, step: Step<'_>, now: Instant) {
        let candidate = step.candidate;
        let attempt = Attempt {
            host: candidate.host.name.clone(),
            host_key: step.draw.key.as_ref().map(|key| key.name.clone()),
            upstream_model: candidate.told_upstream_model(),
            shape: candidate.shape(),
            outcome: None,
            reason: None,
            status: None,
            started_ms: 0.0,
            duration_ms: None,
        };
        self.meter.attempt(index, attempt, candidate.price().cloned(), now);
    }

    /// Repeats are a share of requests, not of attempts: each request earns once, at the host that it is meant for.
    fn earn_repeats(&self, candidate: &Candidate) {
        candidate.signals.retries.deposit(self.exchange.plan.rules.retries.budget_percent);
    }

    /// Whether a key's breaker has opened meanwhile: its provider has said often enough that it fails.
    fn is_out(&self, step: Step<'_>) -> bool {
        !matches!(step.draw.signals.phase(Instant::now().into_std()), Phase::Closed { .. })
    }

    fn failed(&mut self, step: Step<'_>, failure: Failure, flight: &Flight, now: Instant) -> Next {
        let Failure { error, outcome, label, status } = failure;
        let (exchange, candidate) = (self.exchange, step.candidate);
        report(&exchange.relay.books.metrics, candidate, step.draw, outcome, flight, now);
        let (host, reason) = (&candidate.host.id, failure::reason(&error, outcome));
        let key = step.draw.key.as_ref().map(|key| key.id.to_string());
        info!(
            request_id = exchange.request_id,
            %host,
            host_key = key.as_deref(),
            outcome = label.as_str(),
            status,
            reason = pipeline::one_line(&reason),
            "an attempt at host `{host}` failed"
        );
        self.meter.attempted(label, status, Some(reason), now);
        let next = next(&error, outcome, label, &exchange.plan.rules.retries.on);
        if next == Next::LargerModel {
            self.too_small = Some(candidate.public_model().to_owned());
        }
        self.failures.add(error);
        next
    }

    /// Waits before a repeat on a key that was tried; false: there shall be none.
    async fn may_repeat(&self, candidate: &Candidate, repeats: u32) -> bool {
        let plan = self.exchange.plan;
        let retries = &plan.rules.retries;
        let host = &candidate.signals;
        if self.attempts >= plan.rules.max_attempts || !host.retries.withdraw(retries.budget_percent) {
            return false;
        }
        let doubled = retries.backoff_base.saturating_mul(1_u32 << repeats.min(16));
        let most = doubled.min(retries.backoff_max);
        let wait = most.mul_f64(rand::rng().random_range(0.5..=1.0));
        if Instant::now() + wait >= self.exchange.deadline {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    fn verdict(&mut self) -> Denied {
        match (self.failures.is_empty(), self.refusal.take()) {
            (true, Some(refusal)) => Denied::Refused(refusal),
            _ => Denied::Upstream(std::mem::take(&mut self.failures).verdict()),
        }
    }
}

/// What a failure means for the request.
fn next(error: &WireError, outcome: Outcome, label: AttemptOutcome, on: &[RetryOn]) -> Next {
    let allowed = |kind: RetryOn, next: Next| if on.contains(&kind) { next } else { Next::Stop };
    match outcome {
        // The key or the host is at fault: the request was never looked at.
        Outcome::Auth | Outcome::NotServed => Next::MoveOn,
        Outcome::RateLimited { .. } => allowed(RetryOn::RateLimited, Next::MoveOn),
        Outcome::ServerError => allowed(RetryOn::ServerError, Next::Transient),
        Outcome::Unreachable(_) if label == AttemptOutcome::Timeout => allowed(RetryOn::Timeout, Next::Transient),
        Outcome::Unreachable(_) => allowed(RetryOn::Connect, Next::Transient),
        Outcome::CallerFault if error.kind == ErrorKind::ContextTooLong => Next::LargerModel,
        Outcome::CallerFault | Outcome::Cancelled | Outcome::Ok => Next::Stop,
    }
}

/// Tells key and host how an attempt ended by `now`, and says in log and metrics what that changes.
pub(crate) fn report(
    metrics: &Metrics,
    candidate: &Candidate,
    draw: &Draw,
    outcome: Outcome,
    flight: &Flight,
    now: Instant,
) {
    let changes = flight.report(outcome, now.into_std(), &candidate.host.row.breaker);
    let host = &candidate.host.id;
    if let Transition::Opened { class, .. } = changes.host {
        warn!(%host, reason = ?class, "host `{host}` cannot be reached and is taken out");
    }
    let Some(name) = draw.key.as_ref().map(|key| &key.id) else { return };
    match changes.key {
        Transition::None => {}
        Transition::Opened { class, until } => {
            let wait = until.saturating_duration_since(now.into_std());
            warn!(host_key = %name, %host, reason = ?class, for_s = wait.as_secs_f64(), "host key `{name}` is taken out");
            metrics.breaker(name, BreakerState::Open);
        }
        Transition::Closed => {
            info!(host_key = %name, %host, "host key `{name}` is back");
            metrics.breaker(name, BreakerState::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::outcome::{Horizon, Side};

    fn after(outcome: Outcome, kind: ErrorKind) -> Next {
        let on = [RetryOn::RateLimited, RetryOn::ServerError, RetryOn::Connect, RetryOn::Timeout];
        next(&WireError::new(kind, "no"), outcome, AttemptOutcome::Unreachable, &on)
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again_on_the_same_key() {
        assert_eq!(after(Outcome::ServerError, ErrorKind::ServerError), Next::Transient);
        assert_eq!(after(Outcome::Unreachable(Side::Host), ErrorKind::Unreachable), Next::Transient);
        assert_eq!(after(Outcome::Auth, ErrorKind::Authentication), Next::MoveOn);
        assert_eq!(after(Outcome::NotServed, ErrorKind::NotFound), Next::MoveOn);
        let limited = Outcome::RateLimited { wait: None, horizon: Horizon::Short };
        assert_eq!(after(limited, ErrorKind::RateLimited), Next::MoveOn);
    }

    #[test]
    fn a_callers_fault_ends_the_request_unless_a_larger_model_may_help() {
        assert_eq!(after(Outcome::CallerFault, ErrorKind::InvalidRequest), Next::Stop);
        assert_eq!(after(Outcome::CallerFault, ErrorKind::ContextTooLong), Next::LargerModel);
    }

    #[test]
    fn a_policy_that_retries_nothing_stops_at_the_first_failure() {
        let error = WireError::new(ErrorKind::ServerError, "no");
        assert_eq!(next(&error, Outcome::ServerError, AttemptOutcome::ServerError, &[]), Next::Stop);
    }
}
