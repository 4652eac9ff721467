//! `RELAY_E2E_CLUSTER=existing`: tests use a cluster that is there already, and leave it without their namespaces.

use std::{
    env,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use plane::Plane;

/// The variable that makes this program the one that uses the cluster.
const WITHIN: &str = "RELAY_TEST_WITHIN";

#[tokio::test(flavor = "multi_thread")]
async fn tests_use_a_cluster_that_is_there_and_leave_it() {
    if env::var_os(WITHIN).is_some() {
        return within().await;
    }
    let Some(plane) = Plane::start() else { return };
    plane.install_crds();
    let mut command = Command::new(env::current_exe().expect("a process knows its program"));
    command.args(["--exact", "tests_use_a_cluster_that_is_there_and_leave_it", "--nocapture"]);
    command.env(WITHIN, "yes").env("RELAY_E2E_CLUSTER", "existing").env("KUBECONFIG", plane.kubeconfig());
    let folders = env::var_os("PATH").expect("PATH is set");
    let folders = [plane.programs().to_owned()].into_iter().chain(env::split_paths(&folders));
    command.env("PATH", env::join_paths(folders).expect("paths are joined"));
    let output = command.output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("skipped, because RELAY_E2E_CLUSTER is `existing`, and it needs one of its own"), "{said}");
    let name = said.lines().find_map(|line| line.strip_prefix("namespace: ")).expect("it says what it made").to_owned();
    assert!(name.starts_with("relay-test-"), "{name}");
    let deadline = Instant::now() + Duration::from_secs(60);
    // No controller runs that would remove it for good.
    let template = "--output=jsonpath={.metadata.deletionTimestamp}";
    while plane.kubectl(&["get", "namespace", &name, template, "--ignore-not-found"]).is_empty() {
        assert!(Instant::now() < deadline, "{name} is not deleted");
        thread::sleep(Duration::from_millis(50));
    }
}

async fn within() {
    let plane = Plane::shared().expect("there is a cluster");
    let namespace = plane.namespace();
    let account = plane.service_account(&namespace, "somebody").await;
    let kubeconfig = account.kubeconfig().await;
    let refused = plane.try_kubectl(&kubeconfig, &["get", "pods", "-n", &namespace], "");
    assert!(refused.is_err_and(|error| error.contains(&account.to_string())));
    assert!(Plane::start().is_none());
    println!("\nnamespace: {namespace}");
}
