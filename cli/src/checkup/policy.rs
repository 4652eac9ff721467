//! Whether the MutatingAdmissionPolicy that puts data planes into pods is there, in force, and as the chart made it.

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use kube::{Api, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{deployment, finding::Finding, site::Site};
use crate::cluster::{Cluster, Doing, Fault};

const CHECK: &str = "sidecar-policy";
const PAGE: &str = "docs/sidecars.md#switching-them-on";
const OLDER: &str = "docs/sidecars.md#older-clusters";

/// The group of policies, with the version that the chart writes.
const GROUP: &str = "admissionregistration.k8s.io";
const SERVED: &str = "admissionregistration.k8s.io/v1";
const POLICIES: &str = "mutatingadmissionpolicies";
const BINDINGS: &str = "mutatingadmissionpolicybindings";

/// The annotation by which the chart's operator names its policy: without, sidecars come by `relay inject`.
const NAMED: &str = "llmrelay.io/sidecar-policy";

/// The annotation of a policy with the sum of its spec as the chart made it.
const SUM: &str = "llmrelay.io/spec-sha256";

/// What there is to say, and where the sidecars of the policy forward to.
pub(super) struct Policy {
    pub(super) findings: Vec<Finding>,
    pub(super) forward: Option<String>,
}

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Policy {
    let Some(name) = site.operator().and_then(|operator| operator.annotations().get(NAMED)) else {
        let said = "pods get their sidecars by `relay inject`: the chart was not asked for a policy that does it";
        return Policy { findings: vec![Finding::fine(CHECK, said)], forward: None };
    };
    match read(cluster, name).await {
        Ok((is_served, policy, binding)) => {
            let forward = policy.as_ref().and_then(|policy| forward(&serde_json::to_value(&policy.spec).ok()?));
            let told = judged(site, name, is_served, policy.as_ref(), binding.as_ref());
            Policy { findings: vec![told], forward }
        }
        Err(fault) => Policy { findings: vec![deployment::unknown(CHECK, &fault)], forward: None },
    }
}

/// Whether such policies are served, this one, and its binding, which has the same name.
async fn read(
    cluster: &Cluster,
    name: &str,
) -> Result<(bool, Option<MutatingAdmissionPolicy>, Option<MutatingAdmissionPolicyBinding>), Fault> {
    let doing = Doing {
        verb: "get",
        group: GROUP,
        plural: "/apis/admissionregistration.k8s.io/v1",
        namespace: None,
        name: None,
    };
    let served = cluster.ask(doing, cluster.client.list_api_group_resources(SERVED)).await?;
    if !served.resources.iter().any(|resource| resource.name == POLICIES) {
        return Ok((false, None, None));
    }
    Ok((true, one(cluster, POLICIES, name).await?, one(cluster, BINDINGS, name).await?))
}

async fn one<K>(cluster: &Cluster, plural: &'static str, name: &str) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let doing = Doing { verb: "get", group: GROUP, plural, namespace: None, name: Some(name) };
    cluster.ask(doing, Api::<K>::all(cluster.client.clone()).get_opt(name)).await
}

fn judged(
    site: &Site,
    name: &str,
    is_served: bool,
    policy: Option<&MutatingAdmissionPolicy>,
    binding: Option<&MutatingAdmissionPolicyBinding>,
) -> Finding {
    let again = format!("helm upgrade relay charts/relay --namespace {} --reset-then-reuse-values", site.namespace);
    if !is_served {
        let said = format!("the API server does not serve {POLICIES} in {SERVED}: no pod gets a sidecar by itself");
        return Finding::failed(CHECK, said)
            .remedy(format!("{again} --set sidecars.policy.enabled=false  # and `relay inject` for manifests"))
            .hint("or upgrade the cluster to 1.36, where the API is stable")
            .see(OLDER);
    }
    let (policy, binding) = match (policy, binding) {
        (Some(policy), Some(binding)) => (policy, binding),
        (None, _) => return absent(&format!("MutatingAdmissionPolicy `{name}` is not there")).remedy(again).see(PAGE),
        (_, None) => {
            let said =
                format!("MutatingAdmissionPolicyBinding `{name}` is not there, without which the policy does nothing");
            return absent(&said).remedy(again).see(PAGE);
        }
    };
    if let Some(changed) = changed(policy, binding) {
        return Finding::failed(CHECK, changed).remedy(again + " --force-conflicts").see(PAGE);
    }
    Finding::fine(CHECK, format!("MutatingAdmissionPolicy `{name}` and its binding are as the chart made them"))
}

fn absent(said: &str) -> Finding {
    Finding::failed(CHECK, format!("{said}: pods that ask start without a sidecar, and ask whom their SDKs know"))
}

/// How policy or binding differ from what the chart made; absent: they do not.
fn changed(policy: &MutatingAdmissionPolicy, binding: &MutatingAdmissionPolicyBinding) -> Option<String> {
    let name = policy.name_any();
    let Some(sum) = policy.annotations().get(SUM) else {
        return Some(format!("MutatingAdmissionPolicy `{name}` is not the chart's: it lacks the annotation {SUM}"));
    };
    if *sum != self::sum(&policy.spec) {
        return Some(format!("MutatingAdmissionPolicy `{name}` is not what the chart made: somebody changed its spec"));
    }
    let spec = serde_json::to_value(&binding.spec).unwrap_or_default();
    if spec != json!({"policyName": name}) {
        return Some(format!("MutatingAdmissionPolicyBinding `{name}` is not what the chart made: its spec is {spec}"));
    }
    None
}

/// The sum of a spec as the chart writes it: JSON as Go's templates have it, without what the API server adds.
fn sum(spec: &impl Serialize) -> String {
    let mut spec = serde_json::to_value(spec).unwrap_or_default();
    let constraints = &mut spec["matchConstraints"];
    remove_default(constraints, "matchPolicy", "Equivalent");
    for rule in constraints["resourceRules"].as_array_mut().into_iter().flatten() {
        remove_default(rule, "scope", "*");
    }
    spec.sort_all_objects();
    let text = spec.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}

fn remove_default(of: &mut Value, field: &str, default: &str) {
    if let Some(fields) = of.as_object_mut()
        && fields.get(field).is_some_and(|value| value == default)
    {
        fields.remove(field);
    }
}

/// The address that sidecars are told to forward to, as it stands in the policy.
fn forward(spec: &Value) -> Option<String> {
    let variables = spec["variables"].as_array()?.iter();
    let mut texts = variables.filter_map(|variable| variable["expression"].as_str());
    let (_, rest) = texts.find_map(|text| text.split_once("--forward="))?;
    rest.split_once('"').map(|(address, _)| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{finding::Mark, site::Site},
        *,
    };

    fn policy(sum: Option<&str>, failing: &str) -> MutatingAdmissionPolicy {
        let spec = json!({
            "failurePolicy": failing,
            "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [{"apiGroups": [""], "scope": "*"}]},
            "variables": [{"name": "sidecar", "expression": "[\"--forward=https://relay.own.svc:8443\", a && b < c]"}],
        });
        let annotations = sum.map_or_else(|| json!({}), |sum| json!({SUM: sum}));
        serde_json::from_value(json!({"metadata": {"name": "p", "annotations": annotations}, "spec": spec})).unwrap()
    }

    fn binding(of: &str) -> MutatingAdmissionPolicyBinding {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"policyName": of}})).unwrap()
    }

    fn told(is_served: bool, policy: Option<&MutatingAdmissionPolicy>, of: Option<&str>) -> (Mark, String) {
        let site = Site { namespace: "own".to_owned(), operators: Ok(Vec::new()), data_planes: Ok(Vec::new()) };
        let finding = judged(&site, "p", is_served, policy, of.map(binding).as_ref());
        (finding.mark, finding.text().to_owned())
    }

    #[test]
    fn the_sum_is_that_of_gos_json_without_what_the_api_server_adds() {
        let written = "{\"failurePolicy\":\"Fail\",\"matchConstraints\":{\"resourceRules\":[{\"apiGroups\":[\"\"]}]},\"variables\":\
            [{\"expression\":\"[\\\"--forward=https://relay.own.svc:8443\\\", a \\u0026\\u0026 b \\u003c c]\",\"name\":\"sidecar\"}]}";
        let expected = data_encoding::HEXLOWER.encode(&Sha256::digest(written));
        assert_eq!(sum(&policy(None, "Fail").spec), expected);
    }

    #[test]
    fn a_policy_is_right_that_is_served_bound_and_as_it_was_made() {
        let sum = sum(&policy(None, "Fail").spec);
        let made = policy(Some(&sum), "Fail");
        assert_eq!(told(true, Some(&made), Some("p")).0, Mark::Fine);
        for (is_served, policy, binding, said) in [
            (false, None, None, "does not serve mutatingadmissionpolicies in admissionregistration.k8s.io/v1"),
            (true, None, Some("p"), "MutatingAdmissionPolicy `p` is not there"),
            (true, Some(&made), None, "MutatingAdmissionPolicyBinding `p` is not there"),
            (true, Some(&made), Some("q"), "its spec is {\"policyName\":\"q\"}"),
            (true, Some(&policy(Some(&sum), "Ignore")), Some("p"), "somebody changed its spec"),
            (true, Some(&policy(None, "Fail")), Some("p"), "lacks the annotation llmrelay.io/spec-sha256"),
        ] {
            let (mark, text) = told(is_served, policy, binding);
            assert_eq!(mark, Mark::Failed);
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn the_address_that_sidecars_forward_to_is_read_from_the_policy() {
        let spec = serde_json::to_value(policy(None, "Fail").spec).unwrap();
        assert_eq!(forward(&spec).as_deref(), Some("https://relay.own.svc:8443"));
        assert_eq!(forward(&json!({"variables": []})), None);
    }
}
