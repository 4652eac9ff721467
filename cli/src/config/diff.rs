//! `relay config diff`: what applying a directory would change in a cluster, or in what two tables differ.

use clap::Args;

use super::{
    reads::Reads,
    source::{Source, Sources, forget_unread},
};
use crate::{cluster, diff::differences, outcome::Outcome, view::View};

/// Says what would change if a directory of manifests were applied, or in what two sources differ
///
/// With one SOURCE it is compared with the cluster. A source is `cluster` (its objects, compiled here), a directory (the
/// cluster with it applied; nothing is deleted), `operator` (the one that leads), `pod/NAME`, or the address of an admin
/// port such as http://127.0.0.1:9091. Two directories are compared by `relay diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the API server would refuse of a directory is named on stderr, and taken to stay as it is.

Exit codes:
  0  compared (with --exit-code: and nothing differs)
  1  something of the directory is refused; with --exit-code also: something differs
  2  wrong arguments, or a source cannot be read

Examples:
  relay config diff deploy/relay
  relay config diff deploy/relay -n team-a --exit-code
  relay config diff operator
  relay config diff operator pod/relay-dataplane-0
  relay config diff http://127.0.0.1:9091 --read-secrets")]
pub(crate) struct Diff {
    /// What is compared: one with the cluster, or the first with the second
    #[arg(required = true, num_args = 1..=2, value_name = "SOURCE")]
    sources: Vec<Source>,

    #[command(flatten)]
    reads: Reads,

    /// Exits with 1 where something differs
    #[arg(long)]
    exit_code: bool,

    /// How the differences are printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let (before, after) = match self.sources.as_slice() {
            [before, after] => (before, after),
            [only, ..] => (&Source::Cluster, only),
            [] => anyhow::bail!("SOURCE is missing: write a directory, or see --help"),
        };
        let mut sources = Sources::new(&self.reads);
        let before = sources.read(before).await?;
        let mut after = sources.read(after).await?;
        forget_unread(&before, &mut after);
        let differences = differences(&before.compilation, &after.compilation);
        let is_same = differences.is_empty();
        let out = match self.output.document(&differences)? {
            Some(document) => document,
            None if is_same => "nothing differs\n".to_owned(),
            None => differences.lines().join("\n") + "\n",
        };
        let refused: Vec<&String> = before.refused.iter().chain(&after.refused).collect();
        let mut notes: Vec<&String> = before.notes.iter().chain(&after.notes).collect();
        notes.dedup();
        let mut aside: String = refused.iter().map(|line| format!("{line}\n")).collect();
        aside.extend(notes.into_iter().map(|note| format!("note: {note}\n")));
        let code = u8::from(!refused.is_empty() || (self.exit_code && !is_same));
        Ok(Outcome { out, aside, code })
    }
}
