//! The operator against a real API server.

mod scale;
mod support;
mod watching;
