//! `relay crds`: the definitions of all kinds, for a cluster and for editors.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use crds::Kind;

use crate::outcome::Outcome;

/// Prints the CustomResourceDefinitions, or writes them to a directory
///
/// They are generated from the types that `relay check` reads manifests with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relay crds | kubectl apply --server-side -f -
  relay crds --dir crds/yaml")]
pub(crate) struct Crds {
    /// Writes one file for each kind into DIR instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Crds {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let Some(dir) = self.dir else {
            let documents = Kind::ALL.map(crds::yaml).join("---\n");
            return Ok(Outcome { out: documents, ..Outcome::default() });
        };
        fs::create_dir_all(&dir).with_context(|| format!("making `{}`", dir.display()))?;
        for kind in Kind::ALL {
            let path = dir.join(crds::file_name(kind));
            fs::write(&path, crds::yaml(kind)).with_context(|| format!("writing `{}`", path.display()))?;
        }
        Ok(Outcome::default())
    }
}
