//! One server process: started in the folder of its plane, ready when it says so, dead when dropped.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Process {
    child: Child,
    /// Cleans up when this process ends without dropping: it waits for the end of its input.
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in `directory` and waits until `ready`; the error is the end of what it wrote when it ends before.
    pub(crate) fn start(command: Command, directory: &Path, ready: impl FnMut() -> bool) -> Result<Self, String> {
        let mut process = Self::spawn(command, directory);
        process.wait_until(ready)?;
        Ok(process)
    }

    fn spawn(mut command: Command, directory: &Path) -> Self {
        let name = Path::new(command.get_program()).file_name().expect("a program has a name");
        let log = directory.join(name).with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("the plane's folder is writable");
        command.current_dir(directory).process_group(0).stdin(Stdio::null());
        command.stderr(file.try_clone().expect("an open file is cloned")).stdout(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let guard = guard(child.id(), directory);
        Self { child, guard, log }
    }

    fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.has_ended() {
                return Err(self.tail());
            }
            if ready() {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "a server is not ready: {}", self.tail());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the server to end (SIGTERM) and waits until it has.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "a server does not end: {}", self.tail());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it (SIGSTOP), to be killed some time.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child is waited for").is_some()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that was not waited for takes signals");
    }

    /// The last lines of the server's log.
    fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    /// Kills the server (SIGKILL).
    fn drop(&mut self) {
        // The guard first: it must not kill a process id that somebody else has by then.
        for child in [&mut self.guard, &mut self.child] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Starts what kills the server and deletes the plane's files once this process is gone, however it went.
fn guard(server: u32, directory: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$1\"; rm -rf \"$2\"", "guard", &server.to_string()]).arg(directory);
    // A group of its own: an interrupt from the keyboard must reach this process, not the guard.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`sh` is on every machine that runs these tests")
}
