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
    /// When it was read last; before the first reading nothing is being written.
    read: Option<Instant>,
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
        Self { dir: dir.to_owned(), scope, known: BTreeMap::new(), read: None }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// What the files say now. Errs where the directory cannot be read; then nothing changes.
    pub(super) fn read(&mut self, now: Instant) -> anyhow::Result<Loaded> {
        self.changed(now)?;
        Ok(self.loaded(now))
    }

    /// As [`Self::read`]; absent: they say what they said the last time.
    pub(super) fn read_if_changed(&mut self, now: Instant) -> anyhow::Result<Option<Loaded>> {
        Ok(self.changed(now)?.then(|| self.loaded(now)))
    }

    fn changed(&mut self, now: Instant) -> anyhow::Result<bool> {
        let files = manifests::files(&self.dir)?;
        Ok(self.take(files, now))
    }

    /// When the patience with the first broken file is over; absent: none is broken.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.known.values().filter_map(|known| Some(known.kept.as_ref()?.1)).filter(|until| *until > now).min()
    }

    /// Takes what the files hold now; says whether that, or what is believed of them, is other than the last time.
    fn take(&mut self, files: Files, now: Instant) -> bool {
        let many = self.known.len();
        self.known.retain(|path, _| files.contains_key(path));
        let mut is_changed = self.read.is_none() || self.known.len() < many || self.is_patience_over(now);
        for (path, text) in files {
            match self.known.remove(&path) {
                Some(known) if known.text == text => drop(self.known.insert(path, known)),
                before => {
                    let read = manifests::read(&path, text.as_deref(), &self.scope);
                    let kept = if is_whole(&text, &read) { None } else { self.kept(before.as_ref(), now) };
                    self.known.insert(path, Known { text, manifests: Arc::new(read), kept });
                    is_changed = true;
                }
            }
        }
        self.read = Some(now);
        is_changed
    }

    /// Whether since the last reading it came to be believed that a file is broken.
    fn is_patience_over(&self, now: Instant) -> bool {
        let is_past = |until: Instant| until <= now && self.read.is_none_or(|read| read < until);
        self.known.values().filter_map(|known| known.kept.as_ref()).any(|(_, until)| is_past(*until))
    }

    /// What stands in for a broken file: what it said before it was broken, which of a new file is nothing.
    fn kept(&self, before: Option<&Known>, now: Instant) -> Option<(Arc<Manifests>, Instant)> {
        match before {
            Some(Known { kept: Some(kept), .. }) => Some(kept.clone()),
            Some(known) => Some((known.manifests.clone(), now + PATIENCE)),
            None => self.read.map(|_| (Arc::default(), now + PATIENCE)),
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
    fn only_what_is_new_to_a_reader_is_a_change() {
        let mut case = Case::new();
        let mut is_change = |millis: u64, files: &[(&str, &str)]| {
            let files = files.iter().map(|(path, text)| (PathBuf::from(path), Ok((*text).to_owned())));
            case.directory.take(files.collect(), case.start + Duration::from_millis(millis))
        };
        let (one, two) = (policy("one"), policy("two"));
        assert!(is_change(0, &[]), "nothing is something to know at first");
        assert!(!is_change(1, &[]));
        assert!(is_change(2, &[("a.yaml", &one)]));
        assert!(!is_change(3, &[("a.yaml", &one)]));
        assert!(is_change(4, &[("a.yaml", &one), ("b.yaml", &two)]));
        assert!(is_change(5, &[("a.yaml", "spec: ["), ("b.yaml", &two)]));
        assert!(!is_change(1_004, &[("a.yaml", "spec: ["), ("b.yaml", &two)]));
        assert!(is_change(1_005, &[("a.yaml", "spec: ["), ("b.yaml", &two)]), "it is believed from now on");
        assert!(!is_change(1_006, &[("a.yaml", "spec: ["), ("b.yaml", &two)]));
        assert!(is_change(1_007, &[("b.yaml", &two)]));
        assert!(!is_change(9_000, &[("b.yaml", &two)]));
    }

    #[test]
    fn a_removed_file_takes_its_objects_with_it_at_once() {
        let mut case = Case::new();
        case.at(0, &[("a.yaml", &policy("one")), ("b.yaml", &policy("two"))]);
        assert_eq!(case.at(1, &[("b.yaml", &policy("two"))]), (names(&["two"]), 0));
    }
}
