//! What is watched of a real API server comes into effect: objects, what they name, and what cannot be read.

use crate::support::{has_key, manifests, reason, relay_key, secret, start};
use compiler::{ConditionType, Reason};
use crds::Kind;
use plane::Plane;
use serde_json::json;
use table::{Credential, ObjectRef};

fn credential(published: &operator::Published, id: &ObjectRef) -> Option<String> {
    match published.credentials.host_keys.get(id)? {
        Credential::Value(value) => Some(value.expose().clone()),
        Credential::File(_) | Credential::Env(_) | Credential::Sealed(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_table_is_whole() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let first = operator.until("something is published", |_| true).await;
    let id = |name: &str| ObjectRef::new(&namespace, name);
    assert!(first.reports.iter().all(|report| !report.is_refused()), "{:#?}", first.reports);
    assert_eq!(first.reports.len(), 5);
    assert_eq!(credential(&first, &id("main")).as_deref(), Some("sk-provider"));
    assert!(has_key(&first.table, &id("app")));
    assert_eq!((first.revision, first.table.settings.catalog_namespace.as_str()), (1, namespace.as_str()));
    let generation = first.reports[0].observed_generation;
    assert_eq!(generation, Some(1));
    for kind in ["hosts", "models", "hostkeys", "relaykeys", "policies", "secrets", "configmaps"] {
        let position = first.source_vector.0[&format!("{kind}/{namespace}")];
        assert!(position.version > 0, "{kind}");
        assert_eq!(position.state == 0, kind == "configmaps", "{kind}: {position:?}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_says_what_is_missing_until_all_is_there() {
    let Some(plane) = Plane::start() else { return };
    // Without definitions there is nothing to watch.
    let namespace = plane.namespace();
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let says_why = async {
        loop {
            let (status, body) = operator.ask("/readyz").await;
            assert_eq!(status, 503, "{body}");
            if body.contains(&format!("hosts/{namespace} (")) && !body.contains("secrets/") {
                break body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let why =
        tokio::time::timeout(std::time::Duration::from_secs(60), says_why).await.expect("it says what is missing");
    assert!(why.starts_with("not ready: not listed yet: hosts/") && why.contains("404"), "{why}");
    plane.install_crds();
    plane.apply(&manifests(&namespace));
    operator.until("all is there", |now| now.reports.len() == 5).await;
    assert_eq!(operator.ask("/readyz").await, (200, "ready\n".to_owned()));
    let (_, metrics) = operator.ask("/metrics").await;
    assert!(metrics.contains("relay_operator_objects{kind=\"RelayKey\",refused=\"false\"} 1"), "{metrics}");
    let watched = format!("relay_operator_watch_failing{{collection=\"hosts/{namespace}\"}} 0");
    assert!(metrics.contains(&watched), "{metrics}");
    let (_, table) = operator.ask("/debug/table").await;
    assert!(table.contains("api.example") && !table.contains("sk-provider"), "{table}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_followed_through_change_deletion_and_return() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let key = ObjectRef::new(&namespace, "main");
    let found = |now: &operator::Published| credential(now, &key);
    operator.until("the key has its credential", |now| found(now).as_deref() == Some("sk-provider")).await;
    plane.apply(&secret(&namespace, "provider", "sk-second"));
    operator.until("the credential has changed", |now| found(now).as_deref() == Some("sk-second")).await;
    plane.kubectl(&["delete", "secret", "provider", "-n", &namespace]);
    let gone = operator.until("the credential is gone", |now| found(now).is_none()).await;
    let said = reason(&gone, Kind::HostKey, &key, ConditionType::ResolvedRefs).unwrap();
    assert_eq!((said.0, said.1), (false, Reason::SecretNotFound));
    plane.apply(&secret(&namespace, "provider", "sk-third"));
    operator.until("the credential is back", |now| found(now).as_deref() == Some("sk-third")).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_comes_into_effect_together_with_its_secret() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    operator.until("something is published", |_| true).await;
    let mut seen = operator.every();
    for number in 0..20 {
        let name = format!("key-{number}");
        let key = format!(
            "apiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{hostRef: {{name: openai}}, source: {{secretKeyRef: {{name: {name}, key: token}}}}}}\n"
        );
        plane.apply(&format!("{}---\n{key}", secret(&namespace, &name, "sk-x")));
    }
    operator.until("all keys are there", |now| now.credentials.host_keys.len() == 21).await;
    operator.stop().await;
    while let Some(published) = seen.recv().await {
        assert!(published.reports.iter().all(|report| !report.is_refused()), "{:#?}", published.reports);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_revoked_keys_are_urgent_and_what_is_no_change_is_not_compiled() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&relay_key(&namespace, "other", 1));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let id = |name: &str| ObjectRef::new(&namespace, name);
    let first = operator.until("both keys are there", |now| has_key(&now.table, &id("other"))).await;

    plane.kubectl(&["delete", "relaykey", "app", "-n", &namespace]);
    let second = operator.until("the key is gone", |now| !now.table.relay_keys.contains_key(&id("app"))).await;
    assert!(second.is_urgent_since(first.revision));

    let compiled =
        |operator: &crate::support::Running| operator.now().map(|now| std::sync::Arc::as_ptr(&now.resources));
    let before = compiled(&operator);
    let status = json!({"status": {"effectiveModels": 7}}).to_string();
    plane.kubectl(&[
        "patch",
        "relaykey",
        "other",
        "-n",
        &namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
    // What comes after the status shows that the status was heard.
    let seen = async {
        loop {
            let key = operator.world.relay_key(&id("other")).unwrap();
            if key.status.as_ref().is_some_and(|status| status.effective_models == Some(7)) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.expect("the status is heard");
    assert_eq!(compiled(&operator), before, "a status is no reason to compile");

    let revoked = json!({"spec": {"revoked": true}}).to_string();
    plane.kubectl(&["patch", "relaykey", "other", "-n", &namespace, "--type=merge", "-p", &revoked]);
    let is_revoked = |now: &operator::Published| {
        now.table.relay_keys.get(&id("other")).and_then(table::Row::usable).is_some_and(|key| key.revoked)
    };
    let third = operator.until("the key is revoked", is_revoked).await;
    assert!(third.is_urgent_since(second.revision) && !third.is_urgent_since(third.revision));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_namespaces_that_are_asked_for_are_watched() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let (ours, theirs) = (plane.namespace(), plane.namespace());
    plane.apply(&manifests(&ours));
    plane.apply(&manifests(&theirs));
    let mut one = start(plane.kubeconfig(), &[&ours]).await;
    let mut both = start(plane.kubeconfig(), &[&ours, &theirs]).await;
    let hosts = |published: &operator::Published| published.table.hosts.len();
    assert_eq!(hosts(&*one.until("ours is there", |_| true).await), 1);
    assert_eq!(hosts(&*both.until("both are there", |_| true).await), 2);
    one.stop().await;
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fleets_get_what_their_data_plane_selects() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let (own, other) = (plane.namespace(), plane.namespace());
    plane.apply(&manifests(&own));
    plane.apply(&manifests(&other));
    let fleet = |namespace: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: llmrelay.io/v1alpha1\nkind: DataPlane\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {spec}\n"
        )
    };
    plane.apply(&fleet(&own, "all", "{}"));
    plane.apply(&fleet(
        &own,
        "edge",
        &format!("{{selector: {{namespaces: [{other}]}}, serviceAccounts: [{{name: edge}}]}}"),
    ));
    plane.apply(&fleet(&other, "thief", "{serviceAccounts: [{name: thief}]}"));
    let mut operator = start(plane.kubeconfig(), &[&own, &other]).await;
    let first = operator.until("something is published", |_| true).await;
    let names: Vec<&str> = first.fleets.keys().map(|id| id.name.as_str()).collect();
    assert_eq!(names, ["all", "edge"], "only a DataPlane of the operator's own namespace counts");
    let of = |account| first.fleet_of(&own, account).unwrap().1;
    assert_eq!(of("edge").table.hosts.keys().map(|id| &id.namespace).collect::<Vec<_>>(), [&other]);
    assert_eq!(of("edge").credentials.host_keys.len(), 1);
    assert_eq!(of("anybody").table.hosts.len(), 2);

    let wider = format!("{{selector: {{namespaces: [{own}, {other}]}}, serviceAccounts: [{{name: edge}}]}}");
    plane.apply(&fleet(&own, "edge", &wider));
    let edge = ObjectRef::new(&own, "edge");
    let second = operator.until("the fleet has more", |now| now.fleets[&edge].table.hosts.len() == 2).await;
    assert!(second.revision > first.revision);
    plane.kubectl(&["delete", "dataplane", "edge", "-n", &own]);
    operator.until("the fleet is gone", |now| now.fleets.len() == 1).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_secrets_that_are_named_are_read() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&secret(&namespace, "stranger", "sk-canary"));
    // A role that lets one Secret be read and no other: what is not named needs no permission.
    let account = plane.service_account(&namespace, "operator").await;
    plane.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: watch-{namespace}}}
rules:
- {{apiGroups: [llmrelay.io], resources: ['*'], verbs: [list, watch]}}
- {{apiGroups: [''], resources: [namespaces, secrets, configmaps], verbs: [list, watch]}}
- {{apiGroups: [''], resources: [secrets], resourceNames: [provider], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: watch-{namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watch-{namespace}}}
subjects: [{{kind: ServiceAccount, name: operator, namespace: {namespace}}}]
"
    ));
    let mut operator = start(&account.kubeconfig().await, &[&namespace]).await;
    let first = operator.until("something is published", |_| true).await;
    assert_eq!(first.resources.secrets.keys().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["provider"]);

    // One that is named and may not be read costs only who names it.
    let key = "apiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {name: curious, namespace: NS}\n\
               spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: stranger, key: token}}}\n";
    plane.apply(&key.replace("NS", &namespace));
    let curious = ObjectRef::new(&namespace, "curious");
    let said = |now: &operator::Published| reason(now, Kind::HostKey, &curious, ConditionType::ResolvedRefs);
    let now = operator.until("the key is refused", |now| said(now).is_some()).await;
    assert_eq!(said(&now).map(|said| (said.0, said.1)), Some((false, Reason::SecretNotFound)));
    assert_eq!(credential(&now, &ObjectRef::new(&namespace, "main")).as_deref(), Some("sk-provider"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_secrets_that_relay_made_are_read_by_a_list_and_of_others_nothing_is_kept() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let names: Vec<String> = (0..20).map(|n| format!("minted-{n}")).collect();
    let key = |name: &String| {
        format!(
            "apiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{policyRefs: [{{name: all}}], secret: {{name: {name}}}}}\n"
        )
    };
    plane.apply(&names.iter().map(key).collect::<Vec<_>>().join("---\n"));
    let uids = plane.kubectl(&["get", "relaykeys", "-n", &namespace, "-o", "json"]);
    let uids: serde_json::Value = serde_json::from_str(&uids).unwrap();
    let minted = |name: &str, owners: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"token": format!("{name}-0123456789-0123456789-0123456789")},
            "metadata": {
                "name": name, "namespace": namespace, "labels": {"llmrelay.io/managed": "true"}, "ownerReferences": owners,
            },
        })
    };
    let mut secrets = vec![minted("labelled-stranger", json!([]))];
    for object in uids["items"].as_array().unwrap() {
        let (name, uid) = (object["metadata"]["name"].as_str().unwrap(), &object["metadata"]["uid"]);
        let owner = json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "name": name, "uid": uid});
        if name.starts_with("minted-") {
            secrets.push(minted(name, json!([owner])));
        }
    }
    plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": secrets}).to_string());
    // A role that lets Secrets be listed and none be read by name, so that only lists can bring them.
    let account = plane.service_account(&namespace, "operator").await;
    plane.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: watch-{namespace}}}
rules:
- {{apiGroups: [llmrelay.io], resources: ['*'], verbs: [list, watch]}}
- {{apiGroups: [''], resources: [namespaces, secrets, configmaps], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: watch-{namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watch-{namespace}}}
subjects: [{{kind: ServiceAccount, name: operator, namespace: {namespace}}}]
"
    ));
    let mut operator = start(&account.kubeconfig().await, &[&namespace]).await;
    let first = operator.until("something is published", |_| true).await;
    let mut held: Vec<String> = first.resources.secrets.keys().map(|id| id.name.clone()).collect();
    let mut wanted = names.clone();
    held.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(held, wanted);
    assert!(names.iter().all(|name| has_key(&first.table, &ObjectRef::new(&namespace, name))));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_an_older_schema_let_in_costs_only_itself() {
    // Its definition is changed, so no other test may use it.
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let strict = serde_json::to_value(crds::definition(Kind::Policy)).unwrap();
    let mut lenient = strict.clone();
    lenient["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    plane.kubectl(&["delete", "policy", "--all", "-n", &namespace]);
    let install = |definition: &serde_json::Value| {
        let forced = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        plane.try_kubectl(plane.kubeconfig(), &forced, &definition.to_string()).unwrap();
    };
    install(&lenient);
    let bad = "apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {name: bad, namespace: NS}\n\
               spec: {models: sk-canary, limits: {rpm: many}}\n";
    let applied = || plane.try_kubectl(plane.kubeconfig(), &["create", "-f", "-"], &bad.replace("NS", &namespace));
    // The API server takes a moment until it judges by the new definition.
    let mut tries = 0;
    while let Err(error) = applied() {
        tries += 1;
        assert!(tries < 600, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    install(&strict);
    let good = "apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {name: all, namespace: NS}\n\
                spec: {models: {allow: ['*']}, hosts: {allow: ['*']}}\n";
    plane.apply(&good.replace("NS", &namespace));

    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let first = operator.until("something is published", |_| true).await;
    let said = reason(&first, Kind::Policy, &ObjectRef::new(&namespace, "bad"), ConditionType::Accepted).unwrap();
    assert_eq!((said.0, said.1), (false, Reason::Invalid));
    assert!(said.2.contains("spec.models") && said.2.contains("spec.limits.rpm"), "{}", said.2);
    assert!(!said.2.contains("canary"), "{}", said.2);
    assert!(has_key(&first.table, &ObjectRef::new(&namespace, "app")));

    // And the watch goes on.
    plane.apply(&relay_key(&namespace, "late", 2));
    let late = ObjectRef::new(&namespace, "late");
    operator.until("another object is heard of", |now| has_key(&now.table, &late)).await;
    plane.kubectl(&["delete", "policy", "bad", "-n", &namespace]);
    operator.until("the bad one is gone", |now| now.reports.iter().all(|report| !report.is_refused())).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_and_forgot_is_followed_again() {
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    plane.apply(&relay_key(&namespace, "doomed", 1));
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    let doomed = ObjectRef::new(&namespace, "doomed");
    let before = operator.until("all is there", |now| has_key(&now.table, &doomed)).await;

    plane.kill_api();
    let failing = async {
        while operator.world.standings().iter().any(|standing| standing.failing.is_none()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), failing).await.expect("every watch says that it fails");
    assert_eq!(operator.now().unwrap().table, before.table, "what was compiled stays");

    plane.start_api();
    // The operator may be back at once or after this: either way it converges.
    plane.kubectl(&["delete", "relaykey", "doomed", "-n", &namespace]);
    plane.apply(&relay_key(&namespace, "late", 2));
    plane.apply(&secret(&namespace, "provider", "sk-second"));
    let main = ObjectRef::new(&namespace, "main");
    let late = ObjectRef::new(&namespace, "late");
    let after = operator.until("everything converged", |now| {
        has_key(&now.table, &late)
            && !has_key(&now.table, &doomed)
            && credential(now, &main).as_deref() == Some("sk-second")
    });
    let after = after.await;
    assert!(!after.source_vector.is_older_than(&before.source_vector));
    assert!(before.source_vector.is_older_than(&after.source_vector));

    let lists =
        |operator: &crate::support::Running| -> u64 { operator.world.standings().iter().map(|at| at.lists).sum() };
    let listed = lists(&operator);

    // Everything since is compacted away while nobody serves it, so that watches hear 410 Gone.
    plane.kill_api();
    plane.start_api();
    plane.kubectl(&["delete", "relaykey", "late", "-n", &namespace]);
    plane.compact();
    plane.kill_api();
    plane.start_api();
    operator.until("the deletion is known", |now| !has_key(&now.table, &late)).await;
    assert!(lists(&operator) > listed, "the operator had to list anew");
    operator.stop().await;
}
