//! The commands of `relay` that ask a cluster, through the built binary, against a real API server.

mod config;
mod errors;
mod explain;
mod inject;
mod keys;
mod plugin;
mod pod;
mod sidecars;
mod status;
mod support;
