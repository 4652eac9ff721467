//! How this data plane fares, for the operator: keys that are out, requests in flight, and whether it is stopping.
//!
//! What changes with every request is told at the next turn; what somebody waits for is told at once.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use feed::wire::{Breaker, BreakerState, Report};
use table::ObjectRef;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{breaker::Phase, relay::Relay};

/// How often it is looked how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same moment on both clocks, so that the same time is always told alike.
#[derive(Clone, Copy)]
struct Clocks {
    instant: Instant,
    system: SystemTime,
}

/// Keeps `reports` up to date until `stop`.
pub(super) async fn run(relay: Arc<Relay>, reports: watch::Sender<Report>, stop: CancellationToken) {
    let clocks = Clocks { instant: Instant::now(), system: SystemTime::now() };
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = relay.drain.unready(), if !reports.borrow().draining => {}
            _ = ticks.tick() => {}
        }
        let report = clocks.report(&relay);
        reports.send_if_modified(|told| {
            let is_news = (&told.breakers, told.draining) != (&report.breakers, report.draining);
            *told = report;
            is_news
        });
    }
}

impl Clocks {
    fn report(self, relay: &Relay) -> Report {
        let mut breakers: Vec<_> = relay.phases().iter().filter_map(|(key, phase)| self.breaker(key, phase)).collect();
        breakers.sort_by(|a, b| a.host_key.cmp(&b.host_key));
        let in_flight = u64::try_from(relay.books.metrics.requests_in_flight.get()).unwrap_or(0);
        Report { breakers, in_flight, draining: relay.drain.is_unready() }
    }

    fn breaker(self, key: &ObjectRef, phase: &Phase) -> Option<Breaker> {
        let (state, class, at) = match *phase {
            Phase::Closed { .. } => return None,
            Phase::Open { class, until } => (BreakerState::Open, class, until),
            Phase::HalfOpen { class, since, .. } => (BreakerState::HalfOpen, class, since),
        };
        let (host_key, reason) = (key.to_string(), class.to_string());
        Some(Breaker { host_key, state: state.into(), reason, until_ms: self.millis(at) })
    }

    /// Milliseconds since 1970.
    fn millis(self, at: Instant) -> u64 {
        let system = match at.checked_duration_since(self.instant) {
            Some(later) => self.system + later,
            None => self.system - self.instant.duration_since(at),
        };
        let since = system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::outcome::Class;

    #[test]
    fn only_keys_that_are_out_are_told_with_why_and_until_when() {
        let clocks = Clocks { instant: Instant::now(), system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000) };
        let key = ObjectRef::new("team", "key");
        assert_eq!(clocks.breaker(&key, &Phase::Closed { share: 0.5 }), None);
        let until = clocks.instant + Duration::from_secs(30);
        let open = clocks.breaker(&key, &Phase::Open { class: Class::Auth, until });
        let expected = |state: BreakerState, reason: &str, until_ms| Breaker {
            host_key: "team/key".into(),
            state: state.into(),
            reason: reason.into(),
            until_ms,
        };
        assert_eq!(open, Some(expected(BreakerState::Open, "auth", 1_030_000)));
        let half = Phase::HalfOpen { class: Class::Unreachable, since: clocks.instant, probes: 1 };
        assert_eq!(clocks.breaker(&key, &half), Some(expected(BreakerState::HalfOpen, "unreachable", 1_000_000)));
    }
}
