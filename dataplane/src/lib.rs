//! The hot path: HTTP in, pipeline, pool, limiter, meter, HTTP out.

pub mod admin;
pub mod auth;
pub mod breaker;
pub mod config;
pub mod denied;
pub mod drain;
pub mod failure;
pub mod flow;
pub mod gunzip;
pub mod heal;
pub mod inbound;
pub mod intake;
pub mod limit;
pub mod listener;
pub mod meter;
pub mod metrics;
pub mod pool;
pub mod respond;
pub mod route;
pub mod upstream;
pub mod world;
