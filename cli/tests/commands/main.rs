//! The commands of `relay`, each through the built binary.

mod ask;
mod canary;
mod check;
mod compile;
mod diff;
mod explain;
mod help;
mod inject;
mod keys;
mod run;
mod seal;
mod server;
mod support;
