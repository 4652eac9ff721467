//! The checked-in code is what the definitions generate. `RELAY_UPDATE=1 cargo test -p relay-feed --test generated`
//! writes it anew.

use std::{fs, path::Path};

/// Messages that hold rows, and so credentials: `feed::wire` gives them a `Debug` that shows no bytes.
const WITH_ROWS: [&str; 9] = [
    "ServerMessage",
    "ServerMessage.kind",
    "SnapshotChunk",
    "Delta",
    "Ops",
    "Op",
    "RowItem",
    "SealedBody",
    "SealedTable",
];

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let definitions = protox::compile(["relay/config/v1/config.proto"], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .skip_debug(WITH_ROWS.iter().chain(&["SealedQuarantine"]).map(|name| format!(".relay.config.v1.{name}")))
        .emit_rerun_if_changed(false)
        .compile_fds(definitions)
        .unwrap();
    fs::read_to_string(out.path().join("relay.config.v1.rs")).unwrap()
}

#[test]
fn the_checked_in_code_is_what_the_definitions_generate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated/relay.config.v1.rs");
    let generated = generate();
    if std::env::var_os("RELAY_UPDATE").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == generated, "{} is stale: run this test with RELAY_UPDATE=1", path.display());
}
