//! Where the programs and files are that tests of the charts need.

use std::path::{Path, PathBuf};

use crate::tool::Tool;

/// Versions of Kubernetes' tools, `NAME=version` a line.
const CLUSTER: &str = include_str!("../../cluster/versions");

/// Versions of what other projects define.
const OTHERS: &str = include_str!("../versions");

/// The folder with `relay` and `relay-crds`.
pub fn charts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts"))
}

/// The folder with the definitions of other projects' kinds that the chart has objects of.
pub fn definitions() -> PathBuf {
    let (prometheus, gateway) = (version(OTHERS, "PROMETHEUS_OPERATOR"), version(OTHERS, "GATEWAY_API"));
    there(plane::cache().join(format!("definitions/prometheus-operator-{prometheus}-gateway-api-{gateway}")))
}

/// The program kubeconform.
pub fn kubeconform() -> Tool {
    Tool::new(built("kubeconform", "KUBECONFORM"))
}

/// The program promtool.
pub fn promtool() -> Tool {
    Tool::new(PathBuf::from("promtool"))
}

pub(crate) fn helm() -> PathBuf {
    built("helm", "HELM")
}

fn built(name: &str, versioned: &str) -> PathBuf {
    there(plane::cache().join(format!("cluster/{name}-{}", version(CLUSTER, versioned))).join(name))
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: `e2e/chart/environment` makes it", path.display());
    path
}

fn version(file: &'static str, name: &str) -> &'static str {
    let mut lines = file.lines().filter_map(|line| line.split_once('='));
    lines.find(|(key, _)| *key == name).map(|(_, version)| version).expect("the file has every version")
}
