//! The hot path: HTTP in, pipeline, pool, limiter, meter, HTTP out.

pub mod admin;
pub mod config;
pub mod drain;
pub mod gunzip;
pub mod intake;
pub mod limit;
pub mod listener;
