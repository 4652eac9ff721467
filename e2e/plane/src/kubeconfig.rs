//! Kubeconfig files: who somebody is and where the API server listens.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::pki;

/// A kubeconfig for the administrator.
pub(crate) fn administrator(directory: &Path, port: u16) -> PathBuf {
    let [certificate, key] = pki::ADMINISTRATOR.map(|name| directory.join(name));
    let user = json!({"client-certificate": certificate, "client-key": key});
    write(directory, port, "administrator", user)
}

/// A kubeconfig for whoever holds this token. Its folder has no other of that name.
pub(crate) fn bearer(directory: &Path, port: u16, name: &str, token: &str) -> PathBuf {
    write(directory, port, name, json!({ "token": token }))
}

fn write(directory: &Path, port: u16, name: &str, user: Value) -> PathBuf {
    let server = format!("https://127.0.0.1:{port}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": server, "certificate-authority": directory.join(pki::AUTHORITY),
        }}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    });
    let file = directory.join(format!("{name}.kubeconfig"));
    // JSON is YAML.
    fs::write(&file, config.to_string()).expect("the plane's folder is writable");
    file
}
