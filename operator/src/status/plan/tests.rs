use std::sync::Arc;

use compiler::Malformed;
use table::Credentials;

use super::*;
use crate::status::{
    fleet::{Fleet, FleetName, Nack, PodId, PodState, Served},
    ledger::Ledger,
};

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
    health: Health,
    rounds: Rounds,
    versions: u64,
    /// Other replicas have not spoken yet.
    is_gathering: bool,
    /// The one fleet, where a DataPlane describes it.
    data_plane: Option<DataPlane>,
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
        let fleet = self.fleet();
        let state = PodState { root: Some(root.to_owned()), fleet, ..PodState::default() };
        self.acks.pods.insert(PodId::new("relay", name), state);
    }

    fn fleet(&self) -> FleetName {
        self.data_plane.as_ref().map(|_| id("edge"))
    }

    fn described_by(&mut self, spec: Value) {
        let metadata =
            json!({"name": "edge", "namespace": "team-a", "uid": "edge", "generation": 1, "resourceVersion": "1"});
        let manifest =
            json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "DataPlane", "metadata": metadata, "spec": spec});
        self.data_plane = Some(serde_json::from_value(manifest).unwrap());
    }

    fn round(&mut self, now: Timestamp) -> Round {
        let compilation = compiler::compile(&self.resources);
        let facts = Facts::of(&compilation.table, &compilation.reports);
        let name = self.fleet();
        let served = Served { table: &compilation.table, ledger: &self.ledger, is_deserted: false };
        let by_name = [(&name, Fleet::new(&name, &self.acks, served))].into();
        let root = compilation.table.digest().to_string();
        let described = name.as_ref().zip(self.data_plane.as_ref()).map(|(id, data_plane)| Described {
            id,
            data_plane,
            table: &compilation.table,
            acks: &self.acks,
            root: &root,
        });
        let view = View {
            resources: &self.resources,
            reports: &compilation.reports,
            table: &compilation.table,
            facts: &facts,
            fleets: &Fleets { by_name, is_gathering: self.is_gathering },
            health: &self.health,
            described: described.as_slice(),
        };
        self.rounds.round(&view, &Issued, now)
    }

    fn seen(&self, subject: &Subject) -> Base {
        if subject.kind == Kind::DataPlane {
            let data_plane = self.data_plane.as_ref().unwrap();
            return base(&data_plane.metadata, value(&data_plane.status));
        }
        let policy = &self.resources.policies[&subject.id];
        base(&policy.metadata, value(&policy.status))
    }

    /// A round whose statuses are written. Gives the names and whether they are ready.
    fn written(&mut self, now: Timestamp) -> Vec<(String, String)> {
        let mut written = Vec::new();
        for subject in self.round(now).subjects {
            let Verdict::Write(status) = verdict(&subject, &self.seen(&subject), now) else { continue };
            let ready = Said::of(&status).condition("Ready").map(|ready| ready.reason.clone());
            written.push((subject.id.name.clone(), ready.unwrap_or_default()));
            if subject.kind == Kind::DataPlane {
                self.data_plane.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
                continue;
            }
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
    let state = PodState { root: Some(root), revision: 1, nacks: vec![nack], ..PodState::default() };
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
    let [subject] = round.subjects.as_slice() else { panic!("{round:?}") };
    let seen = cluster.seen(subject);
    let Verdict::Write(status) = verdict(subject, &seen, at(0)) else { panic!("something is to be said") };
    assert_eq!(status["observedGeneration"], json!(2));
    let newer = Base { generation: 3, ..seen.clone() };
    assert_eq!(verdict(subject, &newer, at(0)), Verdict::Stale, "the spec has changed since");
    let said = Base { generation: 2, status: json!({"observedGeneration": 3}), ..seen };
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
    let [subject] = round.subjects.as_slice() else { panic!("{round:?}") };
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
    let token = table::Secret::new(b"a-token-of-more-than-thirty-two-characters".to_vec());
    cluster.resources.secrets.insert(id("app-token"), Arc::new([("token".to_owned(), token)].into()));
    cluster.publish();
    let round = cluster.round(at(0));
    assert_eq!(round.next, Some(at(60_000)));
    assert_eq!(round.subjects[0].fields["secretName"], json!("app-token"));
    assert!(cluster.round(at(59_999)).subjects.is_empty());
    assert_eq!(cluster.round(at(60_000)).subjects.len(), 1);
}

#[test]
fn one_that_knows_less_takes_nothing_back_for_a_while() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let old = cluster.publish();
    cluster.pod("one", &old);
    cluster.pod("two", &old);
    cluster.written(at(0));
    // The same generation means something else now, as when a Secret changed, and one pod does not take it.
    cluster.ledger.publish("other", Arc::default(), Arc::default());
    let new = cluster.publish();
    cluster.pod("one", &new);
    cluster.pod("two", "other");
    assert_eq!(cluster.written(at(1_000)), []);
    assert_eq!(cluster.written(at(1_500)), [], "it was in effect, and may be again in a moment");
    assert_eq!(cluster.round(at(1_600)).next, Some(after(at(1_000), LASTING)));
    assert_eq!(cluster.written(at(11_000)), some(&[("a", "PartiallyProgrammed")]));
    cluster.pod("two", &new);
    assert_eq!(cluster.written(at(11_100)), some(&[("a", "Ready")]));
}

