//! Whether namespaces that consent to sidecars have what sidecars need, and whether the pods there that ask have one.

use std::collections::BTreeSet;

use crds::{INJECT_ENABLED, INJECT_LABEL, INJECT_POD};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    deployment,
    finding::Finding,
    pods,
    site::{self, Site},
    trust,
};
use crate::{
    cluster::{Cluster, Doing, Fault},
    outcome::count,
};

const CONSENT: &str = "sidecar-consent";
const PODS: &str = "sidecar-pods";
const PAGE: &str = "docs/sidecars.md#when-a-pod-does-not-start-or-asks-somebody-else";

/// What the sidecar is called.
const NAME: &str = "relay";

/// So many pods are told of one by one.
const TOLD: usize = 5;

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Vec<Finding> {
    let consenting = match consenting(cluster).await {
        Ok(names) => names,
        Err(fault) => return vec![deployment::unknown(CONSENT, &fault)],
    };
    let watched = site.watched();
    let (served, unwatched): (Vec<String>, Vec<String>) =
        consenting.into_iter().partition(|name| watched.is_empty() || watched.contains(name));
    let mut findings = vec![consent(&served)];
    findings.extend(unwatched.iter().map(|name| unserved(site, name)));
    let trusting = site.trusting();
    for namespace in served.iter().filter(|name| !trusting.contains(*name)) {
        findings.push(trust::bundle(cluster, site, namespace).await);
    }
    findings.extend(of_pods(cluster, &served).await);
    findings
}

async fn consenting(cluster: &Cluster) -> Result<BTreeSet<String>, Fault> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let doing = Doing { verb: "list", group: "", plural: "namespaces", namespace: None, name: None };
    let labelled = ListParams::default().labels(&format!("{INJECT_LABEL}={INJECT_ENABLED}"));
    let found = cluster.list_of(doing, &api, labelled).await?;
    Ok(found.iter().filter(|one| one.metadata.deletion_timestamp.is_none()).map(ResourceExt::name_any).collect())
}

fn consent(served: &[String]) -> Finding {
    let said = match served {
        [] => format!("no namespace that the operator watches has the label {INJECT_LABEL}={INJECT_ENABLED}"),
        names => format!(
            "{} to sidecars: {}",
            if names.len() == 1 {
                "1 namespace consents".to_owned()
            } else {
                format!("{} namespaces consent", names.len())
            },
            names.join(", ")
        ),
    };
    Finding::fine(CONSENT, said)
}

/// The operator puts no authorities there, and refuses its sidecars.
fn unserved(site: &Site, name: &str) -> Finding {
    let said =
        format!("namespace `{name}` consents to sidecars, and the operator does not watch it: its pods get none");
    let mut watched: Vec<String> = site.watched().into_iter().filter(|one| *one != site.namespace).collect();
    watched.push(name.to_owned());
    let remedy = format!(
        "helm upgrade relay charts/relay --namespace {} --reset-then-reuse-values --set 'watchNamespaces={{{}}}'",
        site.namespace,
        watched.join(",")
    );
    Finding::warning(CONSENT, said)
        .remedy(remedy)
        .remedy(format!("kubectl label namespace {name} {INJECT_LABEL}-  # or else"))
        .see(PAGE)
}

async fn of_pods(cluster: &Cluster, namespaces: &[String]) -> Vec<Finding> {
    let (mut seen, mut hidden) = (Vec::new(), Vec::new());
    let mut findings = Vec::new();
    for namespace in namespaces {
        match pods::list(cluster, namespace, &format!("{INJECT_LABEL}={INJECT_POD}")).await {
            Ok(pods) => seen.extend(pods),
            Err(fault) if site::is_forbidden(&fault) => hidden.push((namespace.as_str(), fault)),
            Err(fault) => findings.push(Finding::failed(PODS, fault.to_string())),
        }
    }
    if let [(_, fault), more @ ..] = &hidden[..] {
        let more: Vec<&str> = more.iter().map(|(name, _)| *name).collect();
        let also = if more.is_empty() { String::new() } else { format!(" (the same in {})", more.join(", ")) };
        findings.push(Finding::unseen(PODS, format!("{fault}{also}")));
    }
    findings.extend(judged(&seen));
    findings
}

