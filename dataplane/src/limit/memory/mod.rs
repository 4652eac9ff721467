//! The limiter of a process that is alone: counters in memory behind one lock, held for microseconds and never across
//! an await.

mod hold;
mod state;

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;

use self::state::{Granted, State};
use super::{
    LimitError, Limiter, RuleUsage,
    claims::{Claims, ScopeClaim},
    clock::{Clock, SystemClock},
    counter::Now,
    reservation::{Entry, Ledger, Reservation, ReservationId},
};

/// Counts in this process. Cheap to clone; clones share their counters.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

impl Memory {
    /// Counters on the machine's clocks.
    pub fn new() -> Self {
        Self::with_clock(SystemClock::new())
    }

    /// Counters on a clock of one's own.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self { shared: Arc::new(Shared { clock: Box::new(clock), state: Mutex::new(State::default()) }) }
    }

    /// Reservations that are neither settled nor released nor expired.
    pub fn live(&self) -> usize {
        self.shared.state.lock().live()
    }

    /// Scopes that have counters; those at rest are dropped after a minute or so.
    pub fn counters(&self) -> usize {
        self.shared.state.lock().counters()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Limiter for Memory {
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>> {
        // Lazy: a future that is never polled claims nothing.
        async move {
            let granted = self.shared.state.lock().reserve(claims, self.shared.now());
            let Granted { id, pulse, candidates, standing, alerts } = granted.map_err(LimitError::Refused)?;
            let ledger: Arc<dyn Ledger> = self.shared.clone();
            Ok(Reservation::new(id, ledger, pulse, candidates, standing, alerts))
        }
        .boxed()
    }

    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>> {
        ready(Ok(self.shared.state.lock().usage(&scopes, self.shared.now()))).boxed()
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        // What is posted has taken effect when `post` returns.
        ready(()).boxed()
    }
}

impl Shared {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        Now { mono, wall: self.clock.wall() }
    }
}

impl Ledger for Shared {
    fn post(&self, id: ReservationId, entry: Entry) {
        let now = self.now();
        self.state.lock().post(id, entry, now);
    }
}

#[cfg(test)]
mod tests;