#[test]
fn one_that_has_not_seen_a_token_yet_takes_back_nothing_that_another_said_of_it() {
    let lacks = compiler::Condition {
        r#type: ConditionType::ResolvedRefs,
        status: false,
        reason: Reason::SecretNotFound,
        message: String::new(),
    };
    let subject = |issue, is_lasting| Subject {
        kind: Kind::RelayKey,
        id: id("app"),
        report: Report {
            kind: Kind::RelayKey,
            id: id("app"),
            observed_generation: Some(1),
            conditions: vec![lacks.clone()],
            unmatched_globs: Vec::new(),
        },
        programmed: Programmed::NotInTable,
        issue: Some(issue),
        expires_at: None,
        breaker: None,
        is_lasting,
        is_paused: false,
        fields: Map::new(),
    };
    let condition = json!({
        "type": "Issued", "status": "True", "reason": "Issued", "message": "", "observedGeneration": 1,
        "lastTransitionTime": at(0).to_string(),
    });
    let status = json!({"observedGeneration": 1, "keyID": "abc", "conditions": [condition]});
    let base = Base { generation: 1, status, ..Base::default() };
    // It has not looked yet, or it has looked and not compiled what it saw.
    for issue in [Issue::Pending, Issue::Issued] {
        assert_eq!(verdict(&subject(issue.clone(), false), &base, at(0)), Verdict::Same);
        let lasting = verdict(&subject(issue, true), &base, at(0));
        assert!(matches!(lasting, Verdict::Write(_)), "it is missing for long: {lasting:?}");
    }
    let conflicted = Issue::Conflicted("it is somebody else's".to_owned());
    assert!(matches!(verdict(&subject(conflicted, false), &base, at(0)), Verdict::Write(_)));
}

#[test]
fn a_new_leader_waits_for_word_of_other_replicas_before_it_says_that_all_have_it() {
    let mut cluster = Cluster { is_gathering: true, ..Cluster::default() };
    cluster.policy("a", 1, all());
    let root = cluster.publish();
    cluster.pod("one", &root);
    assert_eq!(cluster.written(at(0)), []);
    assert_eq!(cluster.written(at(500)), some(&[("a", "Pending")]));
    cluster.is_gathering = false;
    assert_eq!(cluster.written(at(600)), some(&[("a", "Ready")]));
    cluster.is_gathering = true;
    cluster.rounds.forget_all();
    cluster.written(at(700));
    assert_eq!(cluster.written(at(5_000)), [], "what was said stands meanwhile");
}

#[test]
fn a_pod_that_moves_changes_nothing_and_one_that_is_behind_is_waited_for() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    let old = cluster.publish();
    cluster.pod("one", &old);
    cluster.pod("two", &old);
    cluster.written(at(0));
    let away = |cluster: &mut Cluster, is_away| {
        cluster.acks.pods.get_mut(&PodId::new("relay", "two")).unwrap().is_away = is_away;
    };
    away(&mut cluster, true);
    cluster.written(at(1_000));
    cluster.policy("b", 1, all());
    let new = cluster.publish();
    cluster.pod("one", &new);
    assert_eq!(cluster.written(at(2_000)), []);
    assert_eq!(cluster.written(at(2_500)), some(&[("b", "Pending")]), "the pod on its way does not have it");
    away(&mut cluster, false);
    cluster.acks.pods.get_mut(&PodId::new("relay", "two")).unwrap().is_silent = true;
    assert_eq!(cluster.written(at(3_000)), []);
    cluster.pod("two", &new);
    assert_eq!(cluster.written(at(3_100)), some(&[("b", "Ready")]));
}

#[test]
fn a_data_plane_counts_its_pods_and_is_not_written_at_every_change() {
    let mut cluster = Cluster::default();
    cluster.policy("a", 1, all());
    cluster.described_by(json!({}));
    let root = cluster.publish();
    assert_eq!(cluster.written(at(0)), some(&[("a", "NoDataPlane"), ("edge", "NoDataPlane")]));
    cluster.pod("one", &root);
    assert_eq!(cluster.written(at(100)), some(&[("a", "Ready")]));
    cluster.pod("two", &root);
    cluster.written(at(200));
    assert_eq!(cluster.round(at(300)).next, Some(after(at(0), COUNTED)));
    assert_eq!(cluster.written(at(3_000)), some(&[("edge", "Ready")]), "the last state is always written");
    let status = cluster.data_plane.as_ref().unwrap().status.clone().unwrap();
    let pods = status.pods.unwrap();
    assert_eq!((pods.connected, pods.current, pods.lagging, pods.nacked), (2, 2, 0, 0));
    assert_eq!(status.table, Some(root));
    let types: Vec<_> =
        status.conditions.unwrap().into_iter().map(|one| (one.type_, one.observed_generation)).collect();
    assert_eq!(types, ["Accepted", "Programmed", "Ready"].map(|of| (of.to_owned(), Some(1))));
    assert_eq!(cluster.written(at(60_000)), []);
}

#[test]
fn a_data_plane_that_selects_nothing_says_so() {
    let mut cluster = Cluster::default();
    cluster.described_by(json!({"selector": {"namespaces": ["elsewhere"]}}));
    let root = cluster.publish();
    cluster.pod("one", &root);
    assert_eq!(cluster.written(at(0)), some(&[("edge", "NoDataPlane")]));
    let conditions = cluster.data_plane.as_ref().unwrap().status.clone().unwrap().conditions.unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.message.starts_with("spec.selector selects no object"), "{}", ready.message);
}
