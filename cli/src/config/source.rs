//! Where a routing table comes from: compiled here from a cluster, with or without a directory, or asked of a process.

use std::{collections::BTreeSet, path::PathBuf, str::FromStr};

use anyhow::Context;
use compiler::Compilation;
use crds::Kind;
use jiff::Timestamp;
use table::{ObjectRef, RoutingTable, Row};

use super::{reads::Reads, running};
use crate::{
    cluster::{Cluster, Live},
    manifests::{self, Scope, finding::Severity},
};

/// Where a table comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The objects of the cluster, compiled here.
    Cluster,
    /// The operator that leads.
    Operator,
    /// A pod, of an operator or of a data plane.
    Pod(String),
    /// An admin port.
    Admin(String),
    /// The objects of the cluster with those of a directory applied, compiled here.
    Applied(PathBuf),
}

/// A table, and what is not known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sourced {
    pub(super) compilation: Compilation,
    /// Objects whose Secrets were not read.
    pub(super) assumed: BTreeSet<(Kind, ObjectRef)>,
    /// What was left out or taken to be so, in sentences.
    pub(super) notes: Vec<String>,
    /// What of a directory is refused, in sentences.
    pub(super) refused: Vec<String>,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "cluster" => Self::Cluster,
            "operator" => Self::Operator,
            _ if text.starts_with("http://") => Self::Admin(text.to_owned()),
            _ if text.starts_with("https://") => {
                return Err("an admin port speaks http:// alone".to_owned());
            }
            _ => match text.strip_prefix("pod/") {
                Some(pod) => Self::Pod(pod.to_owned()),
                None => Self::Applied(text.into()),
            },
        })
    }
}

/// Reads sources of one cluster, and that only once and only where it is needed.
pub(super) struct Sources<'a> {
    reads: &'a Reads,
    cluster: Option<Cluster>,
    live: Option<Live>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(reads: &'a Reads) -> Self {
        Self { reads, cluster: None, live: None }
    }

    pub(super) async fn read(&mut self, source: &Source) -> anyhow::Result<Sourced> {
        match source {
            Source::Cluster => Ok(compiled(self.live().await?)),
            Source::Applied(dir) => {
                let scope = Scope { namespace: self.cluster().await?.namespace, catalog_namespace: None };
                let loaded = manifests::load(dir, &scope)?;
                let (live, refusals) = self.live().await?.with(&loaded.resources, Timestamp::now());
                let mut sourced = compiled(&live);
                let findings = loaded.findings.iter().filter(|finding| finding.severity == Severity::Refused);
                sourced.refused.extend(findings.map(ToString::to_string));
                for (kind, id, violations) in refusals {
                    let why = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    sourced.refused.push(format!("{kind} {id} cannot be changed like this, and stays as it is: {why}"));
                }
                Ok(sourced)
            }
            Source::Admin(url) => Ok(running(running::of_url(url, self.reads.access.request_timeout).await?)),
            Source::Pod(pod) => {
                let cluster = self.cluster().await?;
                let id = match pod.split_once('/') {
                    Some((namespace, name)) => ObjectRef::new(namespace, name),
                    None => ObjectRef::new(&cluster.namespace, pod),
                };
                Ok(running(running::of_pod(&cluster, &id, self.reads.admin_port).await?))
            }
            Source::Operator => {
                let cluster = self.cluster().await?;
                let leader = self.reads.home.leader(&cluster).await?.map_err(anyhow::Error::msg)?;
                let pod = leader.pod().context("no operator leads: nobody can be asked")?;
                let id = ObjectRef::new(&leader.namespace, pod);
                Ok(running(running::of_pod(&cluster, &id, self.reads.admin_port).await?))
            }
        }
    }

    async fn cluster(&mut self) -> anyhow::Result<Cluster> {
        if self.cluster.is_none() {
            self.cluster = Some(self.reads.access.cluster().await?);
        }
        Ok(self.cluster.clone().expect("it was just made"))
    }

    async fn live(&mut self) -> anyhow::Result<&Live> {
        if self.live.is_none() {
            let cluster = self.cluster().await?;
            self.live = Some(Live::read(&cluster, &self.reads.reading()).await?);
        }
        Ok(self.live.as_ref().expect("it was just made"))
    }
}

fn compiled(live: &Live) -> Sourced {
    let meaning = live.meaning();
    let notes = live.notes.iter().cloned().chain(meaning.note()).collect();
    Sourced { compilation: meaning.compilation, assumed: meaning.assumed, notes, refused: Vec::new() }
}

fn running(table: RoutingTable) -> Sourced {
    Sourced { compilation: Compilation { table, ..Compilation::default() }, ..Sourced::default() }
}

/// Makes two tables equal in what came of Secrets that were not read.
pub(super) fn forget_unread(before: &Sourced, after: &mut Sourced) {
    let assumed: Vec<_> = before.assumed.union(&after.assumed).cloned().collect();
    let (old, new) = (&before.compilation.table, &mut after.compilation.table);
    for (kind, id) in assumed {
        match kind {
            Kind::Host => {
                if let (Some(Row::Usable(old)), Some(Row::Usable(new))) = (old.hosts.get(&id), new.hosts.get_mut(&id)) {
                    new.tls.clone_from(&old.tls);
                }
            }
            Kind::RelayKey => {
                let rows = (old.relay_keys.get(&id), new.relay_keys.get_mut(&id));
                if let (Some(Row::Usable(old)), Some(Row::Usable(new))) = rows {
                    new.token_sha256.clone_from(&old.token_sha256);
                    new.previous.clone_from(&old.previous);
                }
            }
            // Nothing of their Secrets is in the table.
            Kind::HostKey | Kind::Model | Kind::Policy | Kind::DataPlane => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_their_form() {
        let read = |text: &str| text.parse::<Source>().unwrap();
        assert_eq!(read("cluster"), Source::Cluster);
        assert_eq!(read("operator"), Source::Operator);
        assert_eq!(read("pod/relay-0"), Source::Pod("relay-0".to_owned()));
        assert_eq!(read("http://127.0.0.1:9091"), Source::Admin("http://127.0.0.1:9091".to_owned()));
        assert_eq!(read("./cluster"), Source::Applied("./cluster".into()));
        assert!("https://x".parse::<Source>().unwrap_err().contains("http://"));
    }
}
