//! The Secrets of RelayKeys that have `spec.secret`: made once, and their token replaced when its time has come. What is
//! to be done is decided from plain values by [`decide`]; `round` does it.
//!
//! Two replicas that do the same at the same moment do no harm: a Secret is created, never applied, so the second is
//! told that it exists; and it is replaced only as the version that was looked at.

mod decide;
mod round;
mod secret;

pub use decide::{Decision, Found, Live, decide};
pub use round::{Happened, Minter, Told};
pub use secret::{ISSUED_AT, MANAGED, MadeFor, TRIGGER, is_ours};
