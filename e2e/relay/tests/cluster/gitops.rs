//! GitOps: the repository that `examples/gitops` shows. What it renders to, what runs on its pull requests, and how Argo CD
//! and Flux judge objects that an operator wrote.

mod argo;
mod flux;
mod health;
mod layout;
mod pull_requests;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The example.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gitops")
}

/// The text of a file of the example.
fn file(path: &str) -> String {
    std::fs::read_to_string(example().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `kubectl kustomize`, from the folder of kubectl, makes of a folder of the example.
fn rendered(kubectl: &Path, folder: &str) -> String {
    let mut command = Command::new(kubectl.join("kubectl"));
    let output = command.arg("kustomize").arg(example().join(folder)).output().expect("kubectl starts");
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("kubectl prints UTF-8")
}
