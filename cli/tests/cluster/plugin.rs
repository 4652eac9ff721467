//! The same program as `kubectl relay`, called by the real kubectl.

use std::{env, os::unix::fs::symlink, process::Command};

use plane::Plane;

use crate::support::manifests;

#[test]
fn kubectl_finds_it_and_hands_over_flags_and_exit_codes() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let dir = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_BIN_EXE_relay"), dir.path().join("kubectl-relay")).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(plane.programs().join("kubectl"));
        let path =
            env::join_paths([dir.path().to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
        command
            .args(arguments)
            .env("PATH", path.unwrap())
            .env("KUBECONFIG", plane.kubeconfig())
            .env("HOME", dir.path());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, help, _) = kubectl(&["relay", "keys", "create", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("Usage: kubectl relay keys create [OPTIONS]"), "{help}");
    assert!(
        help.contains("\n  kubectl relay keys create checkout --policy team-a\n") && !help.contains("\n  relay "),
        "{help}"
    );
    let (code, listed, _) = kubectl(&["relay", "keys", "list", "-n", &namespace]);
    assert_eq!(code, Some(0));
    assert!(listed.contains(&format!("{namespace}/app")), "{listed}");
    let (code, _, stderr) = kubectl(&["relay", "status", "relaykey/nobody", "-n", &namespace]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("kubectl relay: "), "{stderr}");
}
