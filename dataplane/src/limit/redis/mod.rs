//! The limiter of many processes: counters in Redis, decided by one script call for each request.
//!
//! Decides nothing of what fits: that is in the scripts and in `limit::counter`. Knows who has to be asked: Redis, the
//! shares of counters that live elsewhere, or, while Redis is gone, this process alone.

pub mod clock;
pub mod degraded;
mod exchange;
pub mod fleet;
pub mod health;
pub mod keys;
pub mod link;
pub mod pods;
pub mod script;
#[cfg_attr(not(test), expect(dead_code, reason = "for the limiter, which asks it about leased and foreign scopes"))]
mod shares;
pub mod spends;
pub mod spent;
pub mod store;
