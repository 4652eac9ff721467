//! Relay as it is shipped: `relay run` over manifests.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::{Gateway, manifests::manifests};
use crate::{cores::Cores, process::Process};

/// Beside the manifests of everybody, for what failures cost.
const FAILURES: &str = include_str!("failures.yaml");

/// Has cargo build a program in the profile of this one, and says where it is.
pub fn built(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("asking which program this is")?;
    let folder = program.parent().context("a program is in a folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--profile", profile]);
    command.args(["--package", package, "--bin", name]);
    let status = command.status().context("running cargo")?;
    ensure!(status.success(), "`{name}` is not built: what cargo said is above");
    Ok(folder.join(name))
}

pub(super) fn write_manifests(directory: &Path, upstream: SocketAddr) -> anyhow::Result<()> {
    let folder = folder(directory);
    fs::create_dir(&folder).context("making a directory of manifests")?;
    let failures = FAILURES.replace("UPSTREAM", &upstream.to_string());
    fs::write(folder.join("failures.yaml"), failures).context("writing manifests")?;
    fs::write(folder.join("relay.yaml"), manifests(upstream)).context("writing manifests")
}

/// Starts one; `more` are further arguments.
pub(super) fn start(cores: Cores, program: &Path, directory: &Path, more: &[&str]) -> anyhow::Result<Gateway> {
    let mut command = cores.gateway(program);
    command.arg("run").arg(folder(directory)).args(["--strict", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    // That keys are bad is what is asked for, and nobody has to be told that it stops.
    command.args(more).env("RELAY_LOG", "error").env("RELAY_DEREGISTER_DELAY", "0s");
    let (process, line) = Process::announced(command)?;
    Ok(Gateway { address: address(&line, "listening on")?, process })
}

/// Where a program says that it listens, behind `word`.
pub(super) fn address(line: &str, word: &str) -> anyhow::Result<SocketAddr> {
    let address = line.split(&format!("{word} http://")).nth(1).and_then(|rest| rest.trim_end().split(',').next());
    let address = address.and_then(|address| address.parse().ok());
    address.with_context(|| format!("`{line}` names no address behind `{word}`"))
}

fn folder(directory: &Path) -> PathBuf {
    directory.join("manifests")
}
