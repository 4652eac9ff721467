//! Relay as it is shipped: `relay run` over manifests.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::Gateway;
use crate::{cores::Cores, process::Process};

const MANIFESTS: &str = include_str!("relay.yaml");

/// The manifests, before an upstream.
pub fn manifests(upstream: SocketAddr) -> String {
    MANIFESTS.replace("UPSTREAM", &upstream.to_string())
}

/// Has cargo build `relay` in the profile of this program, and says where it is.
pub fn built() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("asking which program this is")?;
    let folder = program.parent().context("a program is in a folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--profile", profile]);
    command.args(["--package", "relay-cli", "--bin", "relay"]);
    let status = command.status().context("running cargo")?;
    ensure!(status.success(), "`relay` is not built: what cargo said is above");
    Ok(folder.join("relay"))
}

pub(super) fn write_manifests(directory: &Path, upstream: SocketAddr) -> anyhow::Result<()> {
    let folder = folder(directory);
    fs::create_dir(&folder).context("making a directory of manifests")?;
    fs::write(folder.join("relay.yaml"), manifests(upstream)).context("writing manifests")
}

/// Starts one; `more` are further arguments.
pub(super) fn start(cores: Cores, program: &Path, directory: &Path, more: &[&str]) -> anyhow::Result<Gateway> {
    let mut command = cores.gateway(program);
    command.arg("run").arg(folder(directory)).args(["--strict", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    // That keys are bad is what is asked for, and nobody has to be told that it stops.
    command.args(more).env("RELAY_LOG", "error").env("RELAY_DEREGISTER_DELAY", "0s");
    let (process, line) = Process::announced(command)?;
    let address = line.split("listening on http://").nth(1).and_then(|rest| rest.split(',').next());
    let address = address.and_then(|address| address.parse().ok());
    Ok(Gateway { address: address.with_context(|| format!("`{line}` names no address"))?, process })
}

fn folder(directory: &Path) -> PathBuf {
    directory.join("manifests")
}
