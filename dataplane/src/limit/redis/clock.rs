//! What time it is in Redis, as this process may think between two answers: only a guess for choosing calendar periods
//! and for mirrors; whatever is decided in Redis is decided by its own clock.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limit::{clock::Clock, counter::Now, window::Millis};

/// Redis' clock, as last heard.
#[derive(Debug)]
pub struct RedisClock(Mutex<(Instant, Millis)>);

impl RedisClock {
    /// Until Redis has said something, the machine's clock.
    pub fn new() -> Self {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        Self(Mutex::new((Instant::now(), now)))
    }

    /// Redis said that it is so late, in milliseconds since 1970.
    pub fn heard(&self, now: Millis) {
        *self.0.lock() = (Instant::now(), now);
    }

    /// The guess, in milliseconds since 1970.
    pub fn millis(&self) -> Millis {
        let (heard, then) = *self.0.lock();
        then.saturating_add(u64::try_from(heard.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The guess, for counters.
    pub(in crate::limit) fn now(&self) -> Now {
        at(self.millis())
    }

    /// The name of data that begin now; later ones sort after earlier ones.
    pub(in crate::limit) fn fresh_birth(&self, process: &str) -> String {
        format!("{:013}-{process}", self.millis())
    }

    /// When it will be so late, as this process counts.
    pub fn instant(&self, millis: Millis) -> Instant {
        let (heard, then) = *self.0.lock();
        match millis.checked_sub(then) {
            Some(ahead) => heard + Duration::from_millis(ahead),
            None => heard.checked_sub(Duration::from_millis(then - millis)).unwrap_or(heard),
        }
    }
}

impl Clock for RedisClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.millis())
    }

    fn wall(&self) -> Timestamp {
        self.now().wall
    }
}

impl Default for RedisClock {
    fn default() -> Self {
        Self::new()
    }
}

/// A moment that Redis named: it has one clock for windows and for the calendar.
pub(in crate::limit) fn at(millis: Millis) -> Now {
    let wall = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    Now { mono: millis, wall: wall.unwrap_or(Timestamp::MAX) }
}
