//! `relay`: the command line.

mod ask;
mod check;
mod checkup;
mod cluster;
mod compile;
mod config;
mod definitions;
mod demo;
mod demo_upstream;
mod diff;
#[cfg(test)]
mod documented;
mod explain;
mod inject;
mod keys;
mod manifests;
mod outcome;
mod plugin;
mod run;
mod seal;
mod signals;
mod status;
mod verdict;
mod view;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::outcome::Outcome;

/// Requests make hundreds of small values, on one thread and another: the system's allocator takes longer for that, and keeps
/// more of what streams have given back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A router for large-language-model traffic, configured by manifests
///
/// Hosts (providers), Models, HostKeys (credentials), RelayKeys (tokens of applications) and Policies are written as
/// Kubernetes manifests. Relay serves one OpenAI- and Anthropic-compatible endpoint from them.
#[derive(Debug, Parser)]
#[command(name = "relay", version, max_term_width = 100)]
#[command(after_help = "\
Start here:
  relay check DIR        says what is wrong with manifests, with file and line
  relay run DIR          serves them, and follows every change of the directory
  relay explain DIR ...  says who would serve a request, and why not the others
  relay status           says how a cluster is, and what is not in effect

A link to this program of the name `kubectl-relay` on the PATH makes it `kubectl relay`.

Exit codes: 0 fine; 1 what was asked about is not fine; 2 wrong arguments, or something cannot be read.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Ask(ask::Ask),
    Check(check::Check),
    Compile(compile::Compile),
    Explain(Box<explain::Explain>),
    Diff(diff::Diff),
    Inject(inject::Inject),
    Status(status::Status),
    #[command(visible_alias = "key")]
    Keys(keys::Keys),
    Config(config::Config),
    Seal(Box<seal::Seal>),
    Crds(definitions::Crds),
    DemoUpstream(demo_upstream::DemoUpstream),
}

fn main() -> ExitCode {
    let name = plugin::name();
    let matches = plugin::command(name).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Run(run) => run.run(),
        Command::Ask(ask) => ask.run(),
        Command::Check(check) => check.run(),
        Command::Compile(compile) => compile.run(),
        Command::Explain(explain) => explain.run(),
        Command::Diff(diff) => diff.run(),
        Command::Inject(inject) => inject.run(),
        Command::Status(status) => status.run(),
        Command::Keys(keys) => keys.run(),
        Command::Config(config) => config.run(),
        Command::Seal(seal) => seal.run(),
        Command::Crds(crds) => crds.run(),
        Command::DemoUpstream(demo) => demo.run(),
    };
    done.and_then(|outcome: Outcome| Ok(outcome.deliver()?)).unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::from(2)
    })
}
