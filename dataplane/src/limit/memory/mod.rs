//! The limiter of a process that is alone: counters in memory behind one lock, held for microseconds and never across
//! an await.

mod hold;
mod state;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;

use self::state::{Granted, State};
use super::{
    LimitError, Limiter, RuleUsage,
    claims::{Claims, ScopeClaim},
    clock::{Clock, SystemClock},
    counter::Now,
    reservation::{Entry, Ledger, Pulse, Reservation, ReservationId, Standing},
};

/// Counts in this process. Cheap to clone; clones share their counters.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
    /// Reservations of what nothing limits, so far.
    unlimited: AtomicU64,
}

/// The bit in the numbers of those: nothing is kept of them.
const UNLIMITED: u128 = 1 << 127;

impl Memory {
    /// Counters on the machine's clocks.
    pub fn new() -> Self {
        Self::with_clock(SystemClock::new())
    }

    /// Counters on a clock of one's own.
    pub fn with_clock(clock: impl Clock) -> Self {
        let (clock, state) = (Box::new(clock), Mutex::default());
        Self { shared: Arc::new(Shared { clock, state, unlimited: AtomicU64::new(0) }) }
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
            let granted = match claims.limit_nothing() {
                true => self.shared.unlimited(&claims),
                false => {
                    let granted = self.shared.state.lock().reserve(claims, self.shared.now());
                    granted.map_err(LimitError::Refused)?
                }
            };
            let Granted { id, pulse, candidates, standing, alerts } = granted;
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

    /// What nothing limits takes place in no counter.
    fn unlimited(&self, claims: &Claims) -> Granted {
        let number = u128::from(self.unlimited.fetch_add(1, Ordering::Relaxed));
        Granted {
            id: ReservationId(UNLIMITED | number),
            pulse: Pulse::default(),
            candidates: (0..claims.candidates.len().min(claims.max_candidates.max(1))).collect(),
            standing: Standing::default(),
            alerts: Vec::new(),
        }
    }
}

impl Ledger for Shared {
    fn post(&self, id: ReservationId, entry: Entry) {
        if id.0 & UNLIMITED != 0 {
            return;
        }
        // The first attempt of nearly every request: it was charged when it was reserved, whatever the time is.
        if let Entry::Attempt(candidate) = entry
            && self.state.lock().begins(id, candidate)
        {
            return;
        }
        let now = self.now();
        self.state.lock().post(id, entry, now);
    }
}

#[cfg(test)]
mod tests;
