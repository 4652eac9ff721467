//! `--help` and `crds`: every command explains itself, and the checked-in definitions are current.

use std::{fs, path::Path};

use crate::support::{path, run};

const COMMANDS: &[&[&str]] = &[
    &["check"],
    &["compile"],
    &["explain"],
    &["diff"],
    &["inject"],
    &["status"],
    &["keys", "create"],
    &["keys", "list"],
    &["keys", "rotate"],
    &["keys", "revoke"],
    &["keys", "mint"],
    &["keys", "hash"],
    &["config", "dump"],
    &["config", "diff"],
    &["seal"],
    &["crds"],
    &["demo-upstream"],
];

#[test]
fn every_command_explains_itself_with_examples() {
    for command in COMMANDS {
        let said = run(&[*command, &["--help"]].concat());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""));
        let example = format!("relay {}", command.join(" "));
        assert!(said.stdout.contains("Examples:") && said.stdout.contains(&example), "{example}: {}", said.stdout);
    }
    let overview = run(&["--help"]).stdout;
    COMMANDS.iter().for_each(|command| assert!(overview.contains(&format!("\n  {}", command[0])), "{}", command[0]));
}

#[test]
fn a_wrong_argument_is_refused_with_exit_code_2() {
    let said = run(&["chek"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("check"), "{}", said.stderr);
}

#[test]
fn the_checked_in_definitions_are_those_that_relay_writes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(run(&["crds", "--dir", path(&dir)]).code, 0);
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml");
    let mut together = Vec::new();
    for kind in ["hosts", "models", "hostkeys", "relaykeys", "policies", "dataplanes"] {
        let name = format!("{kind}.yaml");
        let written = fs::read_to_string(dir.path().join(&name)).expect("every kind has a file");
        assert_eq!(written, fs::read_to_string(checked_in.join(&name)).expect("every kind is checked in"), "{name}");
        together.push(written);
    }
    assert_eq!(run(&["crds"]).stdout, together.join("---\n"));
}
