//! Logs of a running process: to stderr, as text or JSON, filtered.

use std::io::{self, IsTerminal};

use anyhow::anyhow;
use clap::Args;
use tracing_subscriber::EnvFilter;

/// How a running process logs.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// What is logged: error, warn, info, debug or trace, or by module as `info,dataplane=debug`
    #[arg(long, env = "RELAY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// How it is logged
    #[arg(long, env = "RELAY_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl Logs {
    /// Logs from now on. Errs on a filter that is none.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| anyhow!("`{}` is not a log filter (setting `--log`): {error}", self.log))?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        let done = match self.log_format {
            LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
            LogFormat::Json => lines.json().try_init(),
        };
        done.map_err(|error| anyhow!("starting to log: {error}"))
    }
}
