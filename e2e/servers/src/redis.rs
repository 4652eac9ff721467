//! One Redis server, and what tests do to it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Options, Reply, ports,
    process::{Failure, Process},
};

/// A server on a free port of 127.0.0.1. Dropping it kills it and deletes its files.
pub struct Redis {
    options: Options,
    role: Role,
    port: u16,
    process: Mutex<Option<Process>>,
    // After the process: it is dropped last, when nobody writes into it any more.
    directory: TempDir,
}

/// What a server is in its set, beside its options.
#[derive(Clone, Default)]
pub(crate) struct Role {
    pub(crate) sentinel: bool,
    /// Lines of `redis.conf`.
    pub(crate) conf: String,
}

impl Redis {
    /// Starts a standalone server with neither TLS nor password.
    pub fn start() -> Self {
        Self::start_with(Options::new())
    }

    /// Starts a standalone server.
    pub fn start_with(options: Options) -> Self {
        Self::launch(options, Role::default())
    }

    /// Starts a server of this role on a free port.
    pub(crate) fn launch(options: Options, role: Role) -> Self {
        let directory = tempfile::Builder::new().prefix("redis-").tempdir().expect("a temporary directory is made");
        // Another test may take the port between our looking and the server's listening: then any other port will do.
        for _ in 0..20 {
            let port = ports::free();
            match Process::start(directory.path(), &conf(&options, &role, port, directory.path()), role.sentinel) {
                Ok(process) => return Self { options, role, port, process: Mutex::new(Some(process)), directory },
                Err(Failure::PortTaken) => (),
                Err(Failure::Other(reason)) => panic!("{reason}"),
            }
        }
        panic!("twenty ports in a row were taken by others");
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The server's URL, `rediss:` with TLS, with the user and the password that it asks for.
    pub fn url(&self) -> String {
        self.options.url(self.address())
    }

    /// How the server was started.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Runs a command as `redis-cli` would, and panics when the server answers with an error.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> String {
        match self.call(words) {
            Reply::Error(error) => panic!("`{}` answers: {error}", words.join(" ")),
            reply => reply.to_string(),
        }
    }

    /// Runs a command, past TLS, passwords and proxies, and gives its reply, which may be an error.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Reply {
        self.try_call(words).unwrap_or_else(|error| panic!("`{}` has no reply: {error}", words.join(" ")))
    }

    /// Runs a command that may lose its connection: a server that changes its role cuts all of them.
    pub(crate) fn try_call(&self, words: &[&str]) -> io::Result<Reply> {
        self.process().as_ref().expect("the server was not killed").call(words)
    }

    /// Whether the server can answer: it was neither killed nor stopped.
    pub fn is_running(&self) -> bool {
        self.process().as_ref().is_some_and(|process| !process.is_paused())
    }

    /// Makes the server forget its scripts.
    pub fn flush_scripts(&self) {
        self.cli(&["SCRIPT", "FLUSH"]);
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open, and nothing is answered.
    pub fn stop(&self) {
        self.process().as_mut().expect("the server was not killed").pause();
    }

    /// Lets a stopped process go on (SIGCONT).
    pub fn cont(&self) {
        self.process().as_mut().expect("the server was not killed").resume();
    }

    /// Kills the process (SIGKILL), stopped or not.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// Starts the server anew on its port, without any data, after killing it if it runs. A cluster node keeps its slots.
    pub fn restart_empty(&self) {
        let mut process = self.process();
        drop(process.take());
        let directory = self.directory.path();
        let conf = conf(&self.options, &self.role, self.port, directory);
        // Whoever has taken the port meanwhile is looking for a free one, and gives it back.
        for _ in 0..1_000 {
            match Process::start(directory, &conf, self.role.sentinel) {
                Ok(started) => return *process = Some(started),
                Err(Failure::PortTaken) => thread::sleep(Duration::from_millis(5)),
                Err(Failure::Other(reason)) => panic!("{reason}"),
            }
        }
        panic!("port {} was taken by somebody else", self.port);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conf(options: &Options, role: &Role, port: u16, directory: &Path) -> String {
    options.conf(port, directory) + &role.conf
}
