//! Sends requests to hosts: one connection pool a host, never one a key, because a connection carries no credential of
//! its own. Knows names, addresses, TLS and HTTP versions; knows nothing of shapes, health or who pays.

pub mod auth;
pub mod body;
pub mod client;
pub mod clients;
pub mod credentials;
pub mod error;
pub mod resolver;
pub mod upload;

mod connections;
mod dial;
mod h1;
mod race;
pub(crate) mod tls;

#[cfg(test)]
mod tests;
