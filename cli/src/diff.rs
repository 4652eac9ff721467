//! `relay diff`: what a change of manifests gives, takes and alters, for those who review it.

mod fields;
mod reach;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use compiler::Compilation;
use crds::Kind;
use serde::Serialize;
use serde_json::{Value, json};
use table::{ObjectRef, Row, Rows};

use self::{fields::Field, reach::Reach};
use crate::{
    manifests::{self, Scope},
    outcome::{self, Format, Outcome},
};

/// Says what changes between two directories: who gains or loses which models, limits, hosts
///
/// Compiles both and compares what they mean, so files may be moved and reformatted freely. Models are compared as each
/// RelayKey reaches them: through its policies, aliases, namespaces and usable host keys. Models that a Host serves by
/// pattern alone have no list; a change of such a pattern is shown at the Host.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  compared (with --exit-code: and nothing differs)
  1  with --exit-code: something differs
  2  wrong arguments, or a directory cannot be read

Examples:
  relay diff main/relay branch/relay
  relay diff main/relay branch/relay --exit-code
  relay diff main/relay branch/relay --output json | jq '.keys[] | select(.loses != [])'")]
pub(crate) struct Diff {
    /// Directory of manifests as they are, or one file
    before: PathBuf,

    /// Directory of manifests as they would be, or one file
    after: PathBuf,

    #[command(flatten)]
    scope: Scope,

    /// Exits with 1 where something differs
    #[arg(long)]
    exit_code: bool,

    /// How the differences are printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What differs between two tables.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Differences {
    keys: Vec<Reach>,
    objects: Vec<Changed>,
}

/// An object that differs.
#[derive(Debug, Serialize)]
struct Changed {
    kind: &'static str,
    id: ObjectRef,
    #[serde(flatten)]
    change: Change,
}

#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
enum Change {
    /// It was not there.
    Appears,
    /// It is not there any more.
    Vanishes,
    /// It cannot be used any more.
    Refused { reason: String },
    /// It could not be used before.
    Accepted,
    /// Fields of it differ.
    Changes { fields: Vec<Field> },
}

impl Diff {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let compiled = |dir| anyhow::Ok(compiler::compile(&manifests::load(dir, &self.scope)?.resources));
        let (before, after) = (compiled(&self.before)?, compiled(&self.after)?);
        let differences = differences(&before, &after);
        let is_same = differences.is_empty();
        let out = match self.output {
            Format::Human if is_same => "nothing differs\n".to_owned(),
            Format::Human => differences.lines().join("\n") + "\n",
            Format::Json => outcome::json(&differences),
        };
        Ok(Outcome { out, code: u8::from(self.exit_code && !is_same), ..Outcome::default() })
    }
}

/// What differs between what two sets of objects mean.
pub(crate) fn differences(before: &Compilation, after: &Compilation) -> Differences {
    let mut objects = Vec::new();
    let (old, new) = (&before.table, &after.table);
    compare(Kind::Host, &old.hosts, &new.hosts, &mut objects);
    compare(Kind::HostKey, &old.host_keys, &new.host_keys, &mut objects);
    compare(Kind::Model, &old.models, &new.models, &mut objects);
    compare(Kind::Policy, &old.policies, &new.policies, &mut objects);
    compare(Kind::RelayKey, &old.relay_keys, &new.relay_keys, &mut objects);
    Differences { keys: reach::differences(before, after), objects }
}

fn compare<T: Serialize + PartialEq>(kind: Kind, before: &Rows<T>, after: &Rows<T>, changed: &mut Vec<Changed>) {
    let ids: BTreeMap<&ObjectRef, ()> = before.keys().chain(after.keys()).map(|id| (id, ())).collect();
    for id in ids.into_keys() {
        let change = match (before.get(id), after.get(id)) {
            (None, Some(Row::Usable(_))) => Change::Appears,
            (None | Some(Row::Usable(_)), Some(Row::Invalid { reason })) => Change::Refused { reason: reason.clone() },
            (Some(Row::Invalid { .. }), Some(Row::Usable(_))) => Change::Accepted,
            (Some(_), None) => Change::Vanishes,
            (Some(Row::Usable(old)), Some(Row::Usable(new))) if old != new => {
                Change::Changes { fields: fields::differences(&value(old), &value(new)) }
            }
            (Some(Row::Usable(_)), Some(Row::Usable(_)))
            | (Some(Row::Invalid { .. }), Some(Row::Invalid { .. }))
            | (None, None) => continue,
        };
        changed.push(Changed { kind: kind.as_str(), id: id.clone(), change });
    }
}

fn value(row: &impl Serialize) -> Value {
    serde_json::to_value(row).unwrap_or_else(|error| json!({"unreadable": error.to_string()}))
}

impl Differences {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.objects.is_empty()
    }

    /// One sentence each, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let keys = self.keys.iter().flat_map(Reach::lines);
        keys.chain(self.objects.iter().flat_map(Changed::lines)).collect()
    }
}

impl Changed {
    fn lines(&self) -> Vec<String> {
        let object = format!("{} {}", self.kind, self.id);
        match &self.change {
            Change::Appears => vec![format!("{object} appears")],
            Change::Vanishes => vec![format!("{object} vanishes")],
            Change::Refused { reason } => vec![format!("{object} is refused: {reason}")],
            Change::Accepted => vec![format!("{object} is no longer refused")],
            Change::Changes { fields } => fields.iter().map(|field| format!("{object}: {field}")).collect(),
        }
    }
}
