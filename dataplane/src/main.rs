//! `relay-dataplane`: serves applications from the tables of an operator.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use dataplane::{
    app,
    config::{Config, follow::FollowConfig, sidecar::SidecarConfig},
    follow, forward,
    meter::sinks::Target,
    probe::Probe,
    runtime,
};
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Requests make hundreds of small values, on one thread and another: the system's allocator takes longer for that, and keeps
/// more of what streams have given back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Serves the OpenAI and Anthropic APIs in a cluster, from the tables of an operator
#[derive(Debug, Parser)]
#[command(name = "relay-dataplane", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    follow: FollowConfig,

    #[command(flatten)]
    sidecar: SidecarConfig,

    /// File that gets a usage record in JSON for each request, one a line; `-` is stdout
    #[arg(long, env = "RELAY_USAGE", value_name = "FILE")]
    usage: Option<PathBuf>,

    /// What is logged: error, warn, info, debug or trace, or by module as `info,dataplane=debug`
    #[arg(long, env = "RELAY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// How it is logged
    #[arg(long, env = "RELAY_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    #[command(flatten)]
    config: Config,
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

fn main() -> ExitCode {
    let probe = clap::Command::new("probe").about("Asks a data plane on this machine whether it is ready");
    let command = Cli::command().subcommand(Probe::augment_args(probe)).subcommand_negates_reqs(true);
    let matches = command.get_matches();
    let done = match matches.subcommand() {
        Some((_, asked)) => {
            Probe::from_arg_matches(asked).map_err(anyhow::Error::from).and_then(|asked| probed(&asked))
        }
        None => Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(run),
    };
    done.unwrap_or_else(|error| {
        eprintln!("relay-dataplane: {error:#}");
        ExitCode::from(2)
    })
}

/// Says whether the data plane on this machine is ready, and why not.
fn probed(probe: &Probe) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (said, code) = match runtime.block_on(probe.ask()) {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(reason) => (reason, ExitCode::FAILURE),
    };
    // Whoever closed stdout does not want to know.
    let _ = writeln!(io::stdout(), "{said}");
    Ok(code)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    start_logs(&cli)?;
    let shared = cli.sidecar.shared(&cli.config, &cli.follow)?;
    let config = cli.sidecar.settled(cli.config);
    let runtime = runtime::start(config.threads).context("starting the threads of requests")?;
    runtime.block_on(async {
        let shutdown = signals().context("taking over signals")?;
        let app = app::build(config, target(cli.usage)).await?;
        if let Some(shared) = shared {
            forward::start(&app, shared);
        }
        follow::start(&app, &cli.follow).await?;
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "relay: {}", app.places());
        app.run(shutdown).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process.
fn signals() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => 143,
            _ = interrupt.recv() => 130,
        }
    };
    Ok(async move {
        next().await;
        tokio::spawn(async move { std::process::exit(next().await) });
    })
}

fn target(usage: Option<PathBuf>) -> Target {
    match usage {
        None => Target::None,
        Some(path) if path.as_os_str() == "-" => Target::Stdout,
        Some(path) => Target::File(path),
    }
}

fn start_logs(cli: &Cli) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&cli.log)
        .map_err(|error| anyhow!("`{}` is not a log filter (setting `--log`): {error}", cli.log))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = match cli.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    done.map_err(|error| anyhow!("starting to log: {error}"))
}
