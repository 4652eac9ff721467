//! What of a cluster is read.

use clap::Args;

use crate::cluster::{Access, Home, Reading, Width};

/// What of a cluster is read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Reads {
    #[command(flatten)]
    pub(super) access: Access,

    /// All namespaces, and an error where that is not allowed [default: those that may be read; with -n that one and the
    /// catalog's]
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    #[command(flatten)]
    pub(super) home: Home,

    /// Namespace whose Models every relay key sees after those of its own [default: the operator's]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    pub(super) catalog_namespace: Option<String>,

    /// Reads the Secrets that objects name, so that the table is exactly the operator's; none of them is printed. Without
    /// it each is taken to hold what it should, unless the operator says otherwise
    #[arg(long)]
    read_secrets: bool,

    /// Port of the admin server in a pod [default: 9091 of an operator, 9090 of a data plane]
    #[arg(long, value_name = "PORT")]
    pub(super) admin_port: Option<u16>,
}

impl Reads {
    pub(super) fn reading(&self) -> Reading {
        let width = match (self.all_namespaces, &self.access.namespace) {
            (true, _) => Width::All,
            (false, Some(_)) => Width::One,
            (false, None) => Width::Readable,
        };
        let (catalog, home) = (self.catalog_namespace.clone(), self.home.clone());
        Reading { width, catalog, home, secrets: self.read_secrets }
    }
}
