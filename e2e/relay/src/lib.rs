//! Relay as it runs in a cluster, for tests: operators and data planes are processes of their own, the programs that are
//! shipped, against a real API server. What is imitated is only what surrounds them in a pod: the kubelet that keeps a
//! token and the CA bundle fresh in files, and the Service before the operators.
//!
//! A [`Site`] is one installation in a namespace of its own. Everything here panics with what went wrong, as assertions
//! do, and when a test fails, the ends of all logs are printed.

mod client;
mod daemon;
mod data_plane;
mod kubelet;
mod load;
mod manifests;
mod operator;
mod process;
mod programs;
mod service;
mod sites;
mod upstream;
mod wait;

pub use client::{Answer, Ask, Connection};
pub use daemon::Daemon;
pub use data_plane::{DataPlane, Pod};
pub use load::{Load, Tally};
pub use manifests::{relay_key, routes, secret};
pub use operator::Operator;
pub use process::Process;
pub use programs::Programs;
pub use service::Service;
pub use sites::{AUDIENCE, Site};
pub use upstream::{DAWDLER, Request, Upstream};
pub use wait::{PATIENCE, until};
