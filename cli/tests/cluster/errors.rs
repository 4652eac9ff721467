//! What is said where a cluster cannot be asked: what is wrong, and what would help.

use plane::Plane;

use crate::support::{User, run};

#[test]
fn without_a_cluster_it_is_said_how_to_name_one() {
    let said = run(&["status"], None, "");
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("no cluster is known") && said.stderr.contains("--kubeconfig"), "{}", said.stderr);
    let said = run(&["status", "--kubeconfig", "/nowhere/config"], None, "");
    assert!(said.code == 2 && said.stderr.contains("--kubeconfig `/nowhere/config`"), "{}", said.stderr);
}

#[test]
fn an_api_server_that_is_not_there_is_told_with_its_address() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}"#;
    std::fs::write(file.path(), config).unwrap();
    let said = run(&["keys", "list"], Some(file.path()), "");
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("http://127.0.0.1:1") && said.stderr.contains("is the cluster up"), "{}", said.stderr);
    let said = run(&["keys", "list", "--context", "prod"], Some(file.path()), "");
    assert!(said.code == 2 && said.stderr.contains("--context `prod` is not in the kubeconfig"), "{}", said.stderr);
}

#[test]
fn a_cluster_without_the_definitions_is_told_how_to_get_them() {
    let Some(plane) = Plane::start() else { return };
    let said = run(&["keys", "list"], Some(plane.kubeconfig()), "");
    assert_eq!(said.code, 2);
    let words = ["does not know relaykeys.llmrelay.io", "relay crds | kubectl apply --server-side -f -"];
    assert!(words.iter().all(|word| said.stderr.contains(word)), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let account = plane.service_account(&namespace, "stranger").await;
    let user = User { kubeconfig: account.kubeconfig().await, namespace: namespace.clone() };
    let said = user.relay(&["keys", "create", "app", "--policy", "all"]);
    assert_eq!(said.code, 2);
    let words = format!(
        "`system:serviceaccount:{namespace}:stranger` may not create relaykeys.llmrelay.io in namespace `{namespace}`: a \
         role is needed with {{apiGroups: [\"llmrelay.io\"], resources: [relaykeys], verbs: [create]}}"
    );
    assert!(said.stderr.contains(&words), "{}", said.stderr);
    let said = user.relay(&["status"]);
    assert!(said.code == 2 && said.stderr.contains("verbs: [list]"), "{}", said.stderr);
}

#[test]
fn an_object_that_is_not_there_is_told_with_its_neighbour() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&crate::support::manifests(&namespace));
    let user = User::administrator(plane, &namespace);
    let said = user.relay(&["keys", "revoke", "ap", "--yes"]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains(&format!("there is no RelayKey `{namespace}/ap`; did you mean `app`?")),
        "{}",
        said.stderr
    );
    let said = user.relay(&["status", "relaykey/nobody"]);
    assert!(said.code == 2 && said.stderr.contains("\"nobody\" not found"), "{}", said.stderr);
    let said = user.relay(&["status", "relaykee/app"]);
    assert!(said.code == 2 && said.stderr.contains("did you mean `relaykey`?"), "{}", said.stderr);
}
