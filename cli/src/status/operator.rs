//! The operator's replicas: which of them leads, by its Lease, and which are there, by their pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Doing, Fault, Home, Leader, Trouble};

/// The label of the operator's pods.
const LABEL: &str = "app.kubernetes.io/name=relay-operator";

/// The operator as a whole.
pub(super) struct Operator {
    /// Its Lease, or why it is not known.
    pub(super) leader: Result<Leader, String>,
    /// Its pods, each with whether it is ready; none where they may not be seen or are labelled otherwise.
    replicas: Vec<(String, bool)>,
    now: Timestamp,
}

impl Operator {
    pub(super) async fn read(cluster: &Cluster, home: &Home) -> Result<Self, Fault> {
        let leader = home.leader(cluster).await?;
        let replicas = match &leader {
            Ok(leader) => replicas(cluster, &leader.namespace).await?,
            Err(_) => Vec::new(),
        };
        Ok(Self { leader, replicas, now: Timestamp::now() })
    }

    /// Whether somebody keeps statuses up to date; where that is not known, it is taken to be so.
    pub(super) fn is_led(&self) -> bool {
        self.leader.as_ref().map_or(true, |leader| leader.is_led(self.now))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let leader = match &self.leader {
            Ok(leader) => leader,
            Err(reason) => return vec![format!("Operator: {reason}")],
        };
        let mut lines = vec![self.leading(leader)];
        if !self.replicas.is_empty() {
            let names = self.replicas.iter().map(
                |(name, is_ready)| {
                    if *is_ready { name.clone() } else { format!("{name} (not ready)") }
                },
            );
            lines.push(format!("Replicas: {}", names.collect::<Vec<_>>().join(", ")));
        }
        lines
    }

    fn leading(&self, leader: &Leader) -> String {
        let namespace = &leader.namespace;
        let age = leader.age_s(self.now).map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
        match leader.pod() {
            Some(pod) if leader.is_led(self.now) => {
                format!("Operator: `{pod}` leads in namespace `{namespace}` (renewed {age})")
            }
            Some(pod) => format!(
                "Operator: nobody leads in namespace `{namespace}`: `{pod}` did last (renewed {age}), so that statuses are \
                 not kept up to date and no token is made"
            ),
            None => format!(
                "Operator: nobody leads in namespace `{namespace}`: the Lease was given back, so that statuses are not kept \
                 up to date and no token is made"
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        match &self.leader {
            Ok(leader) => json!({
                "namespace": leader.namespace,
                "leader": leader.pod(),
                "isLed": leader.is_led(self.now),
                "renewedAt": leader.renewed.map(|at| at.to_string()),
                "replicas": self.replicas.iter().map(|(name, ready)| json!({"pod": name, "ready": ready})).collect::<Vec<_>>(),
            }),
            Err(reason) => json!({"unknown": reason}),
        }
    }
}

async fn replicas(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, bool)>, Fault> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "list", group: "", plural: "pods", namespace: Some(namespace), name: None };
    match cluster.list_of(doing, &api, ListParams::default().labels(LABEL)).await {
        Ok(pods) => Ok(pods.iter().map(|pod| (pod.name_any(), is_ready(pod))).collect()),
        // Who may not see pods still sees the rest.
        Err(fault) if fault.trouble == Trouble::Forbidden => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
