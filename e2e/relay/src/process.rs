//! One program that runs: its log is a file, and it can be asked to end, killed, stopped and continued.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Duration;

use crate::wait::PATIENCE;

/// A process. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Kills it when this process ends without dropping: waits for the end of its input.
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that adds what it prints to this log. Settings of whoever runs the tests are not handed on.
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_set = command.get_envs().any(|(set, _)| set == name);
            if !is_set && ["RELAY_", "OTEL_", "KUBE"].iter().any(|start| text.starts_with(start)) {
                command.env_remove(name);
            }
        }
        let mut file = File::options().create(true).append(true).open(log).expect("the log can be written");
        // Programs are started more than once: the line parts their lives.
        writeln!(file, "-- {command:?}").expect("the log can be written");
        command.process_group(0).stdin(Stdio::null());
        command.stderr(file.try_clone().expect("an open file is cloned")).stdout(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let guard = guard(child.id());
        Self { child, guard, log: log.to_owned() }
    }

    /// Its number, for `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much memory it has in use now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process that runs has memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("the kernel counts in kB");
        kilobytes * 1024
    }

    /// Whether it has ended, by itself or otherwise.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child is waited for").is_some()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child is waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "a process does not end: {}", self.tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it (SIGKILL): it says nothing to anybody.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops it (SIGSTOP): its connections stay open, and nobody answers on them.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// All that it and those before it wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        tail(&self.log())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that was not waited for takes signals");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: it must not kill a process id that somebody else has by then.
        for child in [&mut self.guard, &mut self.child] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn guard(process: u32) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$1\"", "guard", &process.to_string()]);
    // A group of its own: an interrupt from the keyboard must reach the test, not the guard.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`sh` is on every machine that runs these tests")
}