fn judged(pods: &[Pod]) -> Vec<Finding> {
    let (with, without): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| has_sidecar(pod));
    let mut findings: Vec<Finding> = without.iter().take(TOLD).map(|pod| lacking(pod)).collect();
    if without.len() > TOLD {
        let said = format!("{} more ask for a sidecar and have none", count(without.len() - TOLD, "pod"));
        findings
            .push(Finding::failed(PODS, said).remedy(format!("kubectl get pods -A -l {INJECT_LABEL}={INJECT_POD}")));
    }
    if without.is_empty() && !with.is_empty() {
        let said = match with.len() {
            1 => "the 1 pod that asks for a sidecar has one".to_owned(),
            more => format!("all {more} pods that ask for a sidecar have one"),
        };
        findings.push(Finding::fine(PODS, said));
    }
    findings
}

fn has_sidecar(pod: &Pod) -> bool {
    let is_one = |one: &Container| one.name == NAME && one.restart_policy.as_deref() == Some("Always");
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).any(is_one)
}

fn lacking(pod: &Pod) -> Finding {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        let said = format!("pod `{namespace}/{name}` asks for a sidecar and cannot have one: it has `hostNetwork`");
        return Finding::failed(PODS, said).hint("take away `hostNetwork`, or the label").see(PAGE);
    }
    let said = format!("pod `{namespace}/{name}` asks for a sidecar and has none: it asks whom its SDK knows");
    let finding = Finding::failed(PODS, said);
    let finding = match pod.owner_references() {
        [] => finding.hint("make the pod anew: pods get their sidecar when they are made"),
        [owner, ..] => finding.remedy(format!(
            "kubectl -n {namespace} delete pod {name}  # {} `{}` makes it anew",
            owner.kind, owner.name
        )),
    };
    finding.see(PAGE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::finding::Mark, *};

    fn pod(name: &str, spec: Value) -> Pod {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7", "uid": "u"}]);
        let metadata = json!({"name": name, "namespace": "team-a", "ownerReferences": owner});
        let mut whole = json!({"containers": []});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": metadata, "spec": whole})).unwrap()
    }

    fn with() -> Pod {
        pod("with", json!({"initContainers": [{"name": "relay", "restartPolicy": "Always"}]}))
    }

    fn told(pods: &[Pod]) -> Vec<(Mark, String)> {
        judged(pods).iter().map(|finding| (finding.mark, finding.text().to_owned())).collect()
    }

    #[test]
    fn a_pod_that_asks_and_has_no_sidecar_is_told_with_what_makes_it_anew() {
        let without = pod("without", json!({"initContainers": [{"name": "relay"}]}));
        let found = judged(&[with(), without]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text(), "pod `team-a/without` asks for a sidecar and has none: it asks whom its SDK knows");
        assert_eq!(found[0].remedies(), ["kubectl -n team-a delete pod without  # ReplicaSet `shop-7` makes it anew"]);
        let said = told(&[pod("host", json!({"hostNetwork": true}))]).swap_remove(0).1;
        assert_eq!(said, "pod `team-a/host` asks for a sidecar and cannot have one: it has `hostNetwork`");
    }

    #[test]
    fn many_pods_without_are_counted() {
        let many: Vec<Pod> = (0..7).map(|number| pod(&format!("p-{number}"), json!({}))).collect();
        let told = told(&many);
        assert_eq!(told.len(), 6);
        assert_eq!(told[5].1, "2 pods more ask for a sidecar and have none");
        assert_eq!(self::told(&[with()]), [(Mark::Fine, "the 1 pod that asks for a sidecar has one".to_owned())]);
        assert_eq!(self::told(&[]), []);
    }
}
