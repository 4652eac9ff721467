//! What is said on objects: conditions and numbers, written by the replica that leads, and only where something changed.
//!
//! Decided from plain values by `plan`; written by `write` through the bounded `queue`; `run` keeps at it.

pub mod conditions;
pub mod data_plane;
pub mod facts;
pub mod fleet;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod plan;
pub mod queue;
pub mod run;
pub mod said;
pub mod write;

/// Under which name the API server knows what this operator wrote.
pub const FIELD_MANAGER: &str = "relay-operator";
