//! Whether the operator is there, of this program's version, and led.

use crds::rights::LEASE;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ServiceAccount};
use kube::{Api, ResourceExt};

use super::{
    deployment,
    finding::Finding,
    pods,
    site::{self, Site},
};
use crate::cluster::{Cluster, Doing, Leader};

const PAGE: &str = "docs/operator.md";
const LEADERLESS: &str = "docs/runbooks.md#relayoperatorleaderless";

/// The version of this program.
const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &site.operators {
        Ok(all) => match &all[..] {
            [] => findings.push(absent(site)),
            [only] => {
                findings.push(deployment::replicas("operator-ready", "the operator", only).see(PAGE));
                findings.push(version(only));
                findings.extend(account(cluster, site, only).await);
            }
            several => findings.push(too_many(site, several)),
        },
        Err(fault) => findings.push(deployment::unknown("operator-found", fault)),
    }
    let pods = pods::list(cluster, &site.namespace, site::OPERATOR).await;
    findings.extend(pods::findings("operator-pods", &pods));
    findings.push(lease(cluster, site).await);
    findings
}

fn absent(site: &Site) -> Finding {
    let namespace = &site.namespace;
    let said =
        format!("there is no operator in namespace `{namespace}`: no Deployment has the label {}", site::OPERATOR);
    Finding::failed("operator-found", said)
        .remedy(format!("helm install relay charts/relay -n {namespace} --create-namespace"))
        .hint("or name the namespace of the installation by -n")
        .see(PAGE)
}

fn too_many(site: &Site, several: &[Deployment]) -> Finding {
    let names: Vec<String> = several.iter().map(|one| format!("`{}`", one.name_any())).collect();
    let said =
        format!("namespace `{}` has several operators, which share one Lease: {}", site.namespace, names.join(", "));
    let remedy = format!("kubectl -n {} delete deployment NAME  # of all but one", site.namespace);
    Finding::failed("operator-found", said).remedy(remedy).see(PAGE)
}

/// The version by the chart's label, else by the image.
fn version(of: &Deployment) -> Finding {
    const LABEL: &str = "app.kubernetes.io/version";
    let check = "operator-version";
    let labelled = of.labels().get(LABEL).map(|version| (version.as_str(), "its label"));
    match labelled.or_else(|| site::image_tag(of).map(|tag| (tag, "the tag of its image"))) {
        Some((version, _)) if version == OWN => {
            Finding::fine(check, format!("the operator has the version of this program, {OWN}"))
        }
        Some((version, by)) => {
            Finding::warning(check, format!("the operator is of version {version} by {by}, and this program of {OWN}"))
                .hint(format!("install the `relay` of version {version}, or upgrade the chart"))
        }
        None => Finding::unseen(
            check,
            format!("the operator has neither a tag nor the label {LABEL}: its version is not known"),
        ),
    }
}

/// Whether the account exists that the operator runs as: without it no pod of it is made.
async fn account(cluster: &Cluster, site: &Site, of: &Deployment) -> Option<Finding> {
    let (namespace, name) = (&site.namespace, site::service_account(of));
    let api: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let doing =
        Doing { verb: "get", group: "", plural: "serviceaccounts", namespace: Some(namespace), name: Some(&name) };
    match cluster.ask(doing, api.get_opt(&name)).await {
        Ok(Some(_)) => None,
        Ok(None) => {
            let said = format!(
                "Deployment `{}` runs as service account `{namespace}/{name}`, which is not there",
                of.name_any()
            );
            let remedy = format!("kubectl -n {namespace} create serviceaccount {name}");
            Some(Finding::failed("operator-account", said).remedy(remedy).see(PAGE))
        }
        // What it may do says nearly the same.
        Err(fault) if site::is_forbidden(&fault) => None,
        Err(fault) => Some(Finding::failed("operator-account", fault.to_string())),
    }
}

async fn lease(cluster: &Cluster, site: &Site) -> Finding {
    let (namespace, check) = (&site.namespace, "lease-held");
    let said = match Leader::within(cluster, namespace).await {
        Ok(Some(leader)) => match held(&leader, Timestamp::now()) {
            Ok(finding) => return finding,
            Err(said) => said,
        },
        Ok(None) => format!("namespace `{namespace}` has no Lease `{LEASE}`: no operator led there yet"),
        Err(fault) => return deployment::unknown(check, &fault),
    };
    Finding::failed(check, said)
        .remedy(format!("kubectl -n {namespace} logs -l {} --tail=50", site::OPERATOR))
        .remedy(format!("kubectl -n {namespace} get lease {LEASE} -o yaml"))
        .see(LEADERLESS)
}

fn held(leader: &Leader, now: Timestamp) -> Result<Finding, String> {
    let age = leader.age_s(now).map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
    match leader.pod() {
        Some(pod) if leader.is_led(now) => Ok(Finding::fine("lease-held", format!("`{pod}` leads (renewed {age})"))),
        Some(pod) => Err(format!(
            "nobody leads: `{pod}` did last and renewed the Lease {age}; statuses are not kept up to date, and no token is made"
        )),
        None => {
            Err("nobody leads: the Lease was given back; statuses are not kept up to date, and no token is made"
                .to_owned())
        }
    }
}
