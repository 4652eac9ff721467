//! An installation as the chart makes it: the programs that run, and the Deployments and pods that stand for them.

use std::{collections::BTreeSet, process::Command};

use plane::Plane;
use serde_json::{Value, json};
use site::{DataPlane, Operator, Programs, Site, Upstream, relay_key, routes, until};

/// A Lease that runs out soon.
const LEASE: [&str; 6] = ["--lease-duration", "3s", "--lease-renew-deadline", "2s", "--lease-retry", "500ms"];

/// An installation in which everything runs and is ready. Fields end in this order.
pub(crate) struct Installed<'a> {
    pub(crate) data_planes: Vec<DataPlane>,
    pub(crate) operator: Operator,
    pub(crate) _upstream: Upstream,
    pub(crate) site: Site<'a>,
    /// A namespace that is watched beside the installation's own.
    pub(crate) team: String,
}

/// What a check said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// One finding.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) check: String,
    pub(crate) message: String,
    pub(crate) remedies: Vec<String>,
}

impl Installed<'static> {
    /// On the API server that the tests share; `None` where the environment asks for none.
    pub(crate) async fn new() -> Option<Self> {
        Some(Self::on(Plane::shared()?, &[]).await)
    }
}

impl<'a> Installed<'a> {
    /// On this API server; `more` are further settings of the data planes.
    pub(crate) async fn on(plane: &'a Plane, more: &[&str]) -> Self {
        plane.install_crds();
        let team = plane.namespace();
        let site = Site::on(plane, &[&team]).await;
        let upstream = Upstream::start().await;
        let operator = site.operator("operator-0", &LEASE).await;
        let fleet = "---\n{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {name: default}, spec: {}}\n";
        site.apply(&(fleet.to_owned() + &routes(&upstream.url()) + &relay_key("app")));
        let mut data_planes = Vec::new();
        for number in 0..2 {
            let pod = site.pod("relay-dataplane", &format!("pod-{number}")).await;
            let data_plane = site.data_plane_in(pod, more).await;
            data_plane.daemon.ready().await;
            data_planes.push(data_plane);
        }
        let installed = Self { data_planes, operator, _upstream: upstream, site, team };
        installed.stand_ins(more);
        installed.settled();
        installed
    }

    /// Waits until everything is in effect.
    pub(crate) fn settled(&self) {
        self.site.wait("Ready", &["hosts,models,hostkeys,relaykeys,policies,dataplanes", "--all"]);
    }

    /// The Deployments and pods that the chart and a controller would make.
    fn stand_ins(&self, more: &[&str]) {
        let watched = format!("--watch-namespaces={},{}", self.site.namespace, self.team);
        self.deployment("relay-operator", 1, &[&watched]);
        self.pod("relay-operator", "relay-operator-0", self.operator.daemon.admin.port());
        self.deployment("relay-dataplane", 2, more);
        for data_plane in &self.data_planes {
            let name = format!("relay-dataplane-{}", data_plane.pod.name);
            self.pod("relay-dataplane", &name, data_plane.daemon.admin.port());
        }
    }

