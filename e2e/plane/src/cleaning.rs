//! Leaves a cluster that outlives its tests as it was found, as far as namespaces go: what is in them goes with them.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The label of namespaces that tests made; its value says which run.
pub(crate) const LABEL: &str = "llmrelay.io/test-run";

/// A process that deletes them once this one is gone, however it went: it waits for the end of its input.
pub(crate) struct Cleaning {
    _waiting: Child,
}

impl Cleaning {
    pub(crate) fn start(kubectl: &Path, kubeconfig: &Path, run: &str, directory: &Path) -> Self {
        const SCRIPT: &str =
            "read -r _; \"$1\" --kubeconfig \"$2\" delete namespaces -l \"$3\" --wait=false; rm -rf \"$4\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "cleaning"])
            .arg(kubectl)
            .arg(kubeconfig)
            .arg(format!("{LABEL}={run}"))
            .arg(directory);
        // A group of its own: an interrupt from the keyboard must reach this process, not the one that cleans up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _waiting: command.spawn().expect("`sh` is on every machine that runs these tests") }
    }
}
