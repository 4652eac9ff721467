use std::sync::Arc;

use compiler::Malformed;
use table::Credentials;

use super::*;
use crate::status::fleet::{Acks, Nack, PodId, PodState};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn id(name: &str) -> ObjectRef {
    ObjectRef::new("team-a", name)
}

/// A token that was issued, for every RelayKey.
struct Issued;

impl Tokens for Issued {
    fn issue(&self, _: &ObjectRef) -> Option<Issue> {
        Some(Issue::Issued)
    }

    fn fields(&self, _: &ObjectRef) -> Map<String, Value> {
        Map::from_iter([("secretName".to_owned(), json!("app-token"))])
    }
}

/// A cluster of Policies and what leads it, without an API server.
#[derive(Default)]
struct Cluster {
    resources: Resources,
    acks: Acks,
    ledger: Ledger,
    rounds: Rounds,
    versions: u64,
}

impl Cluster {
    fn policy(&mut self, name: &str, generation: i64, spec: Value) {
        self.versions += 1;
        let status = self.resources.policies.get(&id(name)).and_then(|policy| policy.status.clone());
        let metadata = json!({
            "name": name, "namespace": "team-a", "uid": name, "generation": generation,
            "resourceVersion": self.versions.to_string(),
        });
        let manifest = json!({
            "apiVersion": "llmrelay.io/v1alpha1", "kind": "Policy", "metadata": metadata, "spec": spec, "status": status,
        });
        let policy: crds::Policy = serde_json::from_value(crds::without_nulls(&manifest)).unwrap();
        self.resources.policies.insert(id(name), Arc::new(policy));
    }

    /// Compiles and gives the table its number. Gives its root.
    fn publish(&mut self) -> String {
        let compilation = compiler::compile(&self.resources);
        let root = compilation.table.digest().to_string();
        self.ledger.publish(&root, Arc::new(compilation.table), Arc::new(Credentials::default()));
        root
    }

    fn pod(&mut self, name: &str, root: &str) {
        let state = PodState { root: Some(root.to_owned()), ..PodState::default() };
        self.acks.pods.insert(PodId::new("relay", name), state);
    }

    fn round(&mut self, now: Timestamp) -> Round {
        let compilation = compiler::compile(&self.resources);
        let facts = Facts::of(&compilation.table, &compilation.reports);
        let fleet = Fleet::new(&self.acks, &self.ledger, false);
        let view = View {
            resources: &self.resources,
            reports: &compilation.reports,
            table: &compilation.table,
            facts: &facts,
            fleet: &fleet,
            ledger: &self.ledger,
        };
        self.rounds.round(&view, &Issued, now)
    }

    /// A round whose statuses are written. Gives the names and whether they are ready.
    fn written(&mut self, now: Timestamp) -> Vec<(String, String)> {
        let mut written = Vec::new();
        for (subject, seen) in self.round(now).subjects {
            let Verdict::Write(status) = verdict(&subject, &seen.unwrap(), now) else { continue };
            let ready = Said::of(&status).condition("Ready").map(|ready| ready.reason.clone());
            written.push((subject.id.name.clone(), ready.unwrap_or_default()));
            let policy = Arc::make_mut(self.resources.policies.get_mut(&subject.id).unwrap());
            policy.status = Some(serde_json::from_value(status).unwrap());
        }
        written
    }
}

fn all() -> Value {
    json!({"models": {"allow": ["*"]}})
}

fn some(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())).collect()
}

#[test]
fn what_is_in_effect_is_said_once() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let root = cluster.publish();
    cluster.pod("one", &root);
    assert_eq!(cluster.written(at(0)), some(&[("a", "Ready")]));
    assert_eq!(cluster.written(at(1)), []);
    cluster.rounds.forget_all();
    assert_eq!(cluster.written(at(90_000)), [], "a new leader sees that all is said");
}

#[test]
fn acknowledgements_on_their_way_are_given_a_moment() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let old = cluster.publish();
    cluster.pod("one", &old);
    cluster.written(at(0));
    cluster.policy("b", 1, all());
    let new = cluster.publish();
    assert_eq!(cluster.written(at(1_000)), []);
    assert_eq!(cluster.round(at(1_100)).next, Some(after(at(1_000), PATIENCE)));
    cluster.pod("one", &new);
    assert_eq!(cluster.written(at(1_200)), some(&[("b", "Ready")]), "said once, and as it is now");
}

#[test]
fn acknowledgements_that_do_not_come_are_said_to_be_missing_on_what_changed_alone() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    cluster.policy("b", 1, all());
    let old = cluster.publish();
    cluster.pod("one", &old);
    cluster.pod("two", &old);
    cluster.written(at(0));
    cluster.policy("b", 2, json!({"models": {"allow": ["gpt-*"]}}));
    let new = cluster.publish();
    cluster.pod("one", &new);
    assert_eq!(cluster.written(at(1_000)), []);
    assert_eq!(cluster.written(at(1_500)), some(&[("b", "PartiallyProgrammed")]));
    cluster.pod("two", &new);
    assert_eq!(cluster.written(at(1_501)), some(&[("b", "Ready")]));
}

