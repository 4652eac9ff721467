//! Where the operator lives, as its Lease tells.

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};

use super::{Cluster, Doing, Fault, Trouble};

/// The name of the Lease by which operators agree on which of them writes.
const LEASE: &str = "relay-operator";

/// Which operator is meant.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Home {
    /// Namespace of the operator [default: where its Lease is found]
    #[arg(long, env = "RELAY_OPERATOR_NAMESPACE", value_name = "NAME")]
    pub(crate) operator_namespace: Option<String>,
}

/// The operators' Lease.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) namespace: String,
    /// Who holds it; absent: nobody does.
    pub(crate) holder: Option<String>,
    pub(crate) renewed: Option<Timestamp>,
    seconds: i64,
}

impl Leader {
    /// The Lease in a namespace; absent: there is none.
    pub(crate) async fn within(cluster: &Cluster, namespace: &str) -> Result<Option<Self>, Fault> {
        one(cluster, namespace).await
    }

    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            namespace: lease.namespace().unwrap_or_default(),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            renewed: spec.renew_time.map(|time| time.0),
            seconds: spec.lease_duration_seconds.unwrap_or_default().into(),
        }
    }

    /// The pod that holds it: an operator adds to its name what tells its runs apart.
    pub(crate) fn pod(&self) -> Option<&str> {
        let holder = self.holder.as_deref()?;
        Some(holder.rsplit_once('_').map_or(holder, |(pod, _)| pod))
    }

    /// How long ago it was renewed, in seconds.
    pub(crate) fn age_s(&self, now: Timestamp) -> Option<i64> {
        self.renewed.map(|renewed| now.duration_since(renewed).as_secs().max(0))
    }

    /// Whether somebody leads at this moment.
    pub(crate) fn is_led(&self, now: Timestamp) -> bool {
        self.holder.is_some() && self.age_s(now).is_some_and(|age| age <= self.seconds)
    }
}

impl Home {
    /// The Lease of the operator that is meant, or why none is known. Only what nobody can help is an error.
    pub(crate) async fn leader(&self, cluster: &Cluster) -> Result<Result<Leader, String>, Fault> {
        if let Some(namespace) = &self.operator_namespace {
            let lease = one(cluster, namespace).await;
            return sorted(lease.map(|lease| {
                lease
                    .ok_or_else(|| format!("namespace `{namespace}` has no Lease `{LEASE}`: no operator ran there yet"))
            }));
        }
        match everywhere(cluster).await {
            Ok(leases) => Ok(chosen(leases)),
            Err(fault) if fault.trouble == Trouble::Forbidden => {
                let here = sorted(one(cluster, &cluster.namespace).await.map(|lease| lease.ok_or_else(String::new)))?;
                Ok(here.map_err(|_| {
                    format!(
                        "it is not known where the operator lives: name its namespace by --operator-namespace ({fault})"
                    )
                }))
            }
            Err(fault) => Err(fault),
        }
    }
}

fn chosen(mut leases: Vec<Leader>) -> Result<Leader, String> {
    match (leases.pop(), leases.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(format!("no namespace has a Lease `{LEASE}`: no operator ran in this cluster yet")),
        (Some(last), false) => {
            let names: Vec<&str> = leases.iter().chain([&last]).map(|lease| lease.namespace.as_str()).collect();
            Err(format!(
                "there are several operators: name the namespace of one by --operator-namespace ({})",
                names.join(", ")
            ))
        }
    }
}

/// A right that is missing costs this answer alone.
fn sorted(found: Result<Result<Leader, String>, Fault>) -> Result<Result<Leader, String>, Fault> {
    match found {
        Err(fault) if fault.trouble == Trouble::Forbidden => Ok(Err(fault.to_string())),
        found => found,
    }
}

async fn one(cluster: &Cluster, namespace: &str) -> Result<Option<Leader>, Fault> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = doing("get", Some(namespace), Some(LEASE));
    Ok(cluster.ask(doing, api.get_opt(LEASE)).await?.as_ref().map(Leader::of))
}

async fn everywhere(cluster: &Cluster) -> Result<Vec<Leader>, Fault> {
    let api: Api<Lease> = Api::all(cluster.client.clone());
    let params = ListParams::default().fields(&format!("metadata.name={LEASE}"));
    let leases = cluster.list_of(doing("list", None, None), &api, params).await?;
    Ok(leases.iter().map(Leader::of).collect())
}

fn doing<'a>(verb: &'static str, namespace: Option<&'a str>, name: Option<&'a str>) -> Doing<'a> {
    Doing { verb, group: "coordination.k8s.io", plural: "leases", namespace, name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(namespace: &str, holder: &str, renewed: &str) -> Leader {
        let renewed = Some(renewed.parse().unwrap());
        Leader { namespace: namespace.to_owned(), holder: Some(holder.to_owned()), renewed, seconds: 15 }
    }

    #[test]
    fn a_lease_that_ran_out_is_led_by_nobody() {
        let leader = leader("relay", "operator-0_00ff", "2026-01-01T00:00:00Z");
        assert_eq!(leader.pod(), Some("operator-0"));
        assert!(leader.is_led("2026-01-01T00:00:15Z".parse().unwrap()));
        assert!(!leader.is_led("2026-01-01T00:00:16Z".parse().unwrap()));
    }

    #[test]
    fn of_several_operators_none_is_taken() {
        let at = "2026-01-01T00:00:00Z";
        assert_eq!(chosen(vec![leader("a", "x", at)]).unwrap().namespace, "a");
        assert!(chosen(vec![leader("a", "x", at), leader("b", "y", at)]).unwrap_err().contains("(a, b)"));
        assert!(chosen(Vec::new()).unwrap_err().contains("no operator"));
    }
}
