//! `relay explain` with the objects of a cluster: what it says of their manifests, and nothing of their Secrets.

use plane::Plane;

use crate::support::{Operator, User, directory, manifests, path, run, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_explained_as_its_manifests_are() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let second = format!(
        "---\napiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {{name: spare, namespace: {namespace}}}\n\
         spec: {{priority: 5, hostRef: {{name: openai}}, source: {{env: {{name: RELAY_KEY_SPARE}}}}}}\n"
    );
    let text = manifests(&namespace) + &second;
    plane.apply(&text);
    let user = User::administrator(plane, &namespace);
    let asked = ["explain", "--key", "app", "--model", "gpt", "-o", "json"];
    let said = user.relay(&asked);
    assert_eq!(said.code, 0, "{said:#?}");
    let dir = directory(&text);
    let files =
        run(&["explain", path(&dir), "-n", &namespace, "--key", "app", "--model", "gpt", "-o", "json"], None, "");
    assert_eq!(said.json()["steps"], files.json()["steps"]);
    assert_eq!(said.json()["steps"].as_array().unwrap().len(), 2);
    assert!(!said.stdout.contains("canary"));
    let notes = said.json()["assumed"].to_string();
    assert!(notes.contains("objects were not read, and taken to hold what they should"), "{notes}");

    // The operator has seen the Secret, and what it says counts.
    let operator = Operator::start(plane, &namespace).await;
    wait(plane, &namespace, "hostkeys", "Accepted");
    plane.kubectl(&["delete", "secret", "provider", "-n", &namespace]);
    plane.kubectl(&["wait", "hostkey/main", "-n", &namespace, "--for=condition=ResolvedRefs=False", "--timeout=60s"]);
    let said = user.relay(&asked);
    let keys: Vec<String> =
        said.json()["steps"].as_array().unwrap().iter().map(|step| step["hostKey"].to_string()).collect();
    assert_eq!(keys, [format!("\"{namespace}/spare\"")]);
    operator.stop().await;

    let unknown = user.relay(&["explain", "--key", "ap", "--model", "gpt"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains(&format!("did you mean `{namespace}/app`?")),
        "{}",
        unknown.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_one_namespace_is_told_what_was_not_read() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let account = plane.service_account(&namespace, "viewer").await;
    let role = ["create", "role", "viewer", "-n", &namespace, "--verb=get,list"];
    plane.kubectl(&[&role[..], &["--resource=hosts.llmrelay.io,models.llmrelay.io,hostkeys.llmrelay.io,relaykeys.llmrelay.io,policies.llmrelay.io"]].concat());
    let subject = format!("--serviceaccount={namespace}:viewer");
    plane.kubectl(&["create", "rolebinding", "viewer", "-n", &namespace, "--role=viewer", &subject]);
    let user = User { kubeconfig: account.kubeconfig().await, namespace: namespace.clone() };
    let said = user.relay(&["explain", "--key", "app", "--model", "gpt", "--catalog-namespace", &namespace]);
    assert_eq!(said.code, 0, "{said:#?}");
    let note = format!(
        "note: nothing is read outside of `{namespace}`: `system:serviceaccount:{namespace}:viewer` may not list "
    );
    assert!(said.stdout.contains(&note), "{}", said.stdout);
}
