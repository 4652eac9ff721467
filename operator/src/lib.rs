//! What runs beside the data planes: watches the resources of a cluster, compiles them, and hands on what came of it.
//!
//! Every replica watches, compiles and serves; who holds the Lease also writes. What resources mean is the compiler's
//! business, how tables travel is the feed's.

mod admin;
pub mod app;
pub mod compile;
pub mod config;
pub mod debounce;
pub mod events;
mod fleets;
pub mod leading;
pub mod lease;
pub mod metrics;
pub mod mint;
mod published;
pub mod push;
pub mod rbac;
pub mod requests;
mod source_vector;
pub mod status;
pub mod watch;
mod workshop;
pub mod world;

pub use fleets::Fleet;
pub use published::Published;
pub use source_vector::{Position, SourceVector};
