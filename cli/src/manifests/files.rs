//! Which files of a directory are manifests, and what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The text of every manifest, or why it cannot be read, in the order of their paths.
pub(crate) type Files = BTreeMap<PathBuf, Result<String, String>>;

/// Reads every `*.yaml`, `*.yml` and `*.json` below a directory, or one file. Hidden files and directories are left out:
/// mounted ConfigMaps keep their old versions in such. Errs where there is no such directory.
pub(crate) fn files(dir: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let about = fs::metadata(dir).with_context(|| format!("reading manifests from `{}`", dir.display()))?;
    if about.is_file() {
        files.insert(dir.to_owned(), text(dir));
        return Ok(files);
    }
    collect(dir, &mut files, &mut BTreeSet::new())
        .with_context(|| format!("reading manifests from `{}`", dir.display()))?;
    Ok(files)
}

/// `visited` are directories by their real path: links may lead in a circle.
fn collect(dir: &Path, files: &mut Files, visited: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if !visited.insert(fs::canonicalize(dir)?) {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(about) if about.is_dir() => {
                if let Err(error) = collect(&path, files, visited) {
                    files.insert(path, Err(format!("cannot be read: {error}")));
                }
            }
            Ok(about) if about.is_file() && is_manifest(&path) => {
                let text = text(&path);
                files.insert(path, text);
            }
            Err(error) if is_manifest(&path) => {
                files.insert(path, Err(format!("cannot be read: {error}")));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not text (UTF-8)".to_owned())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a file of that name is read.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    #[test]
    fn manifests_are_read_from_all_depths_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["b.yaml", "a/z.yml", "a/b/c.json", ".hidden.yaml", ".git/x.yaml", "..data/b.yaml", "note.txt"];
        names.iter().for_each(|name| write(dir.path(), name));
        let files = files(dir.path()).unwrap();
        let found: Vec<_> = files.values().map(|text| text.as_deref().unwrap()).collect();
        assert_eq!(found, ["a/b/c.json", "a/z.yml", "b.yaml"]);
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/x.yaml");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        assert_eq!(files(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_a_file_that_is_no_text_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        assert!(files(&dir.path().join("nowhere")).is_err());
        fs::write(dir.path().join("x.yaml"), [0xff, 0xfe]).unwrap();
        assert_eq!(files(dir.path()).unwrap().into_values().next(), Some(Err("is not text (UTF-8)".to_owned())));
    }
}
