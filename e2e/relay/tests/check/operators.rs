//! Operators that are down, that nobody leads, or that may not do what they have to.

use serde_json::json;

use crate::installed::{Installed, of};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_down_is_told_of() {
    let Some(mut installed) = Installed::new().await else { return };
    installed.operator.daemon.stop();
    installed.ready_replicas("relay-operator", 0);
    installed.status("pod/relay-operator-0", &json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "containers with unready status: [relay]"},
    ]}}));
    let failed = installed.fails(&["operator-ready", "operator-pods", "lease-held"], &[]).await;
    let namespace = &installed.site.namespace;
    let ready = of(&failed, "operator-ready");
    assert!(ready.message.starts_with("no pod of the operator (Deployment `"), "{ready:?}");
    assert_eq!(ready.remedies[0], format!("kubectl -n {namespace} describe deployment relay-operator"));
    installed.run(&ready.remedies[0]);
    assert!(of(&failed, "lease-held").message.starts_with("nobody leads: the Lease was given back"));
    let pod = of(&failed, "operator-pods");
    assert_eq!(
        pod.message,
        "pod `relay-operator-0` is not ready: ContainersNotReady: containers with unready status: [relay]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_never_installed_is_told_of() {
    let Some(installed) = Installed::new().await else { return };
    installed.site.kubectl(&["delete", "deployment", "relay-operator"]);
    let failed = installed.fails(&["operator-found"], &[]).await;
    let found = of(&failed, "operator-found");
    assert!(found.message.contains("no Deployment has the label app.kubernetes.io/name=relay-operator"), "{found:?}");
    assert!(found.remedies[0].starts_with("helm install relay charts/relay -n "), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_renews_is_told_of() {
    let Some(installed) = Installed::new().await else { return };
    installed.operator.daemon.process().freeze();
    let failed = installed.fails(&["lease-held"], &[]).await;
    let held = of(&failed, "lease-held");
    assert!(held.message.starts_with("nobody leads: `operator-0` did last and renewed the Lease "), "{held:?}");
    assert!(held.remedies[0].contains("logs -l app.kubernetes.io/name=relay-operator"), "{held:?}");
    installed.run(&held.remedies[1]);
    installed.operator.daemon.process().thaw();
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_missing_in_a_watched_namespace_is_told_of_and_the_remedy_makes_it() {
    let Some(installed) = Installed::new().await else { return };
    let team = &installed.team;
    installed.site.plane.kubectl(&["delete", "rolebinding", "relay-operator", "-n", team]);
    let failed = installed.fails(&["operator-rights"], &[]).await;
    let rights = of(&failed, "operator-rights");
    let own = &installed.site.namespace;
    let begin = format!("service account `{own}/relay-operator` of the operator may not, in namespace `{team}`: ");
    assert!(rights.message.starts_with(&begin), "{rights:?}");
    let words = [
        "get, list, watch hosts.llmrelay.io;",
        "patch hosts.llmrelay.io/status;",
        "get, list, watch, create, update secrets;",
        "create, patch events.events.k8s.io;",
        "get, update configmaps `relay-push-ca`",
    ];
    assert!(words.iter().all(|word| rights.message.contains(word)), "{rights:?}");
    assert_eq!(failed.len(), 1);
    installed.run(&rights.remedies[0]);
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_without_rights_and_one_that_is_not_there_are_told_of() {
    let Some(installed) = Installed::new().await else { return };
    let account = |name: &str| json!({"spec": {"template": {"spec": {"serviceAccountName": name}}}});
    installed.patch("deployment/relay-operator", &["--type=merge"], &account("relay-dataplane"));
    let failed = installed.fails(&["operator-rights"], &[]).await;
    assert_eq!(failed.len(), 3, "in the cluster, in its own namespace and in the other: {failed:#?}");
    assert!(failed[0].message.contains("create tokenreviews.authentication.k8s.io"), "{failed:#?}");

    installed.patch("deployment/relay-operator", &["--type=merge"], &account("relay-oprator"));
    let failed = installed.fails(&["operator-rights", "operator-account"], &[]).await;
    let account = of(&failed, "operator-account");
    assert!(account.message.ends_with("/relay-oprator`, which is not there"), "{account:?}");
    installed.run(&account.remedies[0]);
    installed.fails(&["operator-rights"], &[]).await;
}
