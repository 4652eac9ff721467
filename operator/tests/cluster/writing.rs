//! What the operator writes: statuses, Secrets, the Lease and Events, on a real API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use operator::{leading::Settings, rbac};
use parking_lot::Mutex;
use plane::Plane;
use serde_json::Value;
use table::token::TokenHash;

use crate::{
    pushing::{DataPlane, connected},
    support::{Running, config, manifests, start, start_as},
};

pub(crate) const KINDS: &str = "hosts,models,hostkeys,relaykeys,policies";

/// How long `kubectl wait` waits. Far more than it takes.
pub(crate) const PATIENCE: &str = "--timeout=60s";

/// A RelayKey whose token the operator makes.
fn minted(namespace: &str, name: &str, rotation: &str) -> String {
    format!(
        "apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{policyRefs: [{{name: all}}], secret: {{name: {name}-token}}, rotation: {rotation}}}
"
    )
}

pub(crate) fn wait(plane: &Plane, namespace: &str, what: &str, condition: &str) {
    let condition = format!("--for=condition={condition}");
    let wait = ["wait", what, "--all", "-n", namespace, PATIENCE, &condition];
    if let Err(error) = plane.try_kubectl(plane.kubeconfig(), &wait, "") {
        let statuses =
            "custom-columns=KIND:.kind,NAME:.metadata.name,CONDITIONS:.status.conditions[*]['type','status','reason']";
        panic!("{error}\n{}", plane.kubectl(&["get", what, "-n", namespace, "-o", statuses]));
    }
}

pub(crate) fn wait_for(plane: &Plane, namespace: &str, object: &str, path: &str) {
    plane.kubectl(&["wait", object, "-n", namespace, PATIENCE, &format!("--for=jsonpath={path}")]);
}

pub(crate) fn get(plane: &Plane, namespace: &str, what: &str) -> Value {
    serde_json::from_str(&plane.kubectl(&["get", what, "-n", namespace, "-o", "json"])).unwrap()
}

/// The versions of all objects of ours, by kind and name.
fn versions(plane: &Plane, namespace: &str) -> BTreeMap<String, String> {
    let list = get(plane, namespace, KINDS);
    let objects = list["items"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pairs = objects.map(|object| {
        let name = format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
        (name, text(&object["metadata"]["resourceVersion"]))
    });
    pairs.collect()
}

pub(crate) fn condition<'a>(object: &'a Value, of: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().expect("there are conditions");
    conditions.iter().find(|condition| condition["type"] == of).unwrap_or_else(|| panic!("no {of} in {object:#}"))
}

fn text_of(secret: &Value, entry: &str) -> Option<String> {
    let encoded = secret["data"].get(entry)?.as_str()?;
    let secret: Secret = serde_json::from_value(serde_json::json!({"data": {entry: encoded}})).unwrap();
    Some(String::from_utf8(secret.data.unwrap()[entry].0.clone()).unwrap())
}

/// Asks again and again until it is so.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

