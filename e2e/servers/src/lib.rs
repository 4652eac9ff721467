//! Real Redis servers for tests, started from the `redis-server` of this machine on free ports of 127.0.0.1, each with a
//! directory of its own, and killed when dropped, also when the test panics or is itself killed.
//!
//! Everything here panics with what went wrong, as assertions do: a test that cannot have its server has failed.
//! Nothing here knows Relay or a Redis client: what a server holds is asked over its Unix socket, past the TLS, the
//! passwords and the proxies that a test puts before its port.

mod certificates;
mod cluster;
mod options;
mod ports;
mod process;
mod proxy;
mod redis;
mod resp;
mod sentinels;
mod slots;
mod wait;

pub use cluster::{Cluster, Layout, Move};
pub use options::Options;
pub use proxy::{CountingProxy, Sent};
pub use redis::Redis;
pub use resp::Reply;
pub use sentinels::Sentinels;
pub use slots::slot_of;
