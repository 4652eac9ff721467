//! The operator against a real API server.

mod catching_up;
mod foreign;
mod pushing;
mod support;
mod watching;
mod writing;
