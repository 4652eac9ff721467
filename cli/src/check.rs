//! `relay check`: what is wrong with a directory, with file and line.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use clap::Args;
use compiler::Compilation;
use crds::Kind;
use dataplane::{sealing, upstream::credentials::HostSecret};
use serde::Serialize;
use serde_json::{Map, Value, json};
use table::{Credential, ObjectRef};

use crate::{
    checkup::Checkup,
    cluster::Access,
    manifests::{
        self, Loaded, Scope,
        finding::{Finding, Severity},
    },
    outcome::{self, Format, Outcome, count},
    seal::NamedKey,
    verdict,
};

/// Says what is wrong with manifests, with file and line; or with an installation in a cluster
///
/// Reads every *.yaml, *.yml and *.json below DIR, checks each object against its schema and its rules, and compiles all
/// of them together, as `relay run` and a cluster would. Nothing is sent anywhere; environment variables and files that
/// HostKeys name need not exist.
///
/// With --cluster it checks an installation instead: API server, definitions, operator, rights, certificates, data planes,
/// Redis, Secrets, objects, and with --request one real request. Each finding says what helps.
#[derive(Debug, Args)]
#[command(after_help = "\
Every line is `FILE:LINE: KIND NAMESPACE/NAME: what is wrong and what would be right`.
Warnings are about what is served but perhaps not meant: a pattern that matches nothing, a Host without a HostKey.

Exit codes:
  0  nothing is refused, and nothing of the installation is wrong
  1  an object is refused or names something that is not there, or something of the installation is wrong
  2  the directory cannot be read, or it is not said which cluster or installation is meant

Examples:
  relay check .
  relay check deploy/relay --namespace team-a
  relay check deploy/relay --secrets-elsewhere      # in CI, of a repository that holds no Secret
  relay check deploy/relay --key-file keys/2026-a --key-file keys/2026-b
  relay check --cluster
  relay check --cluster -n relay-system --request --relay-key team-a/checkout --url http://127.0.0.1:8080
  relay check --cluster -o json | jq '.sections[].findings[] | select(.result == \"failed\")'
  relay check . --output json | jq '.findings[] | select(.severity == \"refused\")'")]
pub(crate) struct Check {
    /// Directory of manifests, or one file [default: .]
    dir: Option<PathBuf>,

    #[command(flatten)]
    access: Access,

    /// Namespace whose Models every relay key sees after those of its own [default: the one of --namespace]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    catalog_namespace: Option<String>,

    /// Takes Secrets that are named and not in DIR as being in the cluster, with the keys that are named
    #[arg(long)]
    secrets_elsewhere: bool,

    /// Key that sealed HostKeys have to open with, as FILE or ID=FILE; may be repeated. Without one nothing is opened
    #[arg(long, value_name = "[ID=]FILE")]
    key_file: Vec<NamedKey>,

    #[command(flatten)]
    checkup: Checkup,

    /// How findings are printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.checkup.cluster {
            return self.checkup.run(&self.access, self.output);
        }
        self.access.refuse_beside_directory()?;
        let namespace = self.access.namespace.unwrap_or_else(|| "default".to_owned());
        let scope = Scope { namespace, catalog_namespace: self.catalog_namespace };
        let dir = self.dir.unwrap_or_else(|| PathBuf::from("."));
        let mut loaded = manifests::load(&dir, &scope)?;
        let supposed = if self.secrets_elsewhere { manifests::suppose(&mut loaded.resources) } else { Vec::new() };
        let compilation = compiler::compile(&loaded.resources);
        let mut findings = verdict::findings(&loaded, &compilation);
        let opened = match &self.key_file[..] {
            [] => None,
            keys => Some(opened(keys, &loaded, &compilation, &mut findings)?),
        };
        findings.sort();
        let out = match self.output {
            Format::Human => human(&loaded, &findings, &supposed, opened),
            Format::Json => outcome::json(&as_json(&loaded, &findings, &supposed, opened)),
        };
        Ok(Outcome { out, code: u8::from(verdict::refused(&findings) > 0), ..Outcome::default() })
    }
}

/// How many sealed credentials there are, and how many of them open.
#[derive(Clone, Copy, Serialize)]
struct Opened {
    sealed: usize,
    opened: usize,
}

/// Opens every sealed credential that is served, and adds what does not open to the findings.
fn opened(
    keys: &[NamedKey],
    loaded: &Loaded,
    compilation: &Compilation,
    findings: &mut Vec<Finding>,
) -> anyhow::Result<Opened> {
    let mut held = BTreeMap::new();
    for key in keys {
        held.insert(key.id.as_str(), key.read().context("--key-file")?);
    }
    let mut number = Opened { sealed: 0, opened: 0 };
    for (id, credential) in &compilation.credentials.host_keys {
        let Credential::Sealed(sealed) = credential else { continue };
        number.sealed += 1;
        let message = match held.get(sealed.key_id.as_str()).map(|key| sealing::open(sealed, id, key)) {
            Some(Ok(value)) => match HostSecret::new(value.expose()) {
                Ok(_) => {
                    number.opened += 1;
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Some(Err(error)) => error.to_string(),
            None => format!("it is sealed with key `{}`, which no --key-file gives", sealed.key_id),
        };
        if let Some(place) = loaded.places.get(&(Kind::HostKey, id.clone())) {
            let (path, object) = ("spec.source.encrypted", format!("HostKey {id}"));
            let message = format!("{path}: {message}");
            findings.push(Finding::of_field(place, path, Severity::Refused, object, message));
        }
    }
    Ok(number)
}

fn human(loaded: &Loaded, findings: &[Finding], supposed: &[ObjectRef], opened: Option<Opened>) -> String {
    let mut lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    lines.extend(supposed.iter().map(|id| format!("Secret {id} is taken as being in the cluster")));
    lines.extend(
        opened.map(|Opened { sealed, opened }| format!("{opened} of {} open", count(sealed, "sealed credential"))),
    );
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

fn as_json(loaded: &Loaded, findings: &[Finding], supposed: &[ObjectRef], opened: Option<Opened>) -> Value {
    let objects: Map<String, Value> =
        numbers(loaded).into_iter().map(|(kind, n)| (kind.to_owned(), n.into())).collect();
    let mut page = json!({"refused": verdict::refused(findings), "objects": objects, "findings": findings});
    if !supposed.is_empty() {
        page["secretsElsewhere"] = supposed.iter().map(ObjectRef::to_string).collect();
    }
    if let Some(opened) = opened {
        page["sealedCredentials"] = json!(opened);
    }
    page
}
