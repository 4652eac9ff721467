//! `relay config dump`: the routing table, without secrets.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use table::{RelayKey, Row, Rows};

use super::{
    reads::Reads,
    source::{Source, Sourced, Sources},
};
use crate::{
    cluster::{self, source as where_it_is},
    outcome::Outcome,
    view::{View, table},
};

/// Prints the routing table of a cluster, or the one that a running operator or data plane has
///
/// Compiles the objects of the cluster here, with the compiler of the operator, by what you may read. Provider credentials
/// are never part of a table; of tokens only the first digits of their SHA-256 are shown.
#[derive(Debug, Args)]
#[command(after_help = "\
The digest is that of the operator where Secrets were read (--read-secrets) and the same namespaces are seen; else it is
left out.

Exit codes:
  0  printed
  2  wrong arguments, or the cluster or the process cannot be asked

Examples:
  relay config dump
  relay config dump -n team-a -o json | jq '.table.relayKeys | keys'
  relay config dump --from-operator
  relay config dump --from-pod relay-system/relay-dataplane-0 -o table
  relay config dump --admin http://127.0.0.1:9091")]
pub(crate) struct Dump {
    /// Asks the operator that leads, through the API server
    #[arg(long, conflicts_with_all = ["from_pod", "admin"])]
    from_operator: bool,

    /// Asks a pod of an operator or a data plane, as NAME or NAMESPACE/NAME, through the API server
    #[arg(long, conflicts_with = "admin", value_name = "POD")]
    from_pod: Option<String>,

    /// Asks an admin port that can be reached from here, such as http://127.0.0.1:9091
    #[arg(long, value_name = "URL")]
    admin: Option<String>,

    #[command(flatten)]
    reads: Reads,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = View::Yaml, value_name = "FORMAT")]
    output: View,
}

/// What is printed.
#[derive(Serialize)]
struct Dumped {
    /// Equal tables have equal digests on every machine; absent: something of it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    table: Value,
    /// Where the credential of each HostKey is; absent: it is not known.
    #[serde(skip_serializing_if = "Map::is_empty")]
    credentials: Map<String, Value>,
}

impl Dump {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        cluster::block_on(self.told())
    }

    fn source(&self) -> Result<Source, String> {
        match (&self.from_pod, &self.admin) {
            (Some(pod), _) => Ok(Source::Pod(pod.clone())),
            (None, Some(url)) => match url.parse()? {
                Source::Admin(url) => Ok(Source::Admin(url)),
                _ => Err(format!("--admin `{url}` is no admin port: write it as http://127.0.0.1:9091")),
            },
            (None, None) if self.from_operator => Ok(Source::Operator),
            (None, None) => Ok(Source::Cluster),
        }
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let source = self.source().map_err(anyhow::Error::msg)?;
        let sourced = Sources::new(&self.reads).read(&source).await?;
        let aside = sourced.notes.iter().map(|note| format!("note: {note}\n")).collect();
        let out = match self.output.document(&dumped(&sourced)?)? {
            Some(document) => document,
            None => rows(&sourced, self.output.is_wide()),
        };
        Ok(Outcome { out, aside, code: 0 })
    }
}

fn dumped(sourced: &Sourced) -> anyhow::Result<Dumped> {
    let compilation = &sourced.compilation;
    let digest = sourced.assumed.is_empty().then(|| compilation.table.digest().to_string());
    let mut table = serde_json::to_value(&compilation.table)?;
    shorten(&mut table);
    let credentials = compilation.credentials.host_keys.iter();
    let credentials = credentials.map(|(id, credential)| (id.to_string(), where_it_is(credential).into())).collect();
    Ok(Dumped { digest, table, credentials })
}

/// Leaves of each hash of a token enough to tell it from others.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(hash) if name == "tokenSha256" => *hash = fingerprint(hash),
                    other => shorten(other),
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fingerprint(hash: &str) -> String {
    const SHOWN: usize = 8;
    hash.get(..SHOWN).map_or_else(String::new, |digits| format!("{digits}…"))
}

/// One line for each row of the table.
fn rows(sourced: &Sourced, is_wide: bool) -> String {
    let whole = &sourced.compilation.table;
    let mut lines = Vec::new();
    add("Host", &whole.hosts, |host| suspended(host.suspended), &mut lines);
    add("Model", &whole.models, |model| suspended(model.suspended), &mut lines);
    add("HostKey", &whole.host_keys, |key| suspended(key.suspended), &mut lines);
    add("Policy", &whole.policies, |_| ("usable", ""), &mut lines);
    add("RelayKey", &whole.relay_keys, of_relay_key, &mut lines);
    let mut head = vec!["KIND", "OBJECT", "STATE"];
    if is_wide {
        head.push("REASON");
    } else {
        lines.iter_mut().for_each(|line| line.truncate(head.len()));
    }
    table(&head, &lines)
}

fn add<T>(kind: &str, rows: &Rows<T>, state: impl Fn(&T) -> (&str, &str), lines: &mut Vec<Vec<String>>) {
    lines.extend(rows.iter().map(|(id, row)| {
        let (state, reason) = match row {
            Row::Usable(row) => state(row),
            Row::Invalid { reason } => ("invalid", reason.as_str()),
        };
        vec![kind.to_owned(), id.to_string(), state.to_owned(), reason.to_owned()]
    }));
}

fn suspended(is_suspended: bool) -> (&'static str, &'static str) {
    (if is_suspended { "suspended" } else { "usable" }, "")
}

fn of_relay_key(key: &RelayKey) -> (&str, &str) {
    match &key.unusable {
        _ if key.revoked => ("revoked", ""),
        Some(reason) => ("unusable", reason),
        None => suspended(key.suspended),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_of_tokens_are_shortened_wherever_they_are() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let mut value = json!({"relayKeys": [{"tokenSha256": hash, "previous": {"tokenSha256": hash}}], "x": "kept"});
        shorten(&mut value);
        let short = "9f86d081…";
        assert_eq!(
            value,
            json!({"relayKeys": [{"tokenSha256": short, "previous": {"tokenSha256": short}}], "x": "kept"})
        );
    }
}
