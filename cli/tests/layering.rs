//! Who may import whom. Reads `cargo metadata` and fails on an edge that the table below forbids, on a crate without a
//! row, and on a row without a crate.

use std::{collections::BTreeSet, process::Command};

use cargo_metadata::{Metadata, MetadataCommand};

/// A crate, which of ours it may import, and what it must never link.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    (
        // It measures programs, sees of them what everybody sees, and gives a data plane its table as an operator does. Its
        // tests count what happens within one.
        "bench",
        &["relay-compiler", "relay-crds", "relay-dataplane", "relay-feed", "relay-table", "relay-test-servers"],
        &["dataplane", "operator"],
    ),
    ("relay-protocol", &[], &["tokio", "hyper", "kube", "redis"]),
    ("relay-table", &["relay-protocol"], &["kube", "tokio"]),
    ("relay-crds", &[], &["kube-client", "kube-runtime", "tokio"]),
    ("relay-compiler", &["relay-crds", "relay-table"], &["kube-client", "kube-runtime", "tokio", "hyper"]),
    (
        "relay-dataplane",
        // The servers are for tests only: what the crate links must not hold them.
        &["relay-feed", "relay-protocol", "relay-table", "relay-test-servers"],
        &["kube", "kube-core", "k8s-openapi", "servers"],
    ),
    (
        "relay-operator",
        // The API server is for tests only: what the crate links must not hold it.
        &["relay-compiler", "relay-crds", "relay-feed", "relay-table", "relay-e2e-plane"],
        &["dataplane", "hickory-resolver", "plane", "redis"],
    ),
    (
        // It alone links the kube client and the data plane. The operator, the API server, the charts and the servers are for
        // tests only: what the crate links must not hold them.
        "relay-cli",
        &[
            "relay-compiler",
            "relay-crds",
            "relay-dataplane",
            "relay-e2e-chart",
            "relay-e2e-plane",
            "relay-feed",
            "relay-operator",
            "relay-protocol",
            "relay-table",
            "relay-test-servers",
        ],
        &["chart", "kube-runtime", "operator", "plane", "servers"],
    ),
    ("relay-feed", &["relay-table"], &["kube", "kube-core", "k8s-openapi", "axum"]),
    ("relay-test-servers", &[], &["tokio", "redis"]),
    // The definitions are for its tests only: what it starts is given files.
    ("relay-e2e-plane", &["relay-crds"], &["crds", "compiler", "dataplane", "operator"]),
    // Helm and the API server only; the definitions tell its tests how many kinds there are.
    ("relay-e2e-chart", &["relay-crds", "relay-e2e-plane"], &["crds", "compiler", "dataplane", "operator"]),
    // It sees only what an administrator and applications see: the API server, HTTP, and programs.
    (
        "relay-e2e",
        &["relay-e2e-plane", "relay-test-servers"],
        &["crds", "compiler", "dataplane", "feed", "operator", "table"],
    ),
];

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace")
}

/// Every crate that `name` links, transitively. Asks `cargo tree`, because the resolve graph of `cargo metadata` also
/// holds optional dependencies that no feature turns on.
fn linked(name: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--package", name, "--edges", "normal", "--target", "all", "--prefix", "none"];
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(arguments).args(["--format", "{lib}"]).output().expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("crate names are UTF-8");
    text.lines().map(|line| line.trim_end_matches(" (*)").replace('_', "-")).collect()
}

#[test]
fn every_crate_has_a_row_and_every_row_a_crate() {
    let metadata = metadata();
    let crates: BTreeSet<_> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let rows: BTreeSet<_> = LAYERS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(crates, rows);
}

#[test]
fn crates_import_only_the_layers_below_them() {
    let metadata = metadata();
    for (name, allowed, _) in LAYERS {
        let package = metadata.packages.iter().find(|package| package.name == *name).expect("a workspace member");
        let ours = package.dependencies.iter().filter(|dependency| dependency.name.starts_with("relay-"));
        for dependency in ours {
            assert!(allowed.contains(&dependency.name.as_str()), "`{name}` must not import `{}`", dependency.name);
        }
    }
}

#[test]
fn crates_never_link_what_their_layer_forbids() {
    for (name, _, forbidden) in LAYERS {
        let linked = linked(name);
        assert!(linked.contains("cfg-if"), "the list of `{name}` is read wrongly: {linked:?}");
        for other in *forbidden {
            assert!(!linked.contains(*other), "`{name}` must not link `{other}`");
        }
        assert!(!linked.contains("ring"), "`{name}` links `ring`: the one crypto provider is aws-lc-rs");
    }
}
