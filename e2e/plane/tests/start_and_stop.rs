//! The control plane starts, stops, comes back with what it stored, and leaves nothing behind.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use plane::Plane;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a";

#[test]
fn kubectl_reads_what_it_applied() {
    let Some(plane) = Plane::shared() else { return };
    let namespace = plane.namespace();
    plane.apply(&format!("{MAP}\n  namespace: {namespace}\ndata:\n  b: c\n"));
    assert_eq!(plane.kubectl(&["get", "configmap", "a", "-n", &namespace, "-o", "jsonpath={.data.b}"]), "c");
    let refused = plane.try_kubectl(plane.kubeconfig(), &["apply", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\n");
    assert!(refused.is_err_and(|error| error.contains("resource name may not be empty")));
}

#[test]
fn namespaces_are_new_each_time() {
    let Some(plane) = Plane::shared() else { return };
    assert_ne!(plane.namespace(), plane.namespace());
}

#[test]
fn a_plane_that_is_dropped_leaves_no_process_and_no_file() {
    let Some(plane) = Plane::start() else { return };
    let directory = plane.kubeconfig().parent().expect("it is in a folder").to_owned();
    assert_eq!(processes_in(&directory), ["etcd", "kube-apiserver"]);
    drop(plane);
    assert_eq!(processes_in(&directory), [""; 0]);
    assert!(!directory.exists());
}

/// The programs whose working directory this is.
fn processes_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted").filter_map(Result::ok);
    let within =
        processes.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory));
    let mut names: Vec<_> = within.filter_map(|process| fs::read_to_string(process.path().join("comm")).ok()).collect();
    names.iter_mut().for_each(|name| name.truncate(name.trim_end().len()));
    names.sort();
    names
}

#[test]
fn what_was_stored_outlives_the_api_server() {
    let Some(plane) = Plane::start() else { return };
    let namespace = plane.namespace();
    for stop in [Plane::stop_api, Plane::kill_api] {
        stop(&plane);
        let refused = plane.try_kubectl(plane.kubeconfig(), &["get", "--raw=/readyz"], "");
        assert!(refused.is_err_and(|error| error.contains("was refused")));
        plane.start_api();
        plane.kubectl(&["get", "namespace", &namespace]);
    }
}

#[test]
fn a_watch_from_before_a_compaction_is_gone() {
    let Some(plane) = Plane::start() else { return };
    let namespace = plane.namespace();
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let before = plane.kubectl(&["get", "namespace", &namespace, "-o", "jsonpath={.metadata.resourceVersion}"]);
    plane.kubectl(&["create", "configmap", "a", "-n", &namespace]);
    let watch = || plane.kubectl(&["get", &format!("--raw={maps}?watch=1&timeoutSeconds=1&resourceVersion={before}")]);
    assert!(watch().starts_with("{\"type\":\"ADDED\""), "{}", watch());

    plane.stop_api();
    assert!(plane.compact() > before.parse().expect("a version is a number"));
    plane.start_api();
    assert!(watch().starts_with("{\"type\":\"ERROR\"") && watch().contains("\"code\":410"), "{}", watch());
}

/// Set for a run of this program that is to be killed: where it says which folder its plane has.
const TO_BE_KILLED: &str = "RELAY_TEST_TO_BE_KILLED";

#[test]
fn a_test_that_is_killed_leaves_no_process_and_no_file() {
    if let Some(note) = env::var_os(TO_BE_KILLED) {
        let Some(plane) = Plane::shared() else { return };
        fs::write(note, plane.kubeconfig().parent().expect("it is in a folder").as_os_str().as_encoded_bytes())
            .expect("the note is writable");
        // Until it is killed.
        loop {
            thread::park();
        }
    }
    let folder = tempfile::tempdir().expect("a folder is made");
    let note = folder.path().join("note");
    let Some(_wanted) = Plane::shared() else { return };
    let program = env::current_exe().expect("a test knows itself");
    let mut command = Command::new(program);
    command.args(["--exact", "a_test_that_is_killed_leaves_no_process_and_no_file"]).env(TO_BE_KILLED, &note);
    let mut test = command.stdout(Stdio::null()).spawn().expect("a test starts");
    until("the test has a plane", || fs::read(&note).is_ok_and(|text| !text.is_empty()));
    let directory = PathBuf::from(fs::read_to_string(&note).expect("the note was written"));
    assert_eq!(processes_in(&directory), ["etcd", "kube-apiserver"]);
    test.kill().expect("a test is killed");
    test.wait().expect("a child is waited for");
    until("nothing is left", || processes_in(&directory).is_empty() && !directory.exists());
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