pub(crate) fn events(plane: &Plane, namespace: &str, reason: &str) -> Vec<String> {
    let list = get(plane, namespace, "events.events.k8s.io");
    let events = list["items"].as_array().unwrap().iter().filter(|event| event["reason"] == reason);
    events.map(|event| event["regarding"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_ready_when_every_data_plane_has_it() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    wait(plane, &namespace, KINDS, "Accepted");
    wait(plane, &namespace, KINDS, "Programmed=False");
    let lonely = get(plane, &namespace, "policies/all");
    assert_eq!(condition(&lonely, "Programmed")["reason"], "NoDataPlane");
    assert_eq!(condition(&lonely, "Ready")["status"], "False");
    let _operator_dataplane_0 = connected(plane, &operator, &namespace, "dataplane-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    let list = get(plane, &namespace, KINDS);
    let objects = list["items"].as_array().unwrap();
    assert_eq!(objects.len(), 5);
    for object in objects {
        let generation = &object["metadata"]["generation"];
        assert_eq!(&object["status"]["observedGeneration"], generation, "{object:#}");
        for of in ["Accepted", "ResolvedRefs", "Programmed", "Ready"] {
            let said = condition(object, of);
            assert_eq!((&said["status"], &said["observedGeneration"]), (&"True".into(), generation), "{said:#}");
        }
    }
    assert_eq!(get(plane, &namespace, "models/gpt")["status"]["bindings"][0]["ready"], true);
    assert_eq!(get(plane, &namespace, "hosts/openai")["status"]["keys"]["ready"], 1);
    assert_eq!(get(plane, &namespace, "relaykeys/app")["status"]["effectiveModels"], 1);
    let kept = plane.kubectl(&["get", "policy", "all", "-n", &namespace, "-o", "json", "--show-managed-fields"]);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let managers = kept["metadata"]["managedFields"].as_array().unwrap().iter();
    let ours: Vec<&Value> = managers.filter(|manager| manager["manager"] == "relay-operator").collect();
    assert_eq!(ours.len(), 1, "one entry, however often it is written: {kept:#}");
    assert_eq!((&ours[0]["operation"], &ours[0]["subresource"]), (&"Apply".into(), &"status".into()));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_nothing_changed_whoever_leads() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let first = start(plane.kubeconfig(), &[&namespace]).await;
    let _first_dataplane_0 = connected(plane, &first, &namespace, "dataplane-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    let before = versions(plane, &namespace);

    // Another object changes the table, and every pod takes it.
    plane.apply(&crate::support::relay_key(&namespace, "other", 7));
    wait_for(plane, &namespace, "relaykey/other", "{.status.conditions[?(@.type==\"Ready\")].status}=True");
    let _first_dataplane_1 = connected(plane, &first, &namespace, "dataplane-1").await;
    plane.apply(&crate::support::relay_key(&namespace, "third", 8));
    wait_for(plane, &namespace, "relaykey/third", "{.status.conditions[?(@.type==\"Ready\")].status}=True");
    let mut after = versions(plane, &namespace);
    let added = [after.remove("RelayKey/other"), after.remove("RelayKey/third")];
    assert!(added.iter().all(Option::is_some));
    // The Policy counts its keys.
    assert_ne!(after.remove("Policy/all"), None);
    let mut expected = before.clone();
    expected.remove("Policy/all");
    assert_eq!(after, expected);

    // The next leader finds that all is said.
    let settled = versions(plane, &namespace);
    first.stop().await;
    let second = start(plane.kubeconfig(), &[&namespace]).await;
    let _second_dataplane_0 = connected(plane, &second, &namespace, "dataplane-2").await;
    plane.apply(&crate::support::relay_key(&namespace, "fourth", 9));
    wait_for(plane, &namespace, "relaykey/fourth", "{.status.conditions[?(@.type==\"Ready\")].status}=True");
    let mut now = versions(plane, &namespace);
    now.remove("RelayKey/fourth");
    now.remove("Policy/all");
    let mut expected = settled;
    expected.remove("Policy/all");
    assert_eq!(now, expected);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_object_says_why_and_a_corrected_one_recovers() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&crate::support::relay_key(&namespace, "lost", 5).replace("name: all", "name: al"));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let _operator_dataplane_0 = connected(plane, &operator, &namespace, "dataplane-0").await;
    wait_for(
        plane,
        &namespace,
        "relaykey/lost",
        "{.status.conditions[?(@.type==\"ResolvedRefs\")].reason}=RefNotFound",
    );
    let lost = get(plane, &namespace, "relaykeys/lost");
    let message = condition(&lost, "ResolvedRefs")["message"].as_str().unwrap();
    assert!(message.contains("spec.policyRefs[0] `al`") && message.contains("did you mean `all`?"), "{message}");
    assert_eq!(condition(&lost, "Stalled")["status"], "True");
    plane.apply(&crate::support::relay_key(&namespace, "lost", 5));
    plane.kubectl(&["wait", "relaykey/lost", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    let found = get(plane, &namespace, "relaykeys/lost");
    let types: BTreeSet<&str> =
        found["status"]["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Accepted", "Programmed", "Ready", "ResolvedRefs"].into(), "what was said of the fault is gone");
    operator.stop().await;
}

/// Every token that every Secret of a namespace ever held, and every word on whether a RelayKey is ready.
pub(crate) struct Witness {
    tokens: Arc<Mutex<BTreeMap<String, BTreeSet<Vec<u8>>>>>,
    ready: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Witness {
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        let witness = Self { tokens: Arc::default(), ready: Arc::default() };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let tokens = witness.tokens.clone();
        tokio::spawn(watcher(secrets, watcher::Config::default()).applied_objects().try_for_each(move |secret| {
            let token = secret.data.and_then(|mut data| data.remove("token"));
            let name = secret.metadata.name.unwrap_or_default();
            if let Some(token) = token {
                tokens.lock().entry(name).or_default().insert(token.0);
            }
            std::future::ready(Ok(()))
        }));
        let keys: Api<crds::RelayKey> = Api::namespaced(client.clone(), namespace);
        let ready = witness.ready.clone();
        tokio::spawn(watcher(keys, watcher::Config::default()).applied_objects().try_for_each(move |key| {
            let conditions = key.status.and_then(|status| status.conditions).unwrap_or_default();
            let word = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            if let Some(word) = word {
                let mut ready = ready.lock();
                let said = ready.entry(key.metadata.name.unwrap_or_default()).or_default();
                let word = format!("{} {}: {}", word.status, word.reason, word.message);
                if said.last() != Some(&word) {
                    said.push(word);
                }
            }
            std::future::ready(Ok(()))
        }));
        witness
    }

    fn assert_one_token_each(&self, names: &[String]) {
        let tokens = self.tokens.lock();
        for name in names {
            assert_eq!(tokens[&format!("{name}-token")].len(), 1, "{name} was minted more than once");
        }
    }

    pub(crate) fn assert_never_less_ready_than_before(&self) {
        for (name, said) in &*self.ready.lock() {
            let fallen = said.windows(2).any(|pair| pair[0].starts_with("True") && !pair[1].starts_with("True"));
            assert!(!fallen, "the status of {name} flapped: {said:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_both_lead_mint_once_and_do_no_harm() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    // Each has a Lease of its own, in a namespace of its own, so both write.
    let mut operators: Vec<(Running, DataPlane)> = Vec::new();
    for _ in 0..2 {
        let own = plane.namespace();
        let mut config = config(&[&own, &namespace]);
        config.catalog_namespace = Some(namespace.clone());
        let operator = start_as(plane.kubeconfig(), config).await;
        let pod = connected(plane, &operator, &own, "dataplane-0").await;
        operators.push((operator, pod));
    }
    wait(plane, &namespace, KINDS, "Ready");
    let witness = Witness::new(&plane.client().await, &namespace);
    let names: Vec<String> = (0..25).map(|n| format!("key-{n}")).collect();
    plane.apply(&names.iter().map(|name| minted(&namespace, name, "{trigger: 0}")).collect::<Vec<_>>().join("---\n"));
    wait(plane, &namespace, "relaykeys", "Ready");
    wait(plane, &namespace, "relaykeys", "Accepted");
    let issued = eventually("every key has its Event", || {
        let issued = events(plane, &namespace, "TokenIssued");
        (issued.len() >= names.len()).then_some(issued)
    })
    .await;
    assert_eq!(issued.len(), names.len(), "each was issued once: {issued:?}");
    witness.assert_one_token_each(&names);
    witness.assert_never_less_ready_than_before();
    for name in &names {
        let secret = get(plane, &namespace, &format!("secret/{name}-token"));
        let key = get(plane, &namespace, &format!("relaykey/{name}"));
        let token = text_of(&secret, "token").unwrap();
        let id = key["status"]["keyID"].as_str().unwrap();
        assert!(token.starts_with(&format!("sk-relay-{id}")), "the status tells of the token that is there");
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], key["metadata"]["uid"]);
    }
    for (operator, _pod) in operators {
        let (_, metrics) = operator.ask("/metrics").await;
        assert!(metrics.contains("relay_operator_leading 1"), "both led: {metrics}");
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_trigger_replaces_the_token_and_the_old_one_ends_after_its_overlap() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&minted(&namespace, "turning", "{trigger: 0, overlap: 3s}"));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let _operator_dataplane_0 = connected(plane, &operator, &namespace, "dataplane-0").await;
    plane.kubectl(&["wait", "relaykey/turning", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    let secret = || get(plane, &namespace, "secret/turning-token");
    let old = text_of(&secret(), "token").unwrap();
    assert_eq!(text_of(&secret(), "token-previous"), None);

    // Both are good for a few seconds only, which may pass before this test has asked for the Secret.
    let mut seen = operator.every();
    plane.apply(&minted(&namespace, "turning", "{trigger: 1, overlap: 3s}"));
    let new = eventually("the token is another", || text_of(&secret(), "token").filter(|token| *token != old)).await;
    let id = table::ObjectRef::new(&namespace, "turning");
    let hashes = |published: &operator::Published| {
        let key = published.table.relay_keys.get(&id)?.usable()?;
        let previous = key.previous.as_ref().map(|previous| previous.token_sha256.clone());
        Some((key.token_sha256.clone(), previous))
    };
    let (new_hash, old_hash) = (TokenHash::of(&new).to_string(), TokenHash::of(&old).to_string());
    let both = (new_hash.clone(), Some(old_hash));
    let were_both = async { while hashes(&seen.recv().await.expect("it is not over")).as_ref() != Some(&both) {} };
    tokio::time::timeout(Duration::from_secs(60), were_both).await.expect("both tokens are good");
    operator.until("the old one has ended", |now| hashes(now) == Some((new_hash.clone(), None))).await;
    assert_eq!(text_of(&secret(), "token-previous"), None);
    assert_eq!(text_of(&secret(), "token").as_ref(), Some(&new), "it was replaced once");
    wait_for(plane, &namespace, "relaykey/turning", "{.status.tokens[0].state}=Active");
    let told = eventually("the status has one token", || {
        let key = get(plane, &namespace, "relaykey/turning");
        (key["status"]["tokens"].as_array()?.len() == 1).then_some(key)
    })
    .await;
    assert!(new.contains(told["status"]["keyID"].as_str().unwrap()));
    eventually("it is told", || (events(plane, &namespace, "TokenRotated") == ["turning"]).then_some(())).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_not_touched_and_a_lost_one_is_made_again() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&crate::support::secret(&namespace, "taken-token", "somebody-elses-value-of-thirty-two-or-more"));
    let before = get(plane, &namespace, "secret/taken-token");
    plane.apply(&minted(&namespace, "taken", "{trigger: 0}"));
    plane.apply(&minted(&namespace, "lost", "{trigger: 0}"));
    let operator = start(plane.kubeconfig(), &[&namespace]).await;
    let _operator_dataplane_0 = connected(plane, &operator, &namespace, "dataplane-0").await;
    wait_for(plane, &namespace, "relaykey/taken", "{.status.conditions[?(@.type==\"Accepted\")].reason}=Conflicted");
    assert_eq!(get(plane, &namespace, "secret/taken-token"), before);
    eventually("the conflict is told", || (!events(plane, &namespace, "Conflicted").is_empty()).then_some(())).await;

    plane.kubectl(&["wait", "relaykey/lost", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    let old = text_of(&get(plane, &namespace, "secret/lost-token"), "token").unwrap();
    plane.kubectl(&["delete", "secret", "lost-token", "-n", &namespace]);
    let new = eventually("there is another", || {
        let found =
            plane.kubectl(&["get", "secret", "lost-token", "-n", &namespace, "-o", "json", "--ignore-not-found"]);
        text_of(&serde_json::from_str(&found).ok()?, "token")
    })
    .await;
    assert_ne!(new, old, "a token that was lost does not come back");
    eventually("it is told", || (events(plane, &namespace, "TokenReissued") == ["lost"]).then_some(())).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_another_takes_over_and_rewrites_nothing() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    // Short, as it is waited for; still so long that the first does not lose it where the API server is slow.
    let leading = Settings {
        lease_duration: Duration::from_secs(10),
        lease_renew_deadline: Duration::from_secs(8),
        lease_retry: Duration::from_millis(200),
    };
    let mut config = config(&[&namespace]);
    config.leading = leading;
    let first = start_as(plane.kubeconfig(), config.clone()).await;
    let _first_dataplane_0 = connected(plane, &first, &namespace, "dataplane-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    let second = start_as(plane.kubeconfig(), config).await;
    let _second_dataplane_0 = connected(plane, &second, &namespace, "dataplane-2").await;
    let holder =
        || get(plane, &namespace, "lease/relay-operator")["spec"]["holderIdentity"].as_str().map(str::to_owned);
    let killed = holder();
    let before = versions(plane, &namespace);
    first.kill();
    plane.apply(&minted(&namespace, "after", "{trigger: 0}"));
    plane.kubectl(&["wait", "relaykey/after", "-n", &namespace, PATIENCE, "--for=condition=Ready"]);
    assert_ne!(holder(), killed);
    let mut after = versions(plane, &namespace);
    after.remove("RelayKey/after");
    after.remove("Policy/all");
    let mut expected = before;
    expected.remove("Policy/all");
    assert_eq!(after, expected);
    second.stop().await;
    assert_eq!(holder().as_deref(), Some(""), "an operator that stops gives the Lease back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_are_printed_are_enough_and_no_more() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let (own, team, other) = (plane.namespace(), plane.namespace(), plane.namespace());
    let account = plane.service_account(&own, "relay-operator").await;
    let settings = config(&[&own, &team]);
    let namespaces = settings.namespaces(&own).unwrap();
    let accounts = operator::config::accounts(&own, &settings.data_plane_accounts).unwrap();
    let subject = rbac::Subject::new(&namespaces, "relay-operator".to_owned(), &accounts);
    plane.apply(&rbac::yaml(&subject));
    plane.apply(&manifests(&team));
    plane.apply(&minted(&team, "minted", "{trigger: 0}"));
    let kubeconfig = account.kubeconfig().await;
    let mut operator = start_as(&kubeconfig, config(&[&own, &team])).await;
    let _pod = connected(&plane, &operator, &own, "dataplane-0").await;
    operator.until("something is published", |_| true).await;
    wait(&plane, &team, KINDS, "Ready");
    plane.apply(&minted(&team, "minted", "{trigger: 1}"));
    eventually("the token was replaced", || (events(&plane, &team, "TokenRotated") == ["minted"]).then_some(())).await;
    let (status, metrics) = operator.ask("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        !metrics.lines().any(|line| line.starts_with("relay_operator_watch_failing") && line.ends_with(" 1")),
        "{metrics}"
    );
    assert!(metrics.contains("relay_operator_status_writes_total{outcome=\"failed\"} 0\n"), "{metrics}");
    assert!(metrics.contains("relay_operator_events_failed_total 0"), "{metrics}");

    let may = |namespace: &str, verb: &str, what: &str| {
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        let arguments = ["auth", "can-i", verb, what, "-n", namespace, &part];
        plane.try_kubectl(&kubeconfig, &arguments, "").is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may(&team, "get", "secrets") && may(&team, "patch", "relaykeys.llmrelay.io/status"));
    for (namespace, verb, what) in [
        (&other, "get", "secrets"),
        (&other, "list", "relaykeys.llmrelay.io"),
        (&team, "delete", "secrets"),
        (&team, "update", "relaykeys.llmrelay.io"),
        (&team, "patch", "relaykeys.llmrelay.io"),
        (&team, "get", "leases.coordination.k8s.io"),
        (&own, "delete", "leases.coordination.k8s.io"),
        (&team, "create", "pods"),
    ] {
        assert!(!may(namespace, verb, what), "the operator may {verb} {what} in {namespace}");
    }
    operator.stop().await;
}
