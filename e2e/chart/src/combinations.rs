//! The combinations of values that are documented: one file each in `charts/relay/ci`.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{helm::Helm, objects, programs::charts};

/// What releases are called in tests.
pub const RELEASE: &str = "relay";

/// Where they are.
pub const NAMESPACE: &str = "routing";

/// Values of the chart `relay`.
#[derive(Clone, Debug)]
pub struct Combination {
    /// What the file is called, without its end.
    pub name: String,
    /// The file.
    pub file: PathBuf,
}

impl Combination {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let files = fs::read_dir(charts().join("relay/ci")).expect("there is a folder of combinations");
        let mut all: Vec<Self> = files.map(|entry| Self::of(entry.expect("the folder is read").path())).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(all.len() > 5, "there are {} combinations", all.len());
        all
    }

    /// The one of this name.
    pub fn named(name: &str) -> Self {
        Self::of(charts().join(format!("relay/ci/{name}-values.yaml")))
    }

    fn of(file: PathBuf) -> Self {
        let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix("-values.yaml"));
        let name = name.unwrap_or_else(|| panic!("{} is not called NAME-values.yaml", file.display())).to_owned();
        Self { name, file }
    }

    /// What `helm template` prints; `more` are further arguments.
    #[track_caller]
    pub fn rendered(&self, helm: &Helm, more: &[&str]) -> String {
        let (chart, file) = (charts().join("relay"), self.file.display().to_string());
        let chart = chart.display().to_string();
        helm.run(&[&["template", RELEASE, &chart, "--namespace", NAMESPACE, "--values", &file], more].concat())
    }

    /// The objects that it stands for.
    #[track_caller]
    pub fn objects(&self, helm: &Helm) -> Vec<Value> {
        objects(&self.rendered(helm, &[]))
    }
}
