//! `relay run`: serves a directory of manifests and follows its changes.
//!
//! Wires together what decides elsewhere: reading and compiling here, requests in the data plane.

mod directory;
mod follow;
mod logs;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use compiler::Compilation;
use dataplane::{app, config::Config, meter::sinks::Target};
use tracing::{info, warn};

use self::{directory::Directory, follow::Follower, logs::Logs};
use crate::{
    compile::aside,
    manifests::{
        Loaded, Scope,
        finding::{Finding, Severity},
    },
    outcome::Outcome,
    signals::Signals,
    verdict,
};

/// Serves a directory of manifests, and follows its changes
///
/// Compiles every *.yaml, *.yml and *.json below DIR and serves the OpenAI and Anthropic APIs from them. A change of a
/// file is in effect within a fraction of a second and interrupts no request. Limits and budgets are counted in memory.
/// An object that is refused costs only itself: the rest is served, and stderr names file and line.
#[derive(Debug, Args)]
#[command(after_help = "\
Once it serves, the first line on stdout is `relay: listening on http://ADDR, admin on http://ADDR`. Logs go to stderr.
Credentials come from v1/Secret manifests in the directory, from files or from environment variables, as each HostKey says.

SIGTERM or SIGINT: not ready at once, new connections for --deregister-delay, open answers until --drain-grace, then exit
code 0. A second signal ends the process at once, with exit code 143 or 130.

Exit codes:
  0    stopped in order
  1    --strict, and an object is refused
  2    wrong arguments, the directory cannot be read, or an address is taken
  130  a second SIGINT
  143  a second SIGTERM

Examples:
  relay run .
  relay run deploy/relay --listen 0.0.0.0:8080 --usage /var/log/relay/usage.jsonl
  relay run . --listen 127.0.0.1:0 --admin 127.0.0.1:0 --strict
  RELAY_LOG=debug relay run . --usage -")]
pub(crate) struct Run {
    /// Directory of manifests, or one file
    #[arg(default_value = ".")]
    dir: PathBuf,

    #[command(flatten)]
    scope: Scope,

    /// File that gets a usage record in JSON for each request, one a line; `-` is stdout
    #[arg(long, env = "RELAY_USAGE", value_name = "FILE")]
    usage: Option<PathBuf>,

    /// Refuses to start where an object is refused
    #[arg(long, env = "RELAY_STRICT")]
    strict: bool,

    #[command(flatten)]
    logs: Logs,

    #[command(flatten)]
    config: Config,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        self.logs.start()?;
        let mut directory = Directory::new(&self.dir, self.scope.clone());
        let state = State::compiled(directory.read(Instant::now())?);
        if self.strict && state.is_refused() {
            return Ok(Outcome { aside: aside(&state.findings), code: 1, ..Outcome::default() });
        }
        let runtime = dataplane::runtime::start(self.config.threads).context("starting the threads of requests")?;
        runtime.block_on(self.serve(directory, state))?;
        Ok(Outcome::default())
    }

    async fn serve(self, directory: Directory, state: State) -> anyhow::Result<()> {
        let signals = Signals::take().context("taking over signals")?;
        let app = app::build(self.config, target(self.usage.as_deref())).await?;
        let installer = app.installer();
        state.report(&[]);
        let Compilation { table, credentials, .. } = state.compilation.clone();
        installer.install(table, credentials);
        let follower = Follower::start(directory, state, installer).context("starting to follow the directory")?;
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "relay: {}", app.places());
        app.run(signals.first()).await;
        // It may be waiting for a file, and nobody needs what it reads any more.
        let _ = tokio::task::spawn_blocking(move || follower.stop()).await;
        Ok(())
    }
}

fn target(usage: Option<&Path>) -> Target {
    match usage {
        None => Target::None,
        Some(path) if path.as_os_str() == "-" => Target::Stdout,
        Some(path) => Target::File(path.to_owned()),
    }
}

/// What a directory means at a moment.
#[derive(Debug, Default)]
struct State {
    compilation: Compilation,
    findings: Vec<Finding>,
}

impl State {
    fn compiled(loaded: Loaded) -> Self {
        let compilation = compiler::compile(&loaded.resources);
        let mut findings = verdict::findings(&loaded, &compilation);
        findings.extend(verdict::without_fleets(&loaded));
        Self { compilation, findings }
    }

    fn is_refused(&self) -> bool {
        verdict::refused(&self.findings) > 0
    }

    /// Whether it routes differently or has other credentials.
    fn differs(&self, other: &Self) -> bool {
        let (one, two) = (&self.compilation, &other.compilation);
        one.table != two.table || one.credentials != two.credentials
    }

    /// Logs what was not said `before`.
    fn report(&self, before: &[Finding]) {
        for finding in self.findings.iter().filter(|finding| !before.contains(finding)) {
            match finding.severity {
                Severity::Refused => warn!("refused: {finding}"),
                Severity::Warning => warn!("{finding}"),
                Severity::Note => info!("{finding}"),
            }
        }
    }
}
