//! `relay config`: the routing table as a cluster means it, or as a running operator or data plane has it.

mod diff;
mod dump;
mod reads;
mod running;
mod source;

use clap::{Args, Subcommand};

use crate::outcome::Outcome;

/// Shows the routing table of a cluster, and what would change it
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Dump(Box<dump::Dump>),
    Diff(Box<diff::Diff>),
}

impl Config {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        match self.action {
            Action::Dump(dump) => dump.run(),
            Action::Diff(diff) => diff.run(),
        }
    }
}
