//! The name under which this program was called: `relay`, or `kubectl relay`, as kubectl calls its plugins.

use std::{env, ffi::OsString, path::Path};

use clap::{Command, CommandFactory};

use crate::Cli;

const PLAIN: &str = "relay";
const PLUGIN: &str = "kubectl relay";

/// The name by which the user called it.
pub(crate) fn name() -> &'static str {
    name_of(env::args_os().next())
}

fn name_of(program: Option<OsString>) -> &'static str {
    let program = program.unwrap_or_default();
    let stem = Path::new(&program).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    match stem {
        "kubectl-relay" | "kubectl_relay" => PLUGIN,
        _ => PLAIN,
    }
}

/// The command line under that name: usage and examples show it.
pub(crate) fn command(name: &'static str) -> Command {
    let command = Cli::command().bin_name(name);
    if name == PLAIN { command } else { renamed(command, name) }
}

fn renamed(command: Command, name: &'static str) -> Command {
    let after = command.get_after_help().map(|help| help.to_string().replace("\n  relay ", &format!("\n  {name} ")));
    let command = match after {
        Some(after) => command.after_help(after),
        None => command,
    };
    command.mut_subcommands(|inner| renamed(inner, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_known_by_its_file_name() {
        assert_eq!(name_of(Some("/usr/local/bin/kubectl-relay".into())), PLUGIN);
        assert_eq!(name_of(Some("./relay".into())), PLAIN);
        assert_eq!(name_of(None), PLAIN);
    }

    #[test]
    fn the_command_line_is_sound_under_both_names() {
        command(PLAIN).debug_assert();
        command(PLUGIN).debug_assert();
    }
}
