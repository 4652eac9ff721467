//! What the status of a DataPlane counts: its pods, what they refuse, and which versions they run.

use std::collections::{BTreeMap, BTreeSet};

use crds::{FleetNack, FleetPods, FleetVersion, Kind};
use serde_json::{Map, Value, json};
use table::{ObjectRef, RoutingTable};

use super::fleet::{Acks, FleetName, PodState};

/// How many refused objects and versions a status lists.
const MOST: usize = 10;

/// Longest message that the CRD takes.
const LONGEST: usize = 512;

/// The fields of the status of a DataPlane besides its conditions. `root` is the digest of what is served to it.
pub fn fields(name: &FleetName, acks: &Acks, root: &str) -> Map<String, Value> {
    let pods: Vec<&PodState> = acks.pods.values().filter(|state| state.fleet == *name && !state.is_away).collect();
    let mut fields = Map::new();
    fields.insert("pods".to_owned(), json!(counts(&pods, root)));
    fields.insert("table".to_owned(), json!(root));
    for (field, list) in [("nacks", json!(nacks(&pods))), ("versions", json!(versions(&pods)))] {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            fields.insert(field.to_owned(), list);
        }
    }
    fields
}

/// Whether nothing of a table can be asked for.
pub fn is_empty(table: &RoutingTable) -> bool {
    let RoutingTable { hosts, models, host_keys, relay_keys, policies, .. } = table;
    hosts.is_empty() && models.is_empty() && host_keys.is_empty() && relay_keys.is_empty() && policies.is_empty()
}

/// Each pod is one of current, lagging and nacked.
fn counts(pods: &[&PodState], root: &str) -> FleetPods {
    let mut counts = FleetPods { connected: number(pods.len()), ..FleetPods::default() };
    let mut stale = 0;
    for pod in pods {
        if !pod.nacks.is_empty() || pod.refused.is_some() {
            counts.nacked += 1;
        } else if pod.root.as_deref() == Some(root) {
            counts.current += 1;
        } else {
            counts.lagging += 1;
            stale += u32::from(pod.is_restored);
        }
    }
    counts.stale = Some(stale);
    counts
}

/// What most pods refuse comes first.
fn nacks(pods: &[&PodState]) -> Vec<FleetNack> {
    let mut refused: BTreeMap<(Kind, &ObjectRef), (u32, &str)> = BTreeMap::new();
    for pod in pods {
        // A pod may refuse both the row and the credential of an object.
        let mut told = BTreeSet::new();
        for nack in pod.nacks.iter().filter(|nack| told.insert((nack.kind, &nack.id))) {
            refused.entry((nack.kind, &nack.id)).or_insert((0, &nack.message)).0 += 1;
        }
    }
    let mut refused: Vec<_> = refused.into_iter().collect();
    refused.sort_by_key(|((kind, id), (pods, _))| (std::cmp::Reverse(*pods), *kind, (*id).clone()));
    let nack = |((kind, id), (pods, message)): ((Kind, &ObjectRef), (u32, &str))| FleetNack {
        kind: kind.as_str().to_owned(),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        pods,
        message: cut(message),
    };
    refused.into_iter().take(MOST).map(nack).collect()
}

fn versions(pods: &[&PodState]) -> Vec<FleetVersion> {
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.build.is_empty()) {
        *counted.entry(&pod.build).or_default() += 1;
    }
    let version = |(version, pods): (&str, u32)| FleetVersion { version: version.chars().take(64).collect(), pods };
    counted.into_iter().take(MOST).map(version).collect()
}

fn cut(message: &str) -> String {
    let end = (0..=LONGEST.min(message.len())).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message[..end].to_owned()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::fleet::{Nack, PodId};

    fn pod(root: &str, change: impl FnOnce(&mut PodState)) -> PodState {
        let mut state = PodState { root: Some(root.to_owned()), build: "1.2.0".to_owned(), ..PodState::default() };
        change(&mut state);
        state
    }

    fn nack(name: &str, message: &str) -> Nack {
        let id = ObjectRef::new("team", name);
        Nack { kind: Kind::Model, id, code: "Bad".to_owned(), message: message.to_owned() }
    }

    fn told(pods: Vec<PodState>) -> Value {
        let pods = pods.into_iter().enumerate();
        let pods = pods.map(|(number, state)| (PodId::new("relay", format!("pod-{number}")), state)).collect();
        Value::Object(fields(&None, &Acks { pods }, "new"))
    }

    #[test]
    fn each_pod_is_counted_once_as_what_it_is() {
        let edge = Some(ObjectRef::new("relay", "edge"));
        let told = told(vec![
            pod("new", |_| {}),
            pod("old", |_| {}),
            pod("old", |pod| pod.is_restored = true),
            pod("new", |pod| pod.nacks = vec![nack("gpt", "is bad"), nack("gpt", "is bad")]),
            pod("old", |pod| pod.refused = Some("no".to_owned())),
            pod("new", |pod| pod.is_away = true),
            pod("new", |pod| pod.fleet = edge),
        ]);
        let counts = json!({"connected": 5, "current": 1, "lagging": 2, "nacked": 2, "stale": 1});
        assert_eq!(told["pods"], counts);
        assert_eq!(told["table"], "new");
        let nack = json!({"kind": "Model", "namespace": "team", "name": "gpt", "pods": 1, "message": "is bad"});
        assert_eq!(told["nacks"], json!([nack]));
        assert_eq!(told["versions"], json!([{"version": "1.2.0", "pods": 5}]));
    }

    #[test]
    fn what_most_pods_refuse_is_listed_and_the_rest_is_not() {
        let few =
            |pod: &mut PodState| pod.nacks = (0..20).map(|n| nack(&format!("m-{n:02}"), &"é".repeat(400))).collect();
        let told = told(vec![pod("new", few), pod("new", |pod| pod.nacks = vec![nack("m-19", "x")])]);
        let listed = told["nacks"].as_array().unwrap();
        assert_eq!(listed.len(), MOST);
        assert_eq!((&listed[0]["name"], &listed[0]["pods"]), (&json!("m-19"), &json!(2)));
        assert_eq!(listed[1]["message"], json!("é".repeat(256)), "no more than the CRD takes");
    }
}
