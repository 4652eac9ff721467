//! `relay inject` and the chart's policy: on a real API server both make the same pod of the same pod.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use chart::{Combination, Helm, NAMESPACE, charts};
use plane::Plane;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{PATIENCE, run};

/// Pods that ask, each in its own way. All of them are such as Pod Security `restricted` takes.
const PODS: &str = include_str!("asking.yaml");

/// A policy of somebody else that adds a container.
const LATE: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: zz-late}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: '[JSONPatch{op: "add", path: "/spec/containers/-", value: {"name": "late", "image": "late:1"}}]'
"#;

/// The chart's policy in force, and namespaces: `team-a` consents and is watched, `team-b` as well and without Pod Security,
/// `unwatched` consents, `unasked` does not.
struct Site {
    plane: Plane,
}

impl Site {
    fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// With further values of the chart.
    fn with(values: &[&str]) -> Option<Self> {
        let plane = Plane::start()?;
        for (namespace, consent, security) in [
            ("team-a", "enabled", "restricted"),
            ("team-b", "enabled", "privileged"),
            ("unwatched", "enabled", "restricted"),
            ("unasked", "disabled", "restricted"),
        ] {
            let labels = json!({"llmrelay.io/inject": consent, "pod-security.kubernetes.io/enforce": security});
            let metadata = json!({"name": namespace, "labels": labels});
            plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string());
            // A controller would make it.
            let account = json!({"name": "default", "namespace": namespace});
            plane.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}).to_string());
        }
        let home = tempdir().expect("a folder is made");
        plane.apply(&policy(&Helm::alone(home.path()), values));
        let site = Self { plane };
        let (probe, deadline) = (pods().swap_remove(0), Instant::now() + PATIENCE);
        while site.created("team-a", &probe)["spec"]["initContainers"].is_null() {
            assert!(Instant::now() < deadline, "the policy is not in force");
            thread::sleep(Duration::from_millis(50));
        }
        Some(site)
    }

    /// What the API server would store.
    #[track_caller]
    fn created(&self, namespace: &str, pod: &Value) -> Value {
        self.attempt(namespace, pod).unwrap_or_else(|error| panic!("{error}\n{pod:#}"))
    }

    fn attempt(&self, namespace: &str, pod: &Value) -> Result<Value, String> {
        let arguments = ["create", "--dry-run=server", "--output=json", "--namespace", namespace, "--filename=-"];
        let stored = self.plane.try_kubectl(self.plane.kubeconfig(), &arguments, &pod.to_string())?;
        let mut stored: Value = serde_json::from_str(&stored).expect("kubectl prints JSON");
        level(&mut stored["spec"]);
        Ok(json!({
            "labels": stored["metadata"]["labels"],
            "annotations": stored["metadata"]["annotations"],
            "spec": stored["spec"],
        }))
    }
}

/// Takes away what differs between any two pods: the API server's volume has a random name, and volumes have no order.
fn level(spec: &mut Value) {
    let text = spec.to_string();
    if let Some(at) = text.find("kube-api-access-") {
        let end = text[at..].find('"').map_or(text.len(), |length| at + length);
        *spec = serde_json::from_str(&text.replace(&text[at..end], "kube-api-access")).expect("it was JSON");
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.sort_by_key(|volume| volume["name"].to_string());
    }
}

/// The chart's policy as it is for `team-a` and `team-b`.
fn policy(helm: &Helm, values: &[&str]) -> String {
    let teams = ["--set", "watchNamespaces={team-a,team-b}", "--show-only", "templates/sidecar.yaml"];
    let values = values.iter().flat_map(|value| ["--set", value]);
    Combination::named("sidecars").rendered(helm, &teams.into_iter().chain(values).collect::<Vec<_>>())
}

fn pods() -> Vec<Value> {
    let pods: Vec<Value> = serde_saphyr::from_multiple(PODS).expect("it is YAML");
    assert!(pods.len() > 5, "{}", pods.len());
    pods
}

/// What `relay inject` makes of a pod, told what the combination of values says that is no default, and `more`.
#[track_caller]
fn injected(pod: &Value, more: &[&str]) -> Value {
    let settings = ["--relay-namespace", NAMESPACE, "--arg=--body-limit=8388608"];
    let said = run(&[&["inject", "-f", "-"], &settings[..], more].concat(), None, &pod.to_string());
    assert_eq!(said.code, 0, "{}", said.stderr);
    serde_saphyr::from_str(&said.stdout).expect("it prints YAML")
}

