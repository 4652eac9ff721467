//! What goes to an OpenTelemetry collector, and how: spans of requests, and usage records as logs.
//!
//! `words` says things in OpenTelemetry's terms, `collector` sends one batch, `exports` queues and tries again. What a
//! span says is in `spans`, what a log record says in `meter::logs`.

pub(crate) mod collector;
pub(crate) mod exports;
pub(crate) mod words;
