//! `relay-operator`: runs beside the data planes of a cluster.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use operator::{app, config::Config, rbac};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Watches Relay's resources in a Kubernetes cluster, and compiles them into the routing table of its data planes
#[derive(Debug, Parser)]
#[command(name = "relay-operator", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    config: Config,

    /// What is logged: error, warn, info, debug or trace, or by module as `info,operator=debug`
    #[arg(long, env = "RELAY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// How it is logged
    #[arg(long, env = "RELAY_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Prints the roles and bindings that the operator needs, as `kubectl apply -f -` takes them
    Rbac(Rbac),
}

/// Whom the roles are for.
#[derive(Debug, clap::Args)]
struct Rbac {
    /// Namespace that the operator lives in
    #[arg(long, default_value = "relay-system", value_name = "NAME")]
    namespace: String,

    /// Its service account
    #[arg(long, default_value = "relay-operator", value_name = "NAME")]
    service_account: String,

    /// Namespaces that it watches, separated by commas; `*` stands for all [default: its own]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
}

impl Rbac {
    fn text(self) -> String {
        let Self { namespace, service_account, watch_namespaces: mut watched } = self;
        if watched.is_empty() {
            watched.push(namespace.clone());
        }
        if watched.iter().any(|name| name == "*") {
            watched.clear();
        }
        rbac::yaml(&rbac::Subject { namespace, service_account, watched })
    }
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
    let mut cli = Cli::parse();
    if let Some(Action::Rbac(rbac)) = cli.action.take() {
        // Whoever closed stdout does not want to know.
        let _ = io::stdout().write_all(rbac.text().as_bytes());
        return ExitCode::SUCCESS;
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay-operator: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    start_logs(&cli)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("taking over signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("taking over signals")?;
        let app = app::build(cli.config).await?;
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "relay-operator: admin on http://{}, push on {}", app.admin, app.push);
        app.run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
        Ok(())
    })
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
