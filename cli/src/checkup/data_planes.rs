//! Whether data planes run, follow the operator, and take what it publishes.

use std::collections::BTreeSet;

use crds::{DataPlaneStatus, Kind};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::DynamicObject};

use super::{
    admin::Page,
    deployment,
    finding::Finding,
    pods,
    site::{self, Site},
};
use crate::{
    cluster::{Cluster, Within, id},
    outcome::count,
};

/// A data plane that no operator confirmed for so long serves what may be old, as the alert has it.
const STALE_S: f64 = 300.0;

const NACKED: &str = "docs/runbooks.md#relaynacked";
const LAGGING: &str = "docs/runbooks.md#relaylagging";
const STALE: &str = "docs/runbooks.md#relaytablestale";
const PAGE: &str = "docs/operator.md";

/// The data planes of an installation.
pub(super) struct DataPlanes {
    pub(super) pods: Vec<Pod>,
    pub(super) findings: Vec<Finding>,
}

impl DataPlanes {
    /// Their Deployments and pods.
    pub(super) async fn read(cluster: &Cluster, site: &Site) -> Self {
        let mut findings = Vec::new();
        match &site.data_planes {
            Ok(all) if all.is_empty() => findings.push(absent(site)),
            Ok(all) => {
                findings.extend(all.iter().map(|one| deployment::replicas("data-planes-ready", "the data plane", one)));
            }
            Err(fault) => findings.push(deployment::unknown("data-planes-ready", fault)),
        }
        let pods = pods::list(cluster, &site.namespace, site::DATA_PLANE).await;
        findings.extend(pods::findings("data-plane-pods", &pods));
        Self { pods: pods.unwrap_or_default(), findings }
    }

    /// What the operator says of the fleets, in the status of their DataPlanes.
    pub(super) async fn add_fleets(&mut self, cluster: &Cluster, site: &Site) {
        let fleets = match cluster.list(Kind::DataPlane, Within::Namespace(&site.namespace)).await {
            Ok(fleets) => fleets,
            Err(fault) => return self.findings.push(deployment::unknown("streams", &fault)),
        };
        self.findings.extend(accounts(site, &fleets));
        if fleets.is_empty() {
            let said = "no DataPlane: what data planes hold is not counted, and so not seen";
            let remedy = format!(
                "kubectl -n {} apply -f - <<< '{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: default}}, spec: {{}}}}'",
                site.namespace
            );
            return self.findings.push(Finding::unseen("streams", said).remedy(remedy).see(PAGE));
        }
        let statuses: Vec<DataPlaneStatus> = fleets.iter().map(status).collect();
        let connected: u32 = statuses.iter().filter_map(|status| Some(status.pods.as_ref()?.connected)).sum();
        self.findings.push(self.connected(site, connected));
        for (fleet, status) in fleets.iter().zip(&statuses) {
            self.findings.extend(of_fleet(site, &id(fleet).name, status));
        }
    }

    fn connected(&self, site: &Site, connected: u32) -> Finding {
        let pods = u32::try_from(self.pods.len()).unwrap_or(u32::MAX);
        if connected == 0 || connected < pods {
            let said = match pods {
                0 => "no data plane is connected to an operator".to_owned(),
                _ => format!(
                    "{connected} of {} are connected to an operator: the others serve what they had",
                    count(pods as usize, "data plane")
                ),
            };
            let logs = |label: &str| format!("kubectl -n {} logs -l {label} --tail=50 --prefix", site.namespace);
            return Finding::failed("streams", said)
                .remedy(logs(site::DATA_PLANE))
                .remedy(logs(site::OPERATOR))
                .see(STALE);
        }
        let planes = count(connected as usize, "data plane");
        Finding::fine(
            "streams",
            format!("{planes} {} connected to an operator", if connected == 1 { "is" } else { "are" }),
        )
    }

    /// What the pods say themselves of how new their table is.
    pub(super) fn add_ages(&mut self, site: &Site, pages: &[Page]) {
        for page in pages {
            let Some(age) = page.value("relay_config_age_seconds").filter(|age| *age > STALE_S) else { continue };
            let said = format!("pod `{}` serves a table that no operator has confirmed for {age:.0} s", page.pod);
            let logs = format!("kubectl -n {} logs {} --tail=50", site.namespace, page.pod);
            self.findings.push(Finding::failed("table-age", said).remedy(logs).see(STALE));
        }
    }
}

