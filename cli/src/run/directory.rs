//! The manifests of a directory over time. A file that is being written keeps its last content for a moment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::manifests::{self, Files, Loaded, Manifests, Scope};

/// How long a file may be broken before that is believed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A directory that is read again and again.
pub(super) struct Directory {
    dir: PathBuf,
    scope: Scope,
    known: BTreeMap<PathBuf, Known>,
    /// Before the first reading nothing is being written.
    is_read: bool,
}

/// What is known of a file.
struct Known {
    text: Result<String, String>,
    manifests: Arc<Manifests>,
    /// What it said before it was broken, and until when that holds.
    kept: Option<(Arc<Manifests>, Instant)>,
}

impl Directory {
    pub(super) fn new(dir: &Path, scope: Scope) -> Self {
        Self { dir: dir.to_owned(), scope, known: BTreeMap::new(), is_read: false }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// What the files say now. Errs where the directory cannot be read; then nothing changes.
    pub(super) fn read(&mut self, now: Instant) -> anyhow::Result<Loaded> {
        let files = manifests::files(&self.dir)?;
        self.take(files, now);
        Ok(self.loaded(now))
    }

    /// When the patience with the first broken file is over; absent: none is broken.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.known.values().filter_map(|known| Some(known.kept.as_ref()?.1)).filter(|until| *until > now).min()
    }

    fn take(&mut self, files: Files, now: Instant) {
        self.known.retain(|path, _| files.contains_key(path));
        for (path, text) in files {
            match self.known.remove(&path) {
                Some(known) if known.text == text => drop(self.known.insert(path, known)),
                before => {
                    let read = manifests::read(&path, text.as_deref(), &self.scope);
                    let kept = if is_whole(&text, &read) { None } else { self.kept(before.as_ref(), now) };
                    self.known.insert(path, Known { text, manifests: Arc::new(read), kept });
                }
            }
        }
        self.is_read = true;
    }

    /// What stands in for a broken file: what it said before it was broken, which of a new file is nothing.
    fn kept(&self, before: Option<&Known>, now: Instant) -> Option<(Arc<Manifests>, Instant)> {
        match before {
            Some(Known { kept: Some(kept), .. }) => Some(kept.clone()),
            Some(known) => Some((known.manifests.clone(), now + PATIENCE)),
            None => self.is_read.then(|| (Arc::default(), now + PATIENCE)),
        }
    }

    fn loaded(&self, now: Instant) -> Loaded {
        let current = self.known.values().map(|known| match &known.kept {
            Some((manifests, until)) if *until > now => &**manifests,
            _ => &*known.manifests,
        });
        manifests::assemble(current, &self.scope)
    }
}

/// Whether a file looks complete. Editors empty a file before they write it.
fn is_whole(text: &Result<String, String>, manifests: &Manifests) -> bool {
    text.as_ref().is_ok_and(|text| !text.trim().is_empty()) && manifests.is_sound()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {name: NAME}\nspec: {}\n";

    struct Case {
        directory: Directory,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            let scope = Scope { namespace: "default".into(), catalog_namespace: None };
            Self { directory: Directory::new(Path::new("."), scope), start: Instant::now() }
        }

        /// The names of policies and the number of findings after these files were seen at this time.
        fn at(&mut self, millis: u64, files: &[(&str, &str)]) -> (Vec<String>, usize) {
            let now = self.start + Duration::from_millis(millis);
            let files = files.iter().map(|(path, text)| (PathBuf::from(path), Ok((*text).to_owned())));
            self.directory.take(files.collect(), now);
            let loaded = self.directory.loaded(now);
            (loaded.resources.policies.keys().map(|id| id.name.clone()).collect(), loaded.findings.len())
        }
    }

    fn policy(name: &str) -> String {
        GOOD.replace("NAME", name)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_that_breaks_keeps_its_last_content_for_a_second_and_is_then_reported() {
        let mut case = Case::new();
        assert_eq!(case.at(0, &[("a.yaml", &policy("one"))]), (names(&["one"]), 0));
        assert_eq!(case.at(100, &[("a.yaml", "spec: [")]), (names(&["one"]), 0));
        assert_eq!(case.at(600, &[("a.yaml", "spec: {")]), (names(&["one"]), 0));
        assert_eq!(case.directory.until(case.start), Some(case.start + Duration::from_millis(1_100)));
        assert_eq!(case.at(1_100, &[("a.yaml", "spec: {")]), (names(&[]), 1));
        assert_eq!(case.at(1_200, &[("a.yaml", &policy("two"))]), (names(&["two"]), 0));
    }

    #[test]
    fn a_file_that_is_emptied_before_it_is_written_loses_nothing() {
        let mut case = Case::new();
        case.at(0, &[("a.yaml", &policy("one"))]);
        assert_eq!(case.at(10, &[("a.yaml", "")]), (names(&["one"]), 0));
        assert_eq!(case.at(20, &[("a.yaml", &policy("two"))]), (names(&["two"]), 0));
        assert_eq!(case.at(30, &[("a.yaml", "")]), (names(&["two"]), 0));
        assert_eq!(case.at(1_030, &[("a.yaml", "")]), (names(&[]), 0));
    }

    #[test]
    fn what_is_broken_at_the_start_is_reported_at_once_and_a_new_file_after_a_second() {
        let mut case = Case::new();
        assert_eq!(case.at(0, &[("a.yaml", "a: [")]), (names(&[]), 1));
        let both = [("a.yaml", policy("one")), ("b.yaml", "a: [".to_owned())];
        let both = both.each_ref().map(|(path, text)| (*path, text.as_str()));
        assert_eq!(case.at(10, &both), (names(&["one"]), 0));
        assert_eq!(case.at(1_010, &both), (names(&["one"]), 1));
    }

    #[test]
    fn a_removed_file_takes_its_objects_with_it_at_once() {
        let mut case = Case::new();
        case.at(0, &[("a.yaml", &policy("one")), ("b.yaml", &policy("two"))]);
        assert_eq!(case.at(1, &[("b.yaml", &policy("two"))]), (names(&["two"]), 0));
    }
}
