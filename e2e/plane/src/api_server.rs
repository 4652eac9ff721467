//! The command line of kube-apiserver.

use std::{path::Path, process::Command};

use crate::{etcd, pki};

/// Who signs service-account tokens, and for whom when nobody else is named.
const ISSUER: &str = "https://kubernetes.default.svc";

/// An API server on this port of 127.0.0.1, to be run in the plane's folder.
pub(crate) fn command(program: &Path, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["--etcd-servers", etcd::URL]);
    command.args(["--bind-address=127.0.0.1", "--secure-port", &port.to_string()]);
    // Nobody looks for this server through the `kubernetes` Service, whose addresses may not be loopback ones.
    command.args(["--endpoint-reconciler-type=none", "--advertise-address=127.0.0.1"]);
    command.args(["--tls-cert-file", pki::SERVER[0], "--tls-private-key-file", pki::SERVER[1]]);
    command.args(["--client-ca-file", pki::AUTHORITY, "--authorization-mode=RBAC"]);
    command.args(["--service-account-issuer", ISSUER]);
    command.args(["--service-account-key-file", pki::TOKENS[0], "--service-account-signing-key-file", pki::TOKENS[1]]);
    command.args(["--service-cluster-ip-range=10.96.0.0/16", "--profiling=false"]);
    command
}
