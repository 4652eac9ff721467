//! Runs kubectl, with none of the settings and caches of whoever runs the tests.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// What a run of kubectl printed: on stdout where it went well, on both where it did not.
pub(crate) fn run(program: &Path, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let home = kubeconfig.parent().expect("a kubeconfig is in a folder");
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments).env_remove("KUBECONFIG").env("HOME", home);
    command.env("KUBECACHEDIR", home.join("kubectl-cache"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let written = child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child is waited for");
    let text = |bytes| String::from_utf8(bytes).expect("kubectl prints UTF-8");
    match output.status.success() {
        true => {
            written.expect("kubectl reads its input");
            Ok(text(output.stdout))
        }
        false => Err(text(output.stdout) + &text(output.stderr)),
    }
}
