//! Several `relay run` processes that count in one Redis.

mod callers;
mod crash;
mod exact;
mod fleet;
mod monitor;
mod oracle;
#[expect(dead_code, reason = "shared with the tests of the commands")]
#[path = "../commands/server.rs"]
mod server;
#[expect(dead_code, reason = "shared with the tests of the commands")]
#[path = "../commands/support.rs"]
mod support;
mod upstream;
mod words;
