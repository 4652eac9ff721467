//! Nothing but this module knows which client library there is.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn naming_the_client() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["src", "tests", "benches"].map(|name| root.join(name)).iter().filter(|path| path.is_dir()) {
        sources(directory, &mut found);
    }
    let name = concat!("redis", "_client");
    found.retain(|path| fs::read_to_string(path).expect("sources are UTF-8").contains(name));
    let module = root.join("src/limit/redis/store");
    found.into_iter().partition(|path| path.starts_with(&module))
}

#[test]
fn no_other_module_names_the_client_library() {
    let (within, without) = naming_the_client();
    assert!(!within.is_empty(), "the library has another name now: this test looks for the wrong one");
    assert_eq!(without, Vec::<PathBuf>::new());
}

#[test]
fn what_other_modules_see_of_this_one_does_not_name_it_either() {
    let (within, _) = naming_the_client();
    let public = ["mod.rs", "error.rs", "target.rs"];
    let leaks: Vec<_> = within.iter().filter(|path| public.iter().any(|name| path.ends_with(name))).collect();
    assert_eq!(leaks, Vec::<&PathBuf>::new());
}
