//! Kubeconfig files: who somebody is and where the API server listens.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::pki;

/// Where the API server on this port of 127.0.0.1 is, and how it is known: the `cluster` of a kubeconfig.
pub(crate) fn cluster(directory: &Path, port: u16) -> Value {
    let server = format!("https://127.0.0.1:{port}");
    json!({"server": server, "certificate-authority": directory.join(pki::AUTHORITY)})
}

/// A kubeconfig for the administrator.
pub(crate) fn administrator(directory: &Path, cluster: &Value) -> PathBuf {
    let [certificate, key] = pki::ADMINISTRATOR.map(|name| directory.join(name));
    let user = json!({"client-certificate": certificate, "client-key": key});
    write(directory, cluster, "administrator", user)
}

/// A kubeconfig for whoever holds this token. Its folder has no other of that name.
pub(crate) fn bearer(directory: &Path, cluster: &Value, name: &str, token: &str) -> PathBuf {
    write(directory, cluster, name, json!({ "token": token }))
}

/// A copy of the kubeconfig that the environment names, of its current context alone, and its `cluster`.
pub(crate) fn existing(directory: &Path, kubectl: &Path) -> (PathBuf, Value) {
    let mut command = Command::new(kubectl);
    command.args(["config", "view", "--raw", "--minify", "--flatten", "--output=json"]);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let config: Value = serde_json::from_slice(&output.stdout).expect("kubectl prints JSON");
    let cluster = config["clusters"][0]["cluster"].clone();
    assert!(cluster["server"].is_string(), "the current context of KUBECONFIG names no server");
    let file = directory.join("administrator.kubeconfig");
    fs::write(&file, config.to_string()).expect("the plane's folder is writable");
    (file, cluster)
}

fn write(directory: &Path, cluster: &Value, name: &str, user: Value) -> PathBuf {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    });
    let file = directory.join(format!("{name}.kubeconfig"));
    // JSON is YAML.
    fs::write(&file, config.to_string()).expect("the plane's folder is writable");
    file
}
