//! The operator against a real API server.

mod asking;
mod catching_up;
mod documented;
mod foreign;
mod gathering;
mod pushing;
mod sidecars;
mod support;
mod trusting;
mod watching;
mod writing;
