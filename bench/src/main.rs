//! `cargo run --release -p bench -- --out DIR`: measures, and writes what came out.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, ensure};
use bench::{
    cores::Cores,
    gateway::{self, Gateways, Programs},
    machine, pass_through, report,
    sample::{Sample, Samples},
    scenario::{Extent, Scenario},
};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures Relay on loopback beside nginx and a bare hyper pass-through, in the same passes
///
/// Writes `samples.jsonl` (every measurement), `table.md` and `chart.svg` into a directory.
#[derive(Debug, Parser)]
#[command(max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    bench: Bench,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Args)]
struct Bench {
    /// Directory for what comes out
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,

    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    passes: u16,

    /// How long each measurement takes
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS")]
    seconds: f64,

    /// Only these scenarios; absent: all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,

    /// Cores of the gateway, of the load, and of Redis; absent: the first that this process may use
    #[arg(long, value_name = "GATEWAY,LOAD[,REDIS]")]
    cores: Option<Cores>,

    /// Requests in each pass over which memory has to stay flat
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    flat: usize,

    /// The `relay` that is measured; absent: cargo builds it in the profile of this program
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,

    /// The `relay-dataplane` that is measured; absent: cargo builds it in the profile of this program
    #[arg(long, value_name = "FILE")]
    dataplane: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The bare hyper pass-through, before an upstream
    #[command(hide = true)]
    PassThrough { upstream: SocketAddr },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::PassThrough { upstream }) => runtime()?.block_on(pass_through::run(upstream)),
        None => measure(&cli.bench),
    }
}

/// Everything of a process runs on one thread: it has one core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

fn measure(bench: &Bench) -> anyhow::Result<()> {
    gateway::nginx_version()?;
    let programs = Programs {
        relay: bench.relay.clone().map_or_else(|| gateway::built("relay-cli", "relay"), Ok)?,
        dataplane: bench.dataplane.clone().map_or_else(|| gateway::built("relay-dataplane", "relay-dataplane"), Ok)?,
    };
    let cores = bench.cores.map_or_else(Cores::of_this_machine, Ok)?;
    let out = bench.out.clone().context("`--out` says where to")?;
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    allow_many_files()?;
    let facts = machine::facts(cores, bench.relay.is_some())?;
    cores.pin_load()?;
    let samples = runtime()?.block_on(passes(bench, cores, programs, &out))?;
    let table = report::table(&samples, &facts, usize::from(bench.passes), bench.seconds);
    fs::write(out.join("table.md"), &table).context("writing the table")?;
    fs::write(out.join("chart.svg"), report::chart(&samples)).context("writing the chart")?;
    println!("{table}");
    Ok(())
}

async fn passes(bench: &Bench, cores: Cores, programs: Programs, out: &std::path::Path) -> anyhow::Result<Samples> {
    let gateways = Gateways::start(cores, programs).await?;
    let scenarios = if bench.only.is_empty() { Scenario::value_variants() } else { &bench.only };
    let extent = Extent { measured: Duration::from_secs_f64(bench.seconds), flat: bench.flat };
    let path = out.join("samples.jsonl");
    let mut lines = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut samples = Samples::default();
    for pass in 1..=usize::from(bench.passes) {
        for scenario in scenarios {
            // Whoever comes first in one pass comes later in the next.
            let mut contenders = scenario.contenders().to_vec();
            let first = (pass - 1) % contenders.len();
            contenders.rotate_left(first);
            for contender in contenders {
                let load = machine::load_average();
                let measured = scenario.measure(&gateways, contender, extent).await;
                let values = measured.with_context(|| format!("{}, {}", scenario.title(), contender.title()))?;
                let sample = Sample { pass, scenario: *scenario, contender, load, values };
                let line = serde_json::to_string(&sample)?;
                writeln!(lines, "{line}")?;
                eprintln!("{line}");
                samples.0.push(sample);
            }
        }
    }
    Ok(samples)
}

/// A thousand streams are two thousand connections of this process.
fn allow_many_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = 8_192;
    ensure!(
        limit.maximum.is_none_or(|most| most >= needed),
        "this process may open {} files, and needs {needed}: raise `ulimit -Hn`",
        limit.maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).context("opening many files")
}