fn absent(site: &Site) -> Finding {
    let said = format!("no Deployment of data planes in namespace `{}` (label {})", site.namespace, site::DATA_PLANE);
    Finding::warning("data-planes-ready", said).remedy(format!("kubectl get pods -A -l {}", site::DATA_PLANE)).see(PAGE)
}

fn status(fleet: &DynamicObject) -> DataPlaneStatus {
    serde_json::from_value(fleet.data["status"].clone()).unwrap_or_default()
}

/// Data planes whose service account the operator does not take for one of a data plane.
fn accounts(site: &Site, fleets: &[DynamicObject]) -> Vec<Finding> {
    let mut known: BTreeSet<(String, String)> = site.accounts();
    for fleet in fleets {
        let named = fleet.data["spec"]["serviceAccounts"].as_array().into_iter().flatten();
        known.extend(named.filter_map(|account| {
            let namespace = account["namespace"].as_str().unwrap_or(&site.namespace);
            Some((namespace.to_owned(), account["name"].as_str()?.to_owned()))
        }));
    }
    let mut findings = Vec::new();
    for data_plane in site.data_planes.iter().flatten() {
        let account = (site.namespace.clone(), site::service_account(data_plane));
        if site.operator().is_none() || known.contains(&account) {
            continue;
        }
        let names: Vec<String> = known.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        let said = format!(
            "Deployment `{}` runs as service account `{}/{}`, which the operator does not take for one of data planes (those \
             are {}): it refuses their streams",
            data_plane.name_any(),
            account.0,
            account.1,
            names.join(", ")
        );
        let remedy = format!(
            "kubectl -n {} set serviceaccount deployment {} {}",
            site.namespace,
            data_plane.name_any(),
            known.first().map_or("NAME", |(_, name)| name.as_str())
        );
        findings.push(
            Finding::failed("data-plane-account", said)
                .remedy(remedy)
                .hint(format!("or name {}/{} in --data-plane-accounts of the operator", account.0, account.1))
                .see("docs/operator.md#settings"),
        );
    }
    findings
}

fn of_fleet(site: &Site, name: &str, status: &DataPlaneStatus) -> Vec<Finding> {
    let Some(pods) = &status.pods else {
        let said = format!("nothing is said of DataPlane `{name}` yet: does an operator lead?");
        return vec![
            Finding::warning("fleet", said).remedy(format!("kubectl -n {} get rdp {name} -o yaml", site.namespace)),
        ];
    };
    let mut findings: Vec<Finding> = status
        .nacks
        .iter()
        .flatten()
        .map(|nack| {
            let said = format!(
                "{} of fleet `{name}` refuse {} {}/{}: {}",
                count(nack.pods as usize, "data plane"),
                nack.kind,
                nack.namespace,
                nack.name,
                nack.message
            );
            let kind = nack.kind.to_lowercase();
            let remedy = format!("relay status {kind}/{} -n {}", nack.name, nack.namespace);
            Finding::failed("nacked", said).remedy(remedy).see(NACKED)
        })
        .collect();
    if pods.nacked > 0 && findings.is_empty() {
        let said = format!("{} of fleet `{name}` refuse what is published", count(pods.nacked as usize, "data plane"));
        findings.push(
            Finding::failed("nacked", said)
                .remedy(format!("kubectl -n {} get rdp {name} -o yaml", site.namespace))
                .see(NACKED),
        );
    }
    let stale = pods.stale.unwrap_or_default();
    if stale > 0 {
        let said = format!("{} of fleet `{name}` serve a copy of an earlier run", count(stale as usize, "data plane"));
        findings.push(
            Finding::failed("stale", said)
                .remedy(format!("kubectl -n {} logs -l {} --tail=50 --prefix", site.namespace, site::DATA_PLANE))
                .see(STALE),
        );
    } else if pods.lagging > 0 {
        let said = format!(
            "{} of fleet `{name}` have not taken what was published last",
            count(pods.lagging as usize, "data plane")
        );
        findings.push(
            Finding::warning("lagging", said)
                .remedy(format!("kubectl -n {} get rdp {name} -w", site.namespace))
                .see(LAGGING),
        );
    }
    if findings.is_empty() {
        let said = format!(
            "all {} of fleet `{name}` serve what was published last",
            count(pods.current as usize, "data plane")
        );
        findings.push(Finding::fine("fleet", said));
    }
    findings
}
