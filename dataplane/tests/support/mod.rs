//! The harness of these tests: a data plane on free ports, the tables it serves, upstreams that follow a script, and a
//! client that says what it saw.

pub(crate) mod client;
pub(crate) mod operator;
pub(crate) mod relay;
pub(crate) mod tables;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wire;
