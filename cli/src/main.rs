//! `relay`: the command line.
fn main() {}
