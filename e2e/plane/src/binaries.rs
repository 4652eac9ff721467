//! Finds the programs that a control plane is made of, and whether one is wanted at all.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What `e2e/cluster/build` builds, `NAME=version` a line.
const VERSIONS: &str = include_str!("../../cluster/versions");

/// Which API server tests get.
pub(crate) enum Wanted {
    /// None at all.
    Nothing,
    /// One of their own, of these programs.
    Own(Binaries),
    /// The one that `KUBECONFIG` says, by this kubectl.
    Existing(PathBuf),
}

impl Wanted {
    /// What the environment asks for.
    pub(crate) fn find() -> Self {
        match env::var("RELAY_E2E_CLUSTER").as_deref() {
            Err(env::VarError::NotPresent) => Self::Own(Binaries::find()),
            Ok("none") => Self::Nothing,
            Ok("existing") => Self::Existing(Path::new("kubectl").to_owned()),
            Ok(other) => panic!("RELAY_E2E_CLUSTER is `{other}`: it must be `none`, `existing` or not set"),
            Err(error) => panic!("RELAY_E2E_CLUSTER must be `none`, `existing` or not set: {error}"),
        }
    }
}

/// Says in a line on stderr that a test is left out.
pub(crate) fn skip(because: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of the test harness, which would hide the line because the test passes.
    writeln!(io::stderr(), "skipped, because {because}: {test}").expect("stderr is open");
}

/// The folder with etcd, kube-apiserver and kubectl.
pub(crate) struct Binaries(PathBuf);

impl Binaries {
    fn find() -> Self {
        let folder = folder();
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            assert!(
                folder.join(name).is_file(),
                "{} is missing: `e2e/cluster/build` builds it, KUBEBUILDER_ASSETS names another folder, \
                 RELAY_E2E_CLUSTER=existing takes the cluster of KUBECONFIG, and RELAY_E2E_CLUSTER=none does without \
                 all tests that need one",
                folder.join(name).display()
            );
        }
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS") {
        return std::path::absolute(folder).expect("KUBEBUILDER_ASSETS is a path");
    }
    let versions = format!("{}-etcd-{}", version("KUBERNETES"), version("ETCD"));
    cache().join("cluster").join(versions)
}

/// Where the scripts keep what they build, as `scripts/lib.sh` has it.
pub fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let in_home = || Path::new(&set("HOME").expect("HOME is set")).join(".cache");
    set("RELAY_CACHE")
        .map_or_else(|| set("XDG_CACHE_HOME").map_or_else(in_home, PathBuf::from).join("relay"), PathBuf::from)
}

fn version(name: &str) -> &'static str {
    let mut lines = VERSIONS.lines().filter_map(|line| line.split_once('='));
    lines.find(|(key, _)| *key == name).map(|(_, version)| version).expect("e2e/cluster/versions has every version")
}
