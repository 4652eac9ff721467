//! The commands of `relay`, each through the built binary.

mod check;
mod compile;
mod help;
mod keys;
mod support;
