//! `relay`: the command line.

mod demo;
mod manifests;

fn main() {}