#[test]
fn a_pod_that_joins_or_leaves_changes_no_status() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let root = cluster.publish();
    cluster.pod("one", &root);
    cluster.written(at(0));
    cluster.acks.pods.insert(PodId::new("relay", "fresh"), PodState::default());
    cluster.written(at(1_000));
    assert_eq!(cluster.written(at(2_000)), []);
    cluster.acks.pods.clear();
    cluster.written(at(3_000));
    assert_eq!(cluster.written(at(4_000)), []);
}

#[test]
fn an_entry_that_a_pod_did_not_take_is_told_on_exactly_its_object() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    cluster.policy("b", 1, all());
    let root = cluster.publish();
    let nack = Nack { kind: Kind::Policy, id: id("b"), code: "BadPattern".to_owned(), message: "no".to_owned() };
    let state = PodState { root: Some(root), revision: 1, nacks: vec![nack] };
    cluster.acks.pods.insert(PodId::new("relay", "one"), state);
    assert_eq!(cluster.written(at(0)), some(&[("a", "Ready"), ("b", "Nacked")]));
}

#[test]
fn an_older_generation_is_never_written_over_a_newer_one() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 2, all());
    let root = cluster.publish();
    cluster.pod("one", &root);
    let round = cluster.round(at(0));
    let [(subject, Some(seen))] = round.subjects.as_slice() else { panic!("{round:?}") };
    let Verdict::Write(status) = verdict(subject, seen, at(0)) else { panic!("something is to be said") };
    assert_eq!(status["observedGeneration"], json!(2));
    let newer = Base { generation: 3, ..seen.clone() };
    assert_eq!(verdict(subject, &newer, at(0)), Verdict::Stale, "the spec has changed since");
    let said = Base { generation: 2, status: json!({"observedGeneration": 3}), ..seen.clone() };
    assert_eq!(verdict(subject, &said, at(0)), Verdict::Stale, "another replica knows more");
}

#[test]
fn a_paused_object_says_so_and_stays_as_it_is() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let root = cluster.publish();
    cluster.pod("one", &root);
    cluster.written(at(0));
    let policy = Arc::make_mut(cluster.resources.policies.get_mut(&id("a")).unwrap());
    policy.metadata.annotations = Some([(PAUSED.to_owned(), "true".to_owned())].into());
    policy.metadata.generation = Some(2);
    assert_eq!(cluster.written(at(1_000)), some(&[("a", "Ready")]));
    let status = &cluster.resources.policies[&id("a")].status.clone().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    let last = status.conditions.as_ref().unwrap().last().unwrap();
    assert_eq!((last.type_.as_str(), last.status.as_str(), last.reason.as_str()), ("Reconciling", "False", "Paused"));
    assert_eq!(cluster.written(at(2_000)), []);
    Arc::make_mut(cluster.resources.policies.get_mut(&id("a")).unwrap()).metadata.annotations = None;
    cluster.publish();
    assert_eq!(cluster.written(at(3_000)), some(&[("a", "Ready")]));
    let status = cluster.resources.policies[&id("a")].status.clone().unwrap();
    assert!(status.conditions.unwrap().iter().all(|condition| condition.type_ != "Reconciling"));
}

#[test]
fn an_object_that_could_not_be_read_is_told_about_though_it_was_not_seen() {
    let mut cluster = Cluster::default();
    let reason = "spec.models must be a map of fields".to_owned();
    cluster.resources.malformed.push(Malformed { kind: Kind::Policy, id: id("broken"), reason });
    cluster.publish();
    let round = cluster.round(at(0));
    let [(subject, None)] = round.subjects.as_slice() else { panic!("{round:?}") };
    let base = Base { generation: 4, ..Base::default() };
    let Verdict::Write(status) = verdict(subject, &base, at(0)) else { panic!("something is to be said") };
    let said = Said::of(&status);
    let accepted = said.condition("Accepted").unwrap();
    assert_eq!((accepted.reason.as_str(), accepted.observed_generation), ("Invalid", Some(4)));
    assert_eq!(accepted.message, "spec.models must be a map of fields");
    assert_eq!(said.condition("Stalled").map(|stalled| stalled.status.as_str()), Some("True"));
}

#[test]
fn a_key_that_ends_is_looked_at_again_when_it_does() {
    let mut cluster = Cluster::default();
    let manifest = json!({
        "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey",
        "metadata": {"name": "app", "namespace": "team-a", "uid": "app", "generation": 1, "resourceVersion": "1"},
        "spec": {"policyRefs": [{"name": "a"}], "secret": {"name": "app-token"}, "expiresAt": at(60_000).to_string()},
    });
    let key: crds::RelayKey = serde_json::from_value(manifest).unwrap();
    cluster.resources.relay_keys.insert(id("app"), Arc::new(key));
    cluster.publish();
    let round = cluster.round(at(0));
    assert_eq!(round.next, Some(at(60_000)));
    assert_eq!(round.subjects[0].0.fields["secretName"], json!("app-token"));
    assert!(cluster.round(at(59_999)).subjects.is_empty());
    assert_eq!(cluster.round(at(60_000)).subjects.len(), 1);
}
