//! Measures Relay on loopback beside nginx and a bare hyper pass-through, in the same passes: each gateway alone on one
//! core, the load and the upstream in this process on another. What is measured is said in `docs/performance.md`.

pub mod answers;
pub mod client;
pub mod cores;
pub mod failover;
pub mod gateway;
pub mod load;
pub mod machine;
pub mod pass_through;
pub mod process;
pub mod report;
pub mod requests;
pub mod sample;
pub mod scenario;
pub mod streams;
pub mod upstream;
mod wire;
