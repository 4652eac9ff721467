//! A program with an admin port that is started, ends one way or another, and is started again as it was.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use crate::{
    client::{Answer, Ask},
    process::Process,
    wait::until,
};

/// An operator or a data plane, whether it runs at the moment or not.
#[derive(Debug)]
pub struct Daemon {
    /// Where its admin port is, whenever it runs.
    pub admin: SocketAddr,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    log: PathBuf,
    process: Option<Process>,
}

/// What a program is given on each start.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Daemon {
    /// Starts a program and waits until its admin port answers. Ports are chosen anew while somebody else has taken them.
    pub(crate) async fn start(program: &Path, log: PathBuf, settings: impl Fn(Ports) -> Settings) -> (Self, Ports) {
        loop {
            let ports = Ports::free();
            let Settings { arguments, environment } = settings(ports);
            let (program, log) = (program.to_owned(), log.clone());
            let mut daemon = Self { admin: ports.admin, program, arguments, environment, log, process: None };
            match daemon.attempt().await {
                Ok(()) => return (daemon, ports),
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{} ended at its start: {log}", daemon.program.display()),
            }
        }
    }

    /// Starts it again, on the same ports, and waits until its admin port answers.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.program.display());
        let started = self.attempt().await;
        started.unwrap_or_else(|log| panic!("{} ended at its start: {log}", self.program.display()));
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").end()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// The process, while there is one.
    #[track_caller]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Whether there is one.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// What the admin port answers to a path. Errs while there is no answer.
    pub async fn admin(&self, path: &str) -> Result<Answer, String> {
        Ask::get(path).send(self.admin).await
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        let is_ready = async || self.admin("/readyz").await.is_ok_and(|answer| answer.status == 200).then_some(());
        until(&format!("{} is ready", self.log.display()), is_ready).await;
    }

    /// The value of a metric: the sum of all its series whose labels contain each of these texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.expect("the admin port answers").text();
        let series = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let series = series.filter(|(of, _)| of.is_empty() || of.starts_with('{'));
        let series = series.filter(|(of, _)| labels.iter().all(|label| of.contains(label)));
        series.map(|(_, value)| value.parse::<f64>().expect("the value of a metric is a number")).sum()
    }

    async fn attempt(&mut self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn(command, &self.log);
        let what = format!("{} lives", self.log.display());
        let outcome = until(&what, async || {
            if process.has_ended() {
                return Some(Err(process.tail()));
            }
            let lives = Ask::get("/healthz").send(self.admin).await.is_ok_and(|answer| answer.status == 200);
            lives.then_some(Ok(()))
        });
        outcome.await?;
        self.process = Some(process);
        Ok(())
    }
}

/// Where a program is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) admin: SocketAddr,
    /// Of an operator for data planes, of a data plane for applications.
    pub(crate) main: SocketAddr,
}

impl Ports {
    fn free() -> Self {
        let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, plane::ports::free()));
        Self { admin: free(), main: free() }
    }
}
