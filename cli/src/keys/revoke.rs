//! `relay keys revoke`: a RelayKey is refused for good.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use table::ObjectRef;

use super::{
    target::{Change, Target},
    wait::{Patience, Step, Waited},
};
use crate::{
    cluster::{self, Access},
    outcome::Outcome,
    view::View,
};

/// Refuses a RelayKey for good, and waits until every data plane does
///
/// Sets `spec.revoked: true`, which cannot be taken back: who needs a pause sets `spec.suspend`. Asks for the name first.
#[derive(Debug, Args)]
#[command(after_help = "\
A RelayKey that Argo CD or Flux keeps is refused: revoke it in Git, or with --force at once and in Git as well.

Exit codes:
  0  every data plane that is connected refuses the key (with --wait=false: it is revoked)
  1  it is revoked, but not everywhere: the output says what is in the way
  2  not confirmed, wrong arguments, or the cluster cannot be asked or refuses it

Examples:
  relay keys revoke checkout -n team-a
  relay keys revoke checkout -n team-a --yes")]
pub(crate) struct Revoke {
    /// RelayKey, as NAME or NAMESPACE/NAME
    name: String,

    /// Does not ask
    #[arg(short, long)]
    yes: bool,

    /// Changes it even where a GitOps tool or somebody else keeps it
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    patience: Patience,

    #[command(flatten)]
    access: Access,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

impl Revoke {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let cluster = self.access.cluster().await?;
        let target = Target::read(&cluster, &self.name).await?;
        let id = target.id.clone();
        let (mut warnings, mut generation) = (Vec::new(), target.object.metadata.generation.unwrap_or_default());
        if target.spec.revoked != Some(true) {
            if !self.yes {
                confirm(&id)?;
            }
            let change = |_: &_| Ok(Change { path: &["revoked"], value: true.into() });
            let (object, told) = target.change(&cluster, self.force, change).await?;
            generation = object.metadata.generation.unwrap_or_default();
            warnings = told;
        }
        let waited = self.patience.until(&cluster, &id, "not every data plane said that it has it", |_, said| {
            if said.observed >= Some(generation) && said.holds("Programmed") { Step::Done } else { Step::Waiting }
        });
        let waited = waited.await;
        let (said, problem) = match &waited {
            Waited::Done(_) => ("is revoked: every data plane that is connected refuses it".to_owned(), None),
            Waited::Not => ("is revoked".to_owned(), None),
            Waited::InVain(reason) => (format!("is revoked, but {reason}"), Some(reason)),
        };
        let value = json!({"id": id, "revoked": true, "done": matches!(waited, Waited::Done(_)), "problem": problem});
        let out = self.output.document(&value)?.unwrap_or_else(|| format!("RelayKey {id} {said}\n"));
        let aside = warnings.iter().map(|warning| format!("note: {warning}\n")).collect();
        Ok(Outcome { out, aside, code: u8::from(problem.is_some()) })
    }
}

/// Asks for the name of what is lost.
fn confirm(id: &ObjectRef) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "RelayKey {id} is refused at once and for good. Write its name `{}` to go on: ", id.name)?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("reading the answer from stdin")?;
    if answer.trim() != id.name {
        bail!("RelayKey `{id}` is not revoked: its name was not written (--yes does not ask)");
    }
    Ok(())
}
