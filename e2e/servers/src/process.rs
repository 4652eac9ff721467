//! One `redis-server` process: started from the `redis.conf` in its directory, ready when it answers, dead when dropped.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::resp::{Connection, Reply};

/// How long a server may take to answer its first command on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The user through which the tests themselves ask a server, whatever else may connect.
/// Servers of a set use it among themselves.
pub(crate) const CONTROL: &str = "test-control";

/// Why a server is not there.
pub(crate) enum Failure {
    /// Somebody else listens on its port.
    PortTaken,
    /// Anything else, for the person who runs the tests.
    Other(String),
}

pub(crate) struct Process {
    child: Child,
    /// Cleans up when this process ends without dropping: it waits for the end of its input.
    guard: Child,
    socket: PathBuf,
    paused: bool,
}

impl Process {
    /// Writes `conf` and what every server has, starts the server (or the sentinel) and waits until it answers.
    pub(crate) fn start(directory: &Path, conf: &str, sentinel: bool) -> Result<Self, Failure> {
        fs::write(directory.join("redis.conf"), full(directory, conf)).expect("the server's directory is writable");
        let log = File::create(directory.join("log")).expect("the server's directory is writable");
        let mut command = Command::new("redis-server");
        command.arg("redis.conf").args(sentinel.then_some("--sentinel")).current_dir(directory).process_group(0);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("an open file is cloned")).stdout(log);
        let child = command.spawn().map_err(|error| missing(&error))?;
        let guard = guard(child.id(), directory);
        let mut process = Self { child, guard, socket: directory.join("socket"), paused: false };
        process.wait_until_it_answers(directory)?;
        Ok(process)
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn call(&self, words: &[&str]) -> std::io::Result<Reply> {
        let mut connection = Connection::open(&self.socket)?;
        connection.call(&["AUTH", CONTROL, CONTROL])?;
        connection.call(words)
    }

    /// Stops the server where it stands; it keeps its connections and answers none.
    pub(crate) fn pause(&mut self) {
        if std::mem::replace(&mut self.paused, true) {
            return;
        }
        self.signal(Signal::STOP);
        // A signal is on its way when `kill` returns; this waits until it has arrived.
        waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).expect("a child is waited for");
    }

    pub(crate) fn resume(&mut self) {
        self.paused = false;
        self.signal(Signal::CONT);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that was not waited for takes signals");
    }

    fn wait_until_it_answers(&mut self, directory: &Path) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait().expect("a child is waited for").is_some() {
                return Err(ended(directory));
            }
            let pong = Reply::Text("PONG".to_owned());
            if self.call(&["PING"]).is_ok_and(|reply| reply == pong) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::Other(format!("redis-server does not answer: {}", tail(directory))));
            }
            thread::sleep(Duration::from_millis(2));
        }
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

/// `conf` with what every server has.
fn full(directory: &Path, conf: &str) -> String {
    let directory = directory.display();
    let control = format!("user {CONTROL} on >{CONTROL} ~* &* +@all");
    format!("dir {directory}\nbind 127.0.0.1\nunixsocket socket\nsave \"\"\nappendonly no\n{control}\n{conf}")
}

/// Starts what kills the server and deletes its files once this process is gone, however it went.
fn guard(server: u32, directory: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$1\"; rm -rf \"$2\"", "guard", &server.to_string()]).arg(directory);
    // A group of its own: an interrupt from the keyboard must reach this process, not the guard.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`sh` is on every machine that runs these tests")
}

fn missing(error: &std::io::Error) -> Failure {
    Failure::Other(match error.kind() {
        ErrorKind::NotFound => {
            "`redis-server` is not installed; `apt-get install redis-server` installs it on Debian, \
                                and so does `scripts/test`"
                .to_owned()
        }
        _ => format!("`redis-server` does not start: {error}"),
    })
}

fn ended(directory: &Path) -> Failure {
    let log = tail(directory);
    if log.contains("Address already in use") {
        return Failure::PortTaken;
    }
    Failure::Other(format!("redis-server ended at its start: {log}"))
}

/// The last lines of the server's log.
fn tail(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
