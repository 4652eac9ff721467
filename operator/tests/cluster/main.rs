//! The operator against a real API server.

mod pushing;
mod support;
mod watching;
mod writing;
