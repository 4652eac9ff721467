//! helm, with none of the settings of whoever runs the tests.

use std::path::{Path, PathBuf};

use crate::{programs, tool::Tool};

/// helm.
#[derive(Debug)]
pub struct Helm(Tool);

impl Helm {
    /// Without a cluster; caches are in a folder.
    pub fn alone(home: &Path) -> Self {
        Self::on(home, PathBuf::from("/dev/null"))
    }

    /// On the cluster of a kubeconfig.
    pub fn on(home: &Path, kubeconfig: PathBuf) -> Self {
        let folders = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"];
        let tool = Tool::new(programs::helm()).with("KUBECONFIG", kubeconfig);
        Self(folders.into_iter().fold(tool, |tool, name| tool.with(name, home.to_owned())))
    }

    /// What it prints; panics with that when it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.0.run(arguments, "")
    }

    /// As [`run`](Self::run). The error is what it says.
    pub fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        self.0.attempt(arguments, "")
    }
}
