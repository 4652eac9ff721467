//! Runs a program and reads what it prints.

use std::{
    ffi::OsStr,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A program.
#[derive(Debug)]
pub struct Tool {
    program: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Tool {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, environment: Vec::new() }
    }

    /// With a variable in its environment.
    pub(crate) fn with(mut self, name: &'static str, value: PathBuf) -> Self {
        self.environment.push((name, value));
        self
    }

    /// What it prints on stdout, with `input` to read; panics with all that it prints when it fails.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> String {
        self.attempt(arguments, input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`run`](Self::run). The error is all that it prints when it fails.
    pub fn attempt<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}; see e2e/chart/environment"));
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        // On a thread of its own: who prints before having read all would wait for ever.
        let input = input.to_owned();
        let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("a child is waited for");
        let written = writing.join().expect("the writing thread does not panic");
        let text = |bytes| String::from_utf8(bytes).expect("tools print UTF-8");
        if output.status.success() {
            written.unwrap_or_else(|error| panic!("{command:?} does not read its input: {error}"));
            return Ok(text(output.stdout));
        }
        Err(format!("{command:?}: {}{}", text(output.stdout), text(output.stderr)))
    }
}
