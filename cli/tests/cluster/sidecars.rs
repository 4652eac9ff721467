//! `relay check --cluster` where data planes are put beside applications: what the chart made is right, and what somebody
//! took away or changed is told with what helps.

use std::{
    thread,
    time::{Duration, Instant},
};

use chart::{Helm, charts};
use plane::Plane;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{Operator, PATIENCE, User};

const TEAM: &str = "team-a";

/// An installation with sidecars in a namespace of its own, and [`TEAM`], which consents.
struct Site {
    plane: Plane,
    namespace: String,
    /// What the chart makes.
    made: String,
}

impl Site {
    fn start() -> Option<Self> {
        let plane = Plane::start()?;
        plane.install_crds();
        let namespace = plane.namespace();
        for (name, consent) in [(TEAM, "enabled"), ("elsewhere", "disabled")] {
            consenting(&plane, name, consent);
            // A controller would make it.
            let account = json!({"name": "default", "namespace": name});
            plane.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}).to_string());
        }
        let made = rendered(&namespace);
        plane.apply(&made);
        let site = Self { plane, namespace, made };
        let deadline = Instant::now() + PATIENCE;
        while !site.would_get_a_sidecar() {
            assert!(Instant::now() < deadline, "the policy is not in force");
            thread::sleep(Duration::from_millis(50));
        }
        Some(site)
    }

    /// Whether the API server would put a sidecar into a pod that asks for one now.
    fn would_get_a_sidecar(&self) -> bool {
        let arguments = ["create", "--dry-run=server", "--output=json", "--filename=-"];
        let stored = self.plane.try_kubectl(self.plane.kubeconfig(), &arguments, &pod("rehearsed"));
        let stored: Value = serde_json::from_str(&stored.expect("the pod is right")).expect("kubectl prints JSON");
        !stored["spec"]["initContainers"].is_null()
    }

    async fn operator(&self) -> Operator {
        let names = format!("--serving-names=relay.{0}.svc,relay.{0}.svc.cluster.local", self.namespace);
        Operator::start_with(&self.plane, &self.namespace, &["--watch-namespaces", TEAM, "--sidecars", &names]).await
    }

    fn kubectl(&self, arguments: &[&str]) {
        self.plane.kubectl(&[arguments, &["--namespace", &self.namespace]].concat());
    }

    /// Makes a pod that asks for a sidecar.
    fn pod(&self, name: &str) {
        self.plane.apply(&pod(name));
    }

    /// What is said of sidecars, as the result, the check and the sentence.
    fn said(&self, user: &User) -> Vec<(String, String, String)> {
        let said = user.relay(&["check", "--cluster", "-o", "json"]).json();
        let section = said["sections"].as_array().unwrap().iter().find(|section| section["name"] == "Sidecars");
        let findings = section.expect("there is something to say of sidecars")["findings"].as_array().unwrap().iter();
        let word = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
        findings.map(|one| (word(one, "result"), word(one, "check"), word(one, "message"))).collect()
    }

    /// Waits until exactly these checks say that something is not as it should be, and gives their sentences.
    #[track_caller]
    fn wrong(&self, wanted: &[&str]) -> Vec<String> {
        let (user, deadline) = (User::administrator(&self.plane, &self.namespace), Instant::now() + PATIENCE);
        loop {
            let wrong: Vec<_> = self.said(&user).into_iter().filter(|(result, _, _)| result != "fine").collect();
            let names: Vec<&str> = wrong.iter().map(|(_, check, _)| check.as_str()).collect();
            if names == wanted {
                return wrong.into_iter().map(|(_, _, said)| said).collect();
            }
            assert!(Instant::now() < deadline, "{wrong:#?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn consenting(plane: &Plane, name: &str, consent: &str) {
    let metadata = json!({"name": name, "labels": {"llmrelay.io/inject": consent}});
    plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string());
}

fn pod(name: &str) -> String {
    let metadata = json!({"name": name, "namespace": TEAM, "labels": {"llmrelay.io/inject": "true"}});
    let spec = json!({"containers": [{"name": "app", "image": "app.test/app"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

/// The chart's objects that matter here; no controller makes pods of them.
fn rendered(namespace: &str) -> String {
    let home = tempdir().expect("a folder is made");
    let chart = charts().join("relay").display().to_string();
    let mut arguments = vec!["template", "relay", &chart, "--namespace", namespace, "--kube-version", "1.36.4"];
    arguments.extend(["--set", "sidecars.enabled=true", "--set", "watchNamespaces={team-a}"]);
    for template in ["templates/sidecar.yaml", "templates/operator.yaml", "templates/dataplane.yaml"] {
        arguments.extend(["--show-only", template]);
    }
    Helm::alone(home.path()).run(&arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sidecars_need_is_checked_from_the_policy_to_the_pods() {
    let Some(site) = Site::start() else { return };
    let operator = site.operator().await;
    site.wrong(&[]);
    site.pod("with");
    site.wrong(&[]);
    let user = User::administrator(&site.plane, &site.namespace);
    let checks: Vec<String> = site.said(&user).into_iter().map(|(_, check, _)| check).collect();
    let all =
        ["sidecar-policy", "serving-certificate", "forward-address", "sidecar-consent", "push-trust", "sidecar-pods"];
    assert_eq!(checks, all);

    let policy = format!("mutatingadmissionpolicy/relay-sidecar-{}", site.namespace);
    let binding = format!("mutatingadmissionpolicybinding/relay-sidecar-{}", site.namespace);
    site.kubectl(&["patch", &policy, "--type=merge", "--patch", r#"{"spec":{"failurePolicy":"Ignore"}}"#]);
    assert!(site.wrong(&["sidecar-policy"])[0].ends_with("is not what the chart made: somebody changed its spec"));
    site.kubectl(&["patch", &policy, "--type=merge", "--patch", r#"{"spec":{"failurePolicy":"Fail"}}"#]);
    site.wrong(&[]);
    site.kubectl(&["delete", &binding]);
    assert!(site.wrong(&["sidecar-policy"])[0].contains("is not there, without which the policy does nothing"));
    site.kubectl(&["delete", &policy]);
    assert!(site.wrong(&["sidecar-policy"])[0].contains("is not there: pods that ask start without a sidecar"));

    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    // The policy stays in force for a moment.
    let said = loop {
        site.pod(&format!("without-{number}"));
        let said = site.said(&user);
        if let Some((result, _, said)) = said.into_iter().find(|(_, check, _)| check == "sidecar-pods")
            && result == "failed"
        {
            break said;
        }
        number += 1;
        assert!(Instant::now() < deadline, "pods still get sidecars");
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(
        said,
        format!("pod `team-a/without-{number}` asks for a sidecar and has none: it asks whom its SDK knows")
    );
    site.plane.kubectl(&[
        "delete",
        "pod",
        "--namespace",
        TEAM,
        &format!("without-{number}"),
        "--grace-period=0",
        "--force",
    ]);
    let again: String = site
        .made
        .split("---\n")
        .filter(|one| one.contains("kind: MutatingAdmission"))
        .collect::<Vec<_>>()
        .join("---\n");
    site.plane.apply(&again);
    site.wrong(&[]);

    consenting(&site.plane, "elsewhere", "enabled");
    assert_eq!(
        site.wrong(&["sidecar-consent"]),
        ["namespace `elsewhere` consents to sidecars, and the operator does not watch it: its pods get none"]
    );
    consenting(&site.plane, "elsewhere", "disabled");

    site.kubectl(&["patch", "service/relay", "--type=json", "--patch", r#"[{"op":"remove","path":"/spec/ports/1"}]"#]);
    assert!(site.wrong(&["forward-address"])[0].contains("has only port"));
    site.plane.apply(&site.made);
    operator.stop().await;
    site.kubectl(&["delete", "secret", "relay-serving"]);
    site.plane.kubectl(&["delete", "configmap", "relay-push-ca", "--namespace", TEAM]);
    let wrong = site.wrong(&["serving-certificate", "push-trust"]);
    assert!(wrong[0].contains("is not there: sidecars answer 503 to what they cannot serve themselves"), "{wrong:?}");
    assert!(wrong[1].starts_with("ConfigMap `team-a/relay-push-ca` is not there"), "{wrong:?}");
    let operator = site.operator().await;
    site.wrong(&[]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_roles_show_all_of_sidecars_but_their_certificate_and_without_them_rights_are_named() {
    let Some(site) = Site::start() else { return };
    let operator = site.operator().await;
    site.pod("with");
    site.wrong(&[]);
    let account = site.plane.service_account(&site.namespace, "relay-check").await;
    let user = User { kubeconfig: account.kubeconfig().await, namespace: site.namespace.clone() };
    let unseen = |user: &User| -> Vec<(String, String)> {
        let said = site.said(user).into_iter();
        said.filter(|(result, _, _)| result == "unseen").map(|(_, check, said)| (check, said)).collect()
    };
    let roles =
        |more: &[&str]| site.plane.apply(&user.relay(&[&["check", "--cluster", "--rbac"], more].concat()).stdout);

    roles(&[]);
    let checks: Vec<String> = unseen(&user).into_iter().map(|(check, _)| check).collect();
    assert_eq!(checks, ["serving-certificate", "push-trust", "sidecar-pods"]);
    assert!(unseen(&user)[2].1.contains(r#"{apiGroups: [""], resources: [pods], verbs: [list]}"#));

    roles(&["--watch-namespaces", TEAM]);
    let checks: Vec<String> = unseen(&user).into_iter().map(|(check, _)| check).collect();
    assert_eq!(checks, ["serving-certificate"]);
    operator.stop().await;
}
