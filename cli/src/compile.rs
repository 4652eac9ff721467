//! `relay compile`: what a directory means, as the table that data planes route by.

use std::path::PathBuf;

use clap::Args;
use compiler::{Compilation, Report};
use serde::Serialize;
use table::RoutingTable;

use crate::{
    manifests::{self, Scope, finding::Finding},
    outcome::{self, Outcome},
    verdict,
};

/// Prints the routing table that manifests compile to, without secrets
///
/// The table is what a data plane routes by, with every default filled in and every reference resolved. Objects that are
/// refused are in it as `invalid` with the reason. Credentials are never part of it; relay keys are in it by their hash.
#[derive(Debug, Args)]
#[command(after_help = "\
What is refused is named on stderr, as `relay check` names it.

Exit codes:
  0  nothing is refused
  1  an object is refused; the table holds the rest
  2  the directory cannot be read

Examples:
  relay compile .
  relay compile . --output json | jq .digest
  relay compile . --reports --output json | jq '.reports[].conditions[]'")]
pub(crate) struct Compile {
    /// Directory of manifests, or one file
    #[arg(default_value = ".")]
    dir: PathBuf,

    #[command(flatten)]
    scope: Scope,

    /// Also prints the conditions of every object, as a cluster would show them
    #[arg(long)]
    reports: bool,

    /// How the table is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: TableFormat,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum TableFormat {
    /// One YAML document
    #[default]
    Yaml,
    /// One JSON document
    Json,
}

/// What is printed.
#[derive(Serialize)]
struct Compiled<'a> {
    /// The digest of the table: equal tables have equal digests on every machine.
    digest: String,
    table: &'a RoutingTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    reports: Option<&'a [Report]>,
}

impl Compile {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let loaded = manifests::load(&self.dir, &self.scope)?;
        let compilation = compiler::compile(&loaded.resources);
        let findings = verdict::findings(&loaded, &compilation);
        let refused = verdict::refused(&findings);
        let fleets = verdict::without_fleets(&loaded);
        let aside = aside(&findings) + &fleets.iter().map(|note| format!("{note}\n")).collect::<String>();
        Ok(Outcome { out: self.print(&compilation)?, aside, code: u8::from(refused > 0) })
    }

    fn print(&self, compilation: &Compilation) -> anyhow::Result<String> {
        let table = &compilation.table;
        let reports = self.reports.then_some(compilation.reports.as_slice());
        let compiled = Compiled { digest: table.digest().to_string(), table, reports };
        match self.output {
            TableFormat::Yaml => Ok(serde_saphyr::to_string(&compiled)?),
            TableFormat::Json => Ok(outcome::json(&compiled)),
        }
    }
}

/// What is refused, line by line, for stderr.
pub(crate) fn aside(findings: &[Finding]) -> String {
    let refused = findings.iter().filter(|finding| finding.severity == manifests::finding::Severity::Refused);
    refused.map(|finding| format!("{finding}\n")).collect()
}
