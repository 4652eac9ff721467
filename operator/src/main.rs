//! `relay-operator`: runs beside the data planes of a cluster.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use mimalloc::MiMalloc;
use operator::{
    app,
    config::{Config, Namespaces, accounts},
    rbac,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Compilations make hundreds of thousands of small values on one thread after the other, and drop them on others: what
/// the system's allocator keeps of that for each thread grows to several times what is needed.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    #[arg(long, env = "RELAY_OPERATOR_NAMESPACE", default_value = "relay-system", value_name = "NAME")]
    namespace: String,

    /// Its service account
    #[arg(long, default_value = "relay-operator", value_name = "NAME")]
    service_account: String,

    /// Namespaces that it watches, separated by commas; `*` stands for all [default: its own]
    #[arg(long, env = "RELAY_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,

    /// Namespace whose Models every relay key sees; it is watched too [default: its own]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    catalog_namespace: Option<String>,

    /// Service accounts of data planes, as `namespace/name` or `name`, separated by commas: in their namespaces it may
    /// write whom they trust. Name those of DataPlanes too where their namespaces are not watched
    #[arg(
        long,
        env = "RELAY_DATA_PLANE_ACCOUNTS",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "relay-dataplane"
    )]
    data_plane_accounts: Vec<String>,

    /// Prints only the rules, as JSON by where they are needed, for those who make roles of their own from them
    #[arg(long)]
    rules: bool,
}

impl Rbac {
    fn text(self) -> anyhow::Result<String> {
        let Self { namespace, service_account, watch_namespaces, catalog_namespace, data_plane_accounts, rules } = self;
        if rules {
            return Ok(format!("{:#}\n", rbac::rules_by_scope()));
        }
        let namespaces = Namespaces::new(namespace, catalog_namespace, &watch_namespaces)?;
        let accounts = accounts(&namespaces.own, &data_plane_accounts)?;
        Ok(rbac::yaml(&rbac::Subject::new(&namespaces, service_account, &accounts)))
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
    let done = match cli.action.take() {
        Some(Action::Rbac(rbac)) => rbac.text().map(|text| {
            // Whoever closed stdout does not want to know.
            let _ = io::stdout().write_all(text.as_bytes());
        }),
        None => run(cli),
    };
    match done {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces_of_roles(arguments: &str) -> Vec<String> {
        let line = format!("relay-operator rbac {arguments}");
        let Some(Action::Rbac(rbac)) = Cli::try_parse_from(line.split_whitespace()).unwrap().action else {
            panic!("`{line}` prints no roles")
        };
        let text = rbac.text().unwrap();
        let roles = text.split("---\n").filter(|document| document.contains("\nkind: Role\n"));
        let namespace =
            |role: &str| role.lines().find_map(|line| line.strip_prefix("  namespace: ").map(str::to_owned));
        roles.filter_map(namespace).collect()
    }

    #[test]
    fn roles_are_printed_for_the_namespaces_that_the_same_flags_have_watched() {
        assert_eq!(namespaces_of_roles(""), ["relay-system"]);
        assert_eq!(namespaces_of_roles("--watch-namespaces team-a"), ["relay-system", "team-a"]);
        assert_eq!(
            namespaces_of_roles("--watch-namespaces team-a,team-b --catalog-namespace shared --namespace own"),
            ["own", "shared", "team-a", "team-b"]
        );
        assert_eq!(namespaces_of_roles("--data-plane-accounts edge/pods"), ["edge", "relay-system"]);
        assert_eq!(namespaces_of_roles("--watch-namespaces * --catalog-namespace shared"), ["relay-system"]);
    }
}
