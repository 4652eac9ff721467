//! Runs the built `relay` and says what it printed.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that runs `relay` with no settings but those it is given.
pub(crate) fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments).current_dir(tests());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RELAY_") || name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// Runs `relay` to its end, in the directory of these tests.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    ran(relay(arguments).stdin(Stdio::null()).output().expect("relay runs"))
}

/// Runs `relay` to its end with this on stdin.
pub(crate) fn run_with(arguments: &[&str], stdin: &str) -> Ran {
    let mut command = relay(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("relay runs");
    child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("relay reads stdin");
    ran(child.wait_with_output().expect("relay ends"))
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("relay prints UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The directory of these tests.
pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The directory of the examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// A directory with these files.
pub(crate) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a parent")).expect("the directory is made");
        std::fs::write(path, text).expect("the file is written");
    }
    dir
}

/// The path of a directory as an argument.
pub(crate) fn path(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().expect("temporary paths are UTF-8")
}
