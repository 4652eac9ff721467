//! One installation of Relay in a namespace of its own, as the administrator of the cluster has it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use plane::Plane;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    data_plane::{DataPlane, Pod},
    kubelet::{Kubelet, Mounts},
    operator::{Operator, Shared},
    process::tail,
    programs::Programs,
    service::Service,
};

/// Whom tokens of data planes are for.
pub const AUDIENCE: &str = "relay-push.llmrelay.io";

/// Whom tokens of operators are for, which they show to each other.
const PEERS: &str = "relay-peer.llmrelay.io";

/// The service account of operators, and that of data planes unless another is given.
const OPERATORS: &str = "relay-operator";
const DATA_PLANES: &str = "relay-dataplane";

/// The service account of applications that have a data plane beside them.
const APPLICATIONS: &str = "web";

/// An installation.
pub struct Site<'a> {
    /// The API server.
    pub plane: &'a Plane,
    /// The namespace of the operator, its data planes and, unless a test makes others, of all resources.
    pub namespace: String,
    /// What data planes reach operators by.
    pub service: Service,
    watched: String,
    kubeconfig: PathBuf,
    kubelet: Kubelet,
    directory: TempDir,
}

impl Site<'static> {
    /// A site on the API server that all tests of this process share; `None` where the environment asks for none.
    pub async fn shared() -> Option<Self> {
        Some(Self::on(Plane::shared()?, &[]).await)
    }
}

impl<'a> Site<'a> {
    /// A site on this API server, which watches its own namespace and these; `*` stands for all. Relay's definitions are
    /// there, and the operator's service account with the roles that `relay-operator rbac` prints. Nothing runs yet.
    pub async fn on(plane: &'a Plane, watched: &[&str]) -> Self {
        plane.install_crds();
        let namespace = plane.namespace();
        let watched = [&[namespace.as_str()], watched].concat().join(",");
        let directory = tempfile::Builder::new().prefix("relay-site-").tempdir().expect("a folder is made");
        let account = plane.service_account(&namespace, OPERATORS).await;
        let kubeconfig = account.kubeconfig().await;
        let kubelet = Kubelet::start(plane.client().await, &namespace, directory.path());
        let site = Self { plane, namespace, service: Service::start().await, watched, kubeconfig, kubelet, directory };
        plane.apply(&site.rights());
        site
    }

    /// The file with the token that a replica shows to its peers. One that comes back under its name has it already.
    async fn peer_token(&self, name: &str) -> PathBuf {
        let file = self.directory.path().join(name).with_extension("peer-token");
        if !file.exists() {
            let pod = self.plane.service_account(&self.namespace, OPERATORS).await.pod(name).await;
            self.kubelet.token(OPERATORS, &pod, PEERS, &file).await;
        }
        file
    }

    /// Starts a replica of the operator and waits until it is ready; `more` are further settings of its command line.
    pub async fn operator(&self, name: &str, more: &[&str]) -> Operator {
        let shared = Shared {
            program: &Programs::built().operator,
            directory: self.directory.path(),
            kubeconfig: &self.kubeconfig,
            namespace: &self.namespace,
            watched: &self.watched,
            peer_token: &self.peer_token(name).await,
        };
        let operator = Operator::start(&shared, name, more).await;
        operator.daemon.ready().await;
        self.service.add(operator.push);
        operator
    }

    /// Starts so many replicas, `operator-0` and so on, and waits until all are ready.
    pub async fn operators(&self, count: usize, more: &[&str]) -> Vec<Operator> {
        let mut operators = Vec::new();
        for number in 0..count {
            operators.push(self.operator(&format!("operator-{number}"), more).await);
        }
        operators
    }

    /// Makes a pod that runs as a service account of this namespace, which is made when there is none.
    pub async fn pod(&self, account: &str, name: &str) -> Pod {
        let folder = self.directory.path().join(name);
        fs::create_dir_all(folder.join("kept")).expect("the site's folder is writable");
        let object = self.plane.service_account(&self.namespace, account).await.pod(name).await;
        let token = folder.join("token");
        self.kubelet.token(account, &object, AUDIENCE, &token).await;
        let Mounts { bundle, seal_key } = self.kubelet.mounts().await;
        let (namespace, seal_key) = (self.namespace.clone(), Some(seal_key));
        Pod { name: object.name, uid: object.uid, namespace, token, bundle, seal_key, folder }
    }

