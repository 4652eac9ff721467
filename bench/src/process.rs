//! A gateway as a process: what it has used, by thread, and its end.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process that is asked to end may take.
const FOR_ITS_END: Duration = Duration::from_secs(5);

/// A process of ours, asked to end when dropped, and killed when it does not: one that is built to write down what it ran
/// writes that at its end.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    fn has_ended_within(&mut self, time: Duration) -> bool {
        let asked = Instant::now();
        while asked.elapsed() < time {
            if !self.is_running() {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Starts a program that says nothing on its output.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    /// Starts a program whose first line of output says that it is ready, and gives that line.
    pub fn announced(mut command: Command) -> anyhow::Result<(Self, String)> {
        let mut process = Self::start({
            command.stdout(Stdio::piped());
            command
        })?;
        let output = process.0.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("reading what a gateway says when it listens")?;
        anyhow::ensure!(!line.is_empty(), "a gateway ended before it listened: what it said is above");
        Ok((process, line))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// How long its threads have run, by their names: from `/proc/PID/task/*/schedstat`, which counts nanoseconds where
    /// `/proc/PID/stat` counts hundredths of a second.
    pub fn used(&self) -> anyhow::Result<Used> {
        let directory = format!("/proc/{}/task", self.id());
        let mut used = Used::default();
        for thread in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))?.flatten() {
            // A thread may end while it is looked at.
            let read = |name: &str| fs::read_to_string(thread.path().join(name)).ok();
            let (Some(name), Some(stat)) = (read("comm"), read("schedstat")) else { continue };
            let nanos = stat.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
            *used.0.entry(name.trim_end().to_owned()).or_default() += Duration::from_nanos(nanos);
        }
        Ok(used)
    }

    /// Memory that it has, in megabytes.
    pub fn resident_megabytes(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no `VmRSS` is told")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("`VmRSS` is no number")?;
        Ok(kilobytes / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        let asked = Pid::from_child(&self.0);
        if kill_process(asked, Signal::TERM).is_ok() && self.has_ended_within(FOR_ITS_END) {
            return;
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor time by name of thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used(BTreeMap<String, Duration>);

impl Used {
    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let each = |(name, now): (&String, &Duration)| {
            (name.clone(), now.saturating_sub(before.0.get(name).copied().unwrap_or_default()))
        };
        Self(self.0.iter().map(each).collect())
    }

    /// By all threads.
    pub fn total(&self) -> Duration {
        self.0.values().sum()
    }

    /// By each of its threads.
    pub fn threads(&self) -> &BTreeMap<String, Duration> {
        &self.0
    }
}