#[test]
fn pods_of_the_policy_and_of_the_command_line_are_the_same() {
    let Some(site) = Site::start() else { return };
    for pod in pods() {
        let by_policy = site.created("team-a", &pod);
        let sidecar = &by_policy["spec"]["initContainers"][0];
        assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&json!("relay"), &json!("Always")), "{pod:#}");
        let pod = injected(&pod, &[]);
        let by_command = site.created("unasked", &pod);
        assert_eq!(by_policy, by_command, "{pod:#}");
        // What is injected already stays as it is.
        assert_eq!(site.created("team-a", &pod), by_command, "{pod:#}");
    }

    let asking = pods().swap_remove(0);
    for namespace in ["unasked", "unwatched"] {
        assert_eq!(site.created(namespace, &asking)["spec"]["initContainers"], Value::Null, "{namespace}");
    }
    let mut unlabelled = asking.clone();
    unlabelled["metadata"]["labels"] = json!({"llmrelay.io/inject": "false"});
    assert_eq!(site.created("team-a", &unlabelled), site.created("unasked", &unlabelled));
    let mut on_the_node = asking.clone();
    on_the_node["spec"]["hostNetwork"] = json!(true);
    assert_eq!(site.created("team-b", &on_the_node)["spec"]["initContainers"], Value::Null);

    // Without the sidecar it asks for, a pod would ask whom its SDK knows.
    let mut wrong = asking.clone();
    wrong["metadata"]["annotations"] = json!({"llmrelay.io/port": "http"});
    let refused = site.attempt("team-a", &wrong).expect_err("a port is a number");
    assert!(refused.contains("relay-sidecar-routing") && refused.contains("type conversion error"), "{refused}");
    let mut taken = asking;
    taken["spec"]["containers"][0]["name"] = json!("relay");
    let refused = site.attempt("team-a", &taken).expect_err("the name is the sidecar's");
    assert!(refused.contains("Duplicate value: \"relay\""), "{refused}");
}

#[test]
fn every_setting_of_the_one_is_a_setting_of_the_other() {
    let Some(site) = Site::with(&[
        "image.registry=registry.example",
        "image.tag=v7",
        "image.pullPolicy=Always",
        "sidecars.port=9100",
        "sidecars.servicePort=9443",
        "sidecars.resources.requests.cpu=100m",
        "sidecars.resources.limits.memory=1Gi",
        "dataPlane.usage.stdout=false",
        "log.level=relay=debug\\,info",
        "log.format=text",
    ]) else {
        return;
    };
    let forward = format!("https://relay.{NAMESPACE}.svc:9443");
    let flags = "--image registry.example/relay-dataplane:v7 --image-pull-policy Always --port 9100 --usage false --requests \
                 cpu=100m,memory=32Mi --limits memory=1Gi --log relay=debug,info --log-format text --forward";
    let flags: Vec<&str> = flags.split_whitespace().chain([forward.as_str()]).collect();
    for pod in pods() {
        assert_eq!(site.created("team-a", &pod), site.created("unasked", &injected(&pod, &flags)), "{pod:#}");
    }
}

#[test]
fn the_applications_of_the_example_get_a_sidecar() {
    let Some(site) = Site::start() else { return };
    let text = include_str!("../../../examples/sidecar/application.yaml");
    let applications: Vec<Value> = serde_saphyr::from_multiple(text).expect("it is YAML");
    let template = |at: usize, path: &str| applications[at].pointer(path).expect("it has pods").clone();
    for mut pod in [template(0, "/spec/template"), template(1, "/spec/jobTemplate/spec/template")] {
        (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) = (json!("v1"), json!("Pod"), json!("one"));
        let spec = &site.created("team-a", &pod)["spec"];
        assert_eq!(spec["initContainers"][0]["name"], "relay");
        assert_eq!(spec["containers"][0]["env"][2]["valueFrom"]["secretKeyRef"]["name"], "shop-token");
    }
}

#[test]
fn containers_that_others_add_later_use_relay_too() {
    let Some(site) = Site::start() else { return };
    // Policies go in the order of their names.
    site.plane.apply(
        "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: zz-late}, spec: \
         {policyName: zz-late}}",
    );
    site.plane.apply(LATE);
    let (asking, deadline) = (pods().swap_remove(0), Instant::now() + PATIENCE);
    let spec = loop {
        let spec = site.created("team-b", &asking)["spec"].clone();
        if spec["containers"][1]["name"] == "late" {
            break spec;
        }
        assert!(Instant::now() < deadline, "the other policy is not in force");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(spec["containers"][1]["env"], spec["containers"][0]["env"]);
    assert_eq!(spec["initContainers"].as_array().map(Vec::len), Some(1));
    assert_eq!(spec["volumes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_cluster_that_is_too_old_for_the_policy_is_told_of_the_command_line() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let chart = charts().join("relay");
    let rendered = |more: &[&str]| {
        let fixed = ["template", "relay", path(&chart), "--kube-version", "1.35.2", "--set", "sidecars.enabled=true"];
        helm.attempt(&[&fixed[..], more].concat())
    };
    let error = rendered(&[]).expect_err("it needs 1.36");
    assert!(
        error.contains("needs Kubernetes 1.36, and this is v1.35.2") && error.contains("`relay inject`"),
        "{error}"
    );
    let without = rendered(&["--set", "sidecars.policy.enabled=false"]).expect("all else is there");
    assert!(without.contains("--tls-listen=0.0.0.0:8443") && !without.contains("MutatingAdmissionPolicy"));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the folder of the charts is UTF-8")
}
