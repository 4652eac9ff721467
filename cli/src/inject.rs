//! `relay inject`: manifests with a data plane beside the applications that ask for one, as the chart's
//! MutatingAdmissionPolicy does it to pods. For clusters that are older than that API, and for those who want to see it in
//! review.

mod asked;
mod kinds;
mod pod;
mod sidecar;
mod texts;

use std::{
    fmt::Write as _,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;

use self::{kinds::Outcomes, sidecar::Sidecar};
use crate::{manifests, outcome::Outcome};

/// Puts Relay beside the applications of manifests that ask for it
///
/// Prints all documents in their order. Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs whose pods
/// have the label `llmrelay.io/inject: "true"` get a native sidecar, and their containers the base URLs of Relay; with the
/// annotation `llmrelay.io/relay-key: NAME` also the token of that RelayKey. Other documents stay as they are, byte for byte,
/// and so does what has a sidecar already.
///
/// The sidecar gets tables only in namespaces with the label `llmrelay.io/inject: enabled`.
#[derive(Debug, Args)]
#[command(after_help = "\
Kubernetes 1.36 and newer needs none of this: there the chart's policy does the same to pods.

Annotations of a pod, beside the label:
  llmrelay.io/relay-key: NAME                RelayKey; its token is in the Secret NAME-token, key `token`
  llmrelay.io/relay-key-secret: NAME[/KEY]   Secret with the token, where it is another
  llmrelay.io/port: \"9000\"                   where Relay listens on loopback, with the port after it

Exit codes:
  0  all is printed
  2  a manifest cannot be read, or a pod that asks cannot have a sidecar; nothing is printed

Examples:
  relay inject -f deployment.yaml | kubectl apply -f -
  kustomize build overlays/production | relay inject -f - --image registry.example/relay-dataplane:0.1.0
  relay inject -f manifests --relay-namespace routing > injected.yaml")]
pub(crate) struct Inject {
    /// File, directory of *.yaml, *.yml and *.json, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,

    #[command(flatten)]
    sidecar: Sidecar,
}

impl Inject {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (mut out, mut outcomes) = (String::new(), Outcomes::default());
        for source in &self.filename {
            for (path, text) in texts(source)? {
                let injected = texts::injected(&text, &self.sidecar, &mut outcomes);
                texts::join(&mut out, &injected.map_err(|error| anyhow!("{}:{error}", path.display()))?);
            }
        }
        Ok(Outcome { out, aside: aside(&outcomes), ..Outcome::default() })
    }
}

/// The texts that are meant, in the order of their paths.
fn texts(source: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if source == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("reading manifests from stdin")?;
        return Ok(vec![("stdin".into(), text)]);
    }
    let files = manifests::files(source)?.into_iter();
    files
        .map(|(path, text)| text.map_err(|why| anyhow!("{}: {why}", path.display())).map(|text| (path, text)))
        .collect()
}

/// What was done, for people.
fn aside(outcomes: &Outcomes) -> String {
    let mut text = String::new();
    for (object, done) in &outcomes.0 {
        writeln!(text, "{object}: {done}").expect("a String takes everything");
    }
    if text.is_empty() {
        writeln!(text, "nothing asks for Relay: no pod has the label {}: \"{}\"", crds::INJECT_LABEL, crds::INJECT_POD)
            .expect("a String takes everything");
    }
    text
}