    fn deployment(&self, name: &str, replicas: u32, arguments: &[&str]) {
        let labels = json!({"app.kubernetes.io/name": name});
        let version = env!("CARGO_PKG_VERSION");
        let container = json!({"name": "relay", "image": format!("relay.test/{name}:{version}"), "args": arguments});
        let spec = json!({
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"serviceAccountName": name, "containers": [container]}},
        });
        let metadata = json!({"name": name, "labels": labels});
        let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
        self.site.apply(&manifest.to_string());
        self.ready_replicas(name, replicas);
    }

    /// What a controller says of a Deployment.
    pub(crate) fn ready_replicas(&self, name: &str, ready: u32) {
        let status =
            json!({"replicas": ready, "readyReplicas": ready, "updatedReplicas": ready, "availableReplicas": ready});
        self.status(&format!("deployment/{name}"), &json!({"status": status}));
    }

    fn pod(&self, of: &str, name: &str, admin: u16) {
        let ports = json!([{"name": "admin", "containerPort": admin}]);
        let container = json!({"name": "relay", "image": "relay.test/none", "ports": ports});
        let spec = json!({"serviceAccountName": of, "containers": [container]});
        let metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": of}});
        let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        self.site.apply(&manifest.to_string());
        let ready = json!({"type": "Ready", "status": "True"});
        let address =
            json!({"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [ready]});
        self.status(&format!("pod/{name}"), &json!({"status": address}));
    }

    /// Writes into the status of an object.
    pub(crate) fn status(&self, object: &str, patch: &Value) {
        self.patch(object, &["--subresource=status", "--type=merge"], patch);
    }

    /// Changes an object.
    pub(crate) fn patch(&self, object: &str, how: &[&str], patch: &Value) {
        let patch = patch.to_string();
        self.site.kubectl(&[&["patch", object, "--patch", &patch], how].concat());
    }

    /// What `relay check --cluster` says, as an administrator inside the cluster.
    pub(crate) fn check(&self, more: &[&str]) -> Said {
        self.check_as(self.site.plane.kubeconfig(), more)
    }

    /// The same as somebody else.
    pub(crate) fn check_as(&self, kubeconfig: &std::path::Path, more: &[&str]) -> Said {
        self.relay(kubeconfig, &[&["--namespace", &self.site.namespace], more].concat())
    }

    fn relay(&self, kubeconfig: &std::path::Path, more: &[&str]) -> Said {
        let mut command = Command::new(&Programs::built().relay);
        command.args(["check", "--cluster"]).args(more);
        command.env("KUBECONFIG", kubeconfig);
        for name in ["RELAY_TOKEN", "RELAY_URL", "RELAY_NAMESPACE"] {
            command.env_remove(name);
        }
        // What a kubelet sets in every container: admin ports are asked directly.
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        let output = command.output().expect("relay starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let text = String::from_utf8(output.stdout).expect("relay prints UTF-8");
        Said { code: output.status.code().expect("relay ends by itself"), text }
    }

    /// The namespace of the installation that a check finds by itself.
    pub(crate) fn found(&self) -> String {
        let document: Value =
            serde_json::from_str(&self.relay(self.site.plane.kubeconfig(), &["-o", "json"]).text).expect("it is JSON");
        document["namespace"].as_str().expect("it says where").to_owned()
    }

    /// The findings of this kind of a check.
    pub(crate) fn findings(&self, result: &str, more: &[&str]) -> Vec<Finding> {
        self.check(&[&["-o", "json"], more].concat()).findings(result)
    }

    /// Waits until exactly these checks fail, and gives what they say.
    pub(crate) async fn fails(&self, wanted: &[&str], more: &[&str]) -> Vec<Finding> {
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        let mut last = String::new();
        let is_so = async || {
            let said = self.check(&[&["-o", "json"], more].concat());
            let failed = said.findings("failed");
            let names: BTreeSet<&str> = failed.iter().map(|finding| finding.check.as_str()).collect();
            assert_eq!(said.code, i32::from(!failed.is_empty()));
            let text = format!("{failed:#?}");
            if text != last {
                println!("{text}");
                last = text;
            }
            (names == wanted).then_some(failed)
        };
        until(&format!("{wanted:?} fail and nothing else"), is_so).await
    }

    /// Runs a command that was shown as a remedy, with the programs of this installation.
    pub(crate) fn run(&self, remedy: &str) {
        let programs = Programs::built().relay.parent().expect("a program is in a folder").display().to_string();
        let path = format!(
            "{programs}:{}:{}",
            self.site.plane.programs().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = Command::new("sh");
        command.args(["-c", remedy]).env("PATH", path).env("KUBECONFIG", self.site.plane.kubeconfig());
        let output = command.output().expect("sh starts");
        assert!(output.status.success(), "{remedy}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Said {
    /// The findings of this kind.
    pub(crate) fn findings(&self, result: &str) -> Vec<Finding> {
        let document: Value = serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text));
        let sections = document["sections"].as_array().expect("there are sections").iter();
        let all = sections.flat_map(|section| section["findings"].as_array().expect("a section has findings"));
        let text = |value: &Value| value.as_str().expect("it is text").to_owned();
        all.filter(|finding| finding["result"] == result)
            .map(|finding| Finding {
                check: text(&finding["check"]),
                message: text(&finding["message"]),
                remedies: finding["remedies"].as_array().into_iter().flatten().map(text).collect(),
            })
            .collect()
    }
}

/// The first finding of a check.
#[track_caller]
pub(crate) fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == check).expect("the check found something")
}
