//! How compiled tables travel: one stream from an operator to each data plane, with snapshots, deltas, acknowledgements
//! and reports, and a sealed copy for times without an operator.
//!
//! A table travels as rows of bytes under digests. The same objects give the same bytes on every machine, so operators
//! are interchangeable, and a client that returns names digests and gets only what differs. Knows nothing of Kubernetes:
//! who a token belongs to is asked through a callback.

pub mod client;
pub mod connect;
pub mod counts;
pub mod delta;
pub mod fleet;
pub mod gather;
pub mod packing;
pub mod parts;
pub mod publisher;
pub mod replica;
pub mod rows;
pub mod schema;
pub mod sealed;
pub mod server;
pub mod session;
pub mod store;
pub mod tables;
pub mod tls;
pub mod vector;
pub mod wire;
