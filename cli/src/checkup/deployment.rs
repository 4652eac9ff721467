//! Whether a Deployment has the pods that it should have.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::{finding::Finding, site};
use crate::cluster::Fault;

/// Why something is not known: a right is missing, or else something is wrong.
pub(super) fn unknown(check: &'static str, fault: &Fault) -> Finding {
    if site::is_forbidden(fault) {
        Finding::unseen(check, fault.to_string())
    } else {
        Finding::failed(check, fault.to_string())
    }
}

/// How many of its pods are ready; `what` as a person calls it.
pub(super) fn replicas(check: &'static str, what: &str, of: &Deployment) -> Finding {
    let name = of.name_any();
    let namespace = of.namespace().unwrap_or_default();
    let wanted = of.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = of.status.clone().unwrap_or_default();
    let (ready, updated) = (status.ready_replicas.unwrap_or_default(), status.updated_replicas.unwrap_or_default());
    let shown = format!("{what} (Deployment `{namespace}/{name}`)");
    let describe = format!("kubectl -n {namespace} describe deployment {name}");
    if wanted == 0 {
        return Finding::failed(check, format!("{shown} is scaled to 0"))
            .remedy(format!("kubectl -n {namespace} scale deployment {name} --replicas=2"));
    }
    if ready == 0 {
        let logs = format!("kubectl -n {namespace} logs deployment/{name} --all-containers --tail=50");
        return Finding::failed(check, format!("no pod of {shown} is ready, and {wanted} should be"))
            .remedy(describe)
            .remedy(logs);
    }
    if ready < wanted {
        return Finding::warning(check, format!("only {ready} of {wanted} pods of {shown} are ready")).remedy(describe);
    }
    if updated < wanted {
        return Finding::warning(check, format!("{shown} is being rolled out: {updated} of {wanted} pods are new"))
            .remedy(format!("kubectl -n {namespace} rollout status deployment {name}"));
    }
    Finding::fine(check, format!("{shown} has {ready} of {wanted} pods ready"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Mark;

    fn mark(replicas: i32, ready: i32, updated: i32) -> Mark {
        let value = json!({
            "metadata": {"name": "relay-operator", "namespace": "n"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {"readyReplicas": ready, "updatedReplicas": updated},
        });
        super::replicas("x", "the operator", &serde_json::from_value(value).unwrap()).mark
    }

    #[test]
    fn some_pods_too_few_are_a_warning_and_none_at_all_are_a_failure() {
        assert_eq!(mark(2, 2, 2), Mark::Fine);
        assert_eq!(mark(2, 1, 2), Mark::Warning);
        assert_eq!(mark(2, 2, 1), Mark::Warning);
        assert_eq!(mark(2, 0, 2), Mark::Failed);
        assert_eq!(mark(0, 0, 0), Mark::Failed);
    }
}