    /// Starts a data plane beside an application in a pod of another namespace, which passes what it does not serve itself to
    /// a data plane of this one, and does not wait for its table. Whom it trusts is read in this namespace.
    pub async fn sidecar(&self, namespace: &str, name: &str, shared: &DataPlane) -> DataPlane {
        let folder = self.directory.path().join(format!("{namespace}-{name}"));
        fs::create_dir_all(&folder).expect("the site's folder is writable");
        let object = self.plane.service_account(namespace, APPLICATIONS).await.pod(name).await;
        let token = folder.join("token");
        self.kubelet.token_in(namespace, APPLICATIONS, &object, AUDIENCE, &token).await;
        let (namespace, bundle) = (namespace.to_owned(), self.kubelet.mounts().await.bundle);
        let pod = Pod { name: object.name, uid: object.uid, namespace, token, bundle, seal_key: None, folder };
        let forward = format!("http://{}", shared.address);
        self.data_plane_in(pod, &["--sidecar", "--forward", &forward]).await
    }

    /// Starts a data plane in a pod of that name and waits until it is ready.
    pub async fn data_plane(&self, name: &str) -> DataPlane {
        let data_plane = self.data_plane_in(self.pod(DATA_PLANES, name).await, &[]).await;
        data_plane.daemon.ready().await;
        data_plane
    }

    /// Starts a data plane in a pod, and does not wait for its table; `more` are further settings of its command line.
    pub async fn data_plane_in(&self, pod: Pod, more: &[&str]) -> DataPlane {
        let name = self.certified_name();
        DataPlane::start(&Programs::built().data_plane, pod, self.service.address(), &name, more).await
    }

    /// The name that the certificates of operators are for.
    pub fn certified_name(&self) -> String {
        format!("relay-operator.{}.svc", self.namespace)
    }

    /// Runs kubectl in this namespace as somebody who may do everything, and panics with what it says when it fails.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// As [`kubectl`](Self::kubectl), with manifests on its input. The error is what it says.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let arguments = [&["--namespace", &self.namespace], arguments].concat();
        self.plane.try_kubectl(self.plane.kubeconfig(), &arguments, input)
    }

    /// Applies manifests in this namespace, server-side.
    #[track_caller]
    pub fn apply(&self, manifests: &str) -> String {
        self.try_kubectl(&["apply", "--server-side", "-f", "-"], manifests)
            .unwrap_or_else(|error| panic!("{error}\n{manifests}"))
    }

    /// Waits by `kubectl wait` until a condition of these objects is true; `what` as `relaykey/app`.
    #[track_caller]
    pub fn wait(&self, condition: &str, what: &[&str]) {
        let condition = format!("--for=condition={condition}");
        let Err(error) = self.try_kubectl(&[&["wait", &condition, "--timeout=60s"], what].concat(), "") else { return };
        let objects: Vec<&str> = what.iter().copied().filter(|word| *word != "--all").collect();
        let found = self.get(&objects.join(" "));
        let objects = found["items"].as_array().cloned().unwrap_or_else(|| vec![found]);
        let said = objects.iter().map(|object| {
            format!("{}/{}: {:#}\n", object["kind"], object["metadata"]["name"], object["status"]["conditions"])
        });
        panic!("{error}{}", said.collect::<String>());
    }

    /// An object as it is stored, or the list of several.
    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        let what: Vec<&str> = what.split(' ').collect();
        let text = self.kubectl(&[&["get", "--output=json", "--show-managed-fields"], &what[..]].concat());
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// The text of an entry of a Secret.
    #[track_caller]
    pub fn secret(&self, name: &str, entry: &str) -> String {
        let template = format!("--template={{{{index .data \"{entry}\" | base64decode}}}}");
        self.kubectl(&["get", "secret", name, &template])
    }

    /// A kubeconfig of the operator's service account.
    pub fn kubeconfig_of_operators(&self) -> &Path {
        &self.kubeconfig
    }

    /// What `relay-operator rbac` prints, with one change: sites share a cluster, and so roles of the whole cluster bear
    /// the name of theirs, and go with its namespace.
    fn rights(&self) -> String {
        let mut command = Command::new(&Programs::built().operator);
        command.args(["rbac", "--namespace", &self.namespace, "--watch-namespaces", &self.watched]);
        let output = command.output().expect("the operator's program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("manifests are UTF-8");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("manifests are YAML");
        let uid = self.plane.kubectl(&["get", "namespace", &self.namespace, "--output=jsonpath={.metadata.uid}"]);
        let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": self.namespace, "uid": uid});
        let renamed = documents.into_iter().map(|mut document| {
            let name = json!(format!("relay-operator-{}", self.namespace));
            if document["metadata"].get("namespace").is_none() && document["metadata"]["name"] == OPERATORS {
                document["metadata"]["name"] = name.clone();
                document["metadata"]["ownerReferences"] = json!([owner]);
                if document["roleRef"]["kind"] == "ClusterRole" {
                    document["roleRef"]["name"] = name;
                }
            }
            format!("---\n{document}\n")
        });
        renamed.collect()
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read_to_string(&path).unwrap_or_default();
                eprintln!("== the end of {}\n{}", entry.file_name().display(), tail(&log));
            }
        }
    }
}
