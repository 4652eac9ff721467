//! How pods are: ready, or why not; and which were started again, and why.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{deployment, finding::Finding};
use crate::{
    cluster::{Cluster, Doing, Fault},
    outcome::count,
};

/// So many restarts of a container are worth a word.
const MANY: i32 = 3;

/// What there is to say of pods, or why they are not known.
pub(super) fn findings(check: &'static str, pods: &Result<Vec<Pod>, Fault>) -> Vec<Finding> {
    match pods {
        Ok(pods) => judged(check, pods),
        Err(fault) => vec![deployment::unknown(check, fault)],
    }
}

/// The pods with a label, without those that are on their way out or at their end.
pub(super) async fn list(cluster: &Cluster, namespace: &str, label: &str) -> Result<Vec<Pod>, Fault> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "list", group: "", plural: "pods", namespace: Some(namespace), name: None };
    let mut pods = cluster.list_of(doing, &api, ListParams::default().labels(label)).await?;
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    pods.sort_by_key(ResourceExt::name_any);
    Ok(pods)
}

fn judged(check: &'static str, pods: &[Pod]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = pods.iter().filter_map(|pod| unready(check, pod)).collect();
    findings.extend(pods.iter().filter_map(|pod| restarted(check, pod)));
    if findings.is_empty() && !pods.is_empty() {
        let all = match pods.len() {
            1 => "1 pod is ready".to_owned(),
            more => format!("{} are ready", count(more, "pod")),
        };
        findings.push(Finding::fine(check, format!("{all}; none was started again more than {MANY} times")));
    }
    findings
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn unready(check: &'static str, pod: &Pod) -> Option<Finding> {
    if is_ready(pod) {
        return None;
    }
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let said = format!("pod `{name}` is not ready: {}", why(pod));
    let describe = format!("kubectl -n {namespace} describe pod {name}");
    let logs = format!("kubectl -n {namespace} logs {name} --all-containers --tail=50");
    Some(Finding::failed(check, said).remedy(describe).remedy(logs))
}

/// What a container waits for, else what a condition says.
fn why(pod: &Pod) -> String {
    let waiting = containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(sentence(waiting.reason.as_deref(), waiting.message.as_deref()))
    });
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut failing = conditions.filter(|condition| condition.status == "False" && condition.message.is_some());
    let failing = || failing.next().map(|one| sentence(one.reason.as_deref(), one.message.as_deref()));
    let phase = || pod.status.as_ref().and_then(|status| status.phase.clone());
    waiting.or_else(failing).or_else(phase).unwrap_or_else(|| "nothing is known of it".to_owned())
}

fn sentence(reason: Option<&str>, message: Option<&str>) -> String {
    [reason, message].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn restarted(check: &'static str, pod: &Pod) -> Option<Finding> {
    let container = containers(pod).max_by_key(|container| container.restart_count)?;
    if container.restart_count <= MANY {
        return None;
    }
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.map_or_else(String::new, |last| {
        format!(", last with {} (exit code {})", last.reason.as_deref().unwrap_or("no reason"), last.exit_code)
    });
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let said = format!("pod `{name}` was started again {} times{last}", container.restart_count);
    let logs = format!("kubectl -n {namespace} logs {name} -c {} --previous --tail=50", container.name);
    Some(Finding::warning(check, said).remedy(logs))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::finding::Mark, *};

    fn pod(ready: &str, container: Value) -> Pod {
        let mut status =
            json!({"name": "dataplane", "image": "x", "imageID": "x", "ready": ready == "True", "restartCount": 0});
        status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let ready = json!({"type": "Ready", "status": ready, "reason": "ContainersNotReady", "message": "no"});
        serde_json::from_value(json!({
            "metadata": {"name": "pod-0", "namespace": "n"},
            "status": {"phase": "Running", "conditions": [ready], "containerStatuses": [status]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_that_cannot_start_is_told_with_what_it_waits_for() {
        let waiting = json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}});
        let found = judged("x", &[pod("False", waiting), pod("True", json!({}))]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text(), "pod `pod-0` is not ready: ImagePullBackOff: no such image");
        assert_eq!(
            judged("x", &[pod("False", json!({}))])[0].text(),
            "pod `pod-0` is not ready: ContainersNotReady: no"
        );
    }

    #[test]
    fn many_restarts_are_a_warning_with_the_last_end() {
        let ended = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        let found = judged("x", &[pod("True", json!({"restartCount": 4, "lastState": ended}))]);
        assert_eq!(found[0].mark, Mark::Warning);
        assert_eq!(found[0].text(), "pod `pod-0` was started again 4 times, last with OOMKilled (exit code 137)");
        assert_eq!(judged("x", &[pod("True", json!({"restartCount": 3}))])[0].mark, Mark::Fine);
    }
}
