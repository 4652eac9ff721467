//! Relay as a whole, on a real API server: what an administrator does with kubectl, and what applications see of it.

mod census;
mod chronicle;
mod deletion;
mod drain_and_staleness;
mod drift;
mod fleets;
mod gitops;
mod leaders;
mod metrics;
mod outages;
mod propagation;
mod provider_keys;
mod quickstart;
mod rights;
mod rotation;
mod scene;
mod sealed_keys;
mod sidecars;
