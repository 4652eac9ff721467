//! `relay status`: how a cluster is: its operator, its fleets, and every object that is not in effect, with the reason.

mod details;
mod kinds;
mod operator;
mod overview;

use clap::Args;

use self::{details::Details, overview::Overview};
use crate::{
    cluster::{self, Access, Home},
    outcome::Outcome,
    view::View,
};

/// Says how a cluster is: its operator, its fleets, and what is not in effect, with the reason
///
/// Reads what the operator wrote: conditions of objects, DataPlanes, the Lease. Objects that somebody took out of service
/// (`suspend`, `revoked`, a Host that is suspended) or that have expired are counted as off and are no fault.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  everything that should be in effect is
  1  something is not Ready, or no operator leads
  2  wrong arguments, or the cluster cannot be asked

Examples:
  relay status
  relay status -A
  relay status relaykey/checkout -n team-a
  relay status -A -o json | jq '.notReady[]'")]
pub(crate) struct Status {
    /// One object, such as `relaykey/checkout`; absent: an overview
    #[arg(value_name = "KIND/NAME")]
    object: Option<String>,

    /// All namespaces instead of one
    #[arg(short = 'A', long, conflicts_with = "object")]
    all_namespaces: bool,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    home: Home,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let Self { object, all_namespaces, access, home, output } = self;
        let cluster = access.cluster().await?;
        match object {
            Some(object) => Details::read(&cluster, &kinds::named(&object)?).await?.outcome(output),
            None => Overview::read(&cluster, &home, all_namespaces).await?.outcome(output),
        }
    }
}
