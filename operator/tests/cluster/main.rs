//! The operator against a real API server.

mod pushing;
mod scale;
mod support;
mod watching;
mod writing;
