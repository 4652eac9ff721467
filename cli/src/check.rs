//! `relay check`: what is wrong with a directory, with file and line.

use std::path::PathBuf;

use clap::Args;
use crds::Kind;
use serde_json::{Map, Value, json};

use crate::{
    manifests::{
        self, Loaded, Scope,
        finding::{Finding, Severity},
    },
    outcome::{self, Format, Outcome, count},
    verdict,
};

/// Says what is wrong with manifests, with file and line
///
/// Reads every *.yaml, *.yml and *.json below DIR, checks each object against its schema and its rules, and compiles all
/// of them together, as `relay run` and a cluster would. Nothing is sent anywhere; environment variables and files that
/// HostKeys name need not exist.
#[derive(Debug, Args)]
#[command(after_help = "\
Every line is `FILE:LINE: KIND NAMESPACE/NAME: what is wrong and what would be right`.
Warnings are about what is served but perhaps not meant: a pattern that matches nothing, a Host without a HostKey.

Exit codes:
  0  nothing is refused
  1  an object is refused or names something that is not there
  2  the directory cannot be read

Examples:
  relay check .
  relay check deploy/relay --namespace team-a
  relay check . --output json | jq '.findings[] | select(.severity == \"refused\")'")]
pub(crate) struct Check {
    /// Directory of manifests, or one file
    #[arg(default_value = ".")]
    dir: PathBuf,

    #[command(flatten)]
    scope: Scope,

    /// How findings are printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let loaded = manifests::load(&self.dir, &self.scope)?;
        let compilation = compiler::compile(&loaded.resources);
        let findings = verdict::findings(&loaded, &compilation);
        let out = match self.output {
            Format::Human => human(&loaded, &findings),
            Format::Json => outcome::json(&as_json(&loaded, &findings)),
        };
        Ok(Outcome { out, code: u8::from(verdict::refused(&findings) > 0), ..Outcome::default() })
    }
}

fn human(loaded: &Loaded, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    lines.push(summary(loaded, findings));
    lines.join("\n") + "\n"
}

/// One line: what there is, and what there is to say about it.
pub(crate) fn summary(loaded: &Loaded, findings: &[Finding]) -> String {
    let objects: Vec<String> = numbers(loaded).into_iter().filter(|(_, n)| *n > 0).map(|(k, n)| count(n, k)).collect();
    let objects = if objects.is_empty() { "no Relay object".to_owned() } else { objects.join(", ") };
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let refused = match of(Severity::Refused) {
        0 => "nothing refused".to_owned(),
        number => format!("{number} refused"),
    };
    format!("{objects}: {refused}, {}, {}", count(of(Severity::Warning), "warning"), count(of(Severity::Note), "note"))
}

/// How many objects of each kind there are, refused ones included.
fn numbers(loaded: &Loaded) -> Vec<(&'static str, usize)> {
    let of = |wanted: Kind| loaded.places.keys().filter(|(kind, _)| *kind == wanted).count();
    Kind::ALL.into_iter().map(|kind| (kind.as_str(), of(kind))).collect()
}

fn as_json(loaded: &Loaded, findings: &[Finding]) -> Value {
    let objects: Map<String, Value> =
        numbers(loaded).into_iter().map(|(kind, n)| (kind.to_owned(), n.into())).collect();
    json!({"refused": verdict::refused(findings), "objects": objects, "findings": findings})
}
