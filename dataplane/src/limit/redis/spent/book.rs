//! The file in which a process keeps its sums, beside its usage records.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracing::error;

use super::ledger::Page;

/// What the file begins with: grows when a field changes its meaning.
const SCHEMA: &str = "relay.spent/1";

/// How long a process that is just ending may still hold the file.
const PREDECESSOR: Duration = Duration::from_millis(500);

/// All sums of a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Book {
    /// A random name, made once: whoever goes on with the sums goes on with the name.
    pub process: String,
    /// By domain.
    pub domains: BTreeMap<String, Page>,
}

impl Book {
    /// An empty one.
    pub fn begin() -> Self {
        Self { process: hex::encode(rand::random::<[u8; 16]>()), domains: BTreeMap::new() }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    process: &'a str,
    domains: &'a BTreeMap<String, Page>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    schema: String,
    process: String,
    domains: BTreeMap<String, Page>,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// Another live process keeps its sums there.
    #[error("another process keeps its own in `{0}`; give each its own file for usage records")]
    Taken(String),
    /// The disk says no.
    #[error("`{0}` cannot be used: {1}")]
    Disk(String, io::Error),
}

/// Where a book is kept. Held for this process as long as a clone lives.
#[derive(Clone, Debug)]
pub struct Shelf {
    book: PathBuf,
    _lock: Arc<File>,
}

impl Shelf {
    /// The place beside these usage records, and the book that stands there. A book that cannot be read is reported and
    /// set aside. Errs where nothing can be kept there, or where another process does.
    pub fn open(records: &Path) -> Result<(Self, Option<Book>), Unkept> {
        let book = with(records, ".spent.json");
        let disk = |path: &Path| {
            let name = path.display().to_string();
            move |error| Unkept::Disk(name, error)
        };
        let lock = with(records, ".spent.lock");
        let file = File::options().create(true).append(true).open(&lock).map_err(disk(&lock))?;
        if !is_locked(&file).map_err(disk(&lock))? {
            return Err(Unkept::Taken(book.display().to_string()));
        }
        let found = match fs::read(&book) {
            Ok(bytes) => read(&bytes).map_or_else(|reason| set_aside(&book, &reason), |found| Ok(Some(found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok((Self { book: book.clone(), _lock: Arc::new(file) }, found.map_err(disk(&book))?))
    }

    /// Replaces what stands there, wholly or not at all.
    pub fn put(&self, book: &Book) -> io::Result<()> {
        let Book { process, domains } = book;
        let bytes = serde_json::to_vec(&Written { schema: SCHEMA, process, domains })?;
        let new = with(&self.book, ".new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.book)
    }
}

/// Locks the file until it is closed. False: another process has it, and does not end within [`PREDECESSOR`].
fn is_locked(file: &File) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            // Some network disks know no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() > PREDECESSOR => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(PREDECESSOR / 50),
        }
    }
}

fn read(bytes: &[u8]) -> Result<Book, String> {
    let Read { schema, process, domains } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if schema != SCHEMA {
        return Err(format!("its `schema` is `{schema}`, not `{SCHEMA}`"));
    }
    if process.is_empty() {
        return Err("its `process` is empty".to_owned());
    }
    Ok(Book { process, domains })
}

fn set_aside(book: &Path, reason: &str) -> io::Result<Option<Book>> {
    let aside = with(book, ".broken");
    fs::rename(book, &aside)?;
    let (book, aside) = (book.display(), aside.display());
    error!("the sums of budgets in `{book}` cannot be read and are begun anew; the file is now `{aside}`: {reason}");
    Ok(None)
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::redis::spent::ledger::Ledger;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn what_was_put_there_is_found_again_by_whoever_comes_next() {
        let directory = directory();
        let records = directory.path().join("usage.jsonl");
        let (shelf, none) = Shelf::open(&records).expect("an empty directory");
        let mut ledger = Ledger::default();
        assert!(ledger.hear("team", &"1".into(), None));
        let book = Book { domains: ledger.pages(), ..Book::begin() };
        shelf.put(&Book::begin()).expect("there is room");
        shelf.put(&book).expect("there is room");
        drop(shelf);
        let (_, found) = Shelf::open(&records).expect("what was put there");
        assert_eq!((none, found), (None, Some(book)));
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_lives() {
        let directory = directory();
        let records = directory.path().join("usage.jsonl");
        let (shelf, _) = Shelf::open(&records).expect("an empty directory");
        let refused = Shelf::open(&records).expect_err("it is taken").to_string();
        let name = directory.path().join("usage.jsonl.spent.json");
        let name = name.display();
        let text = format!("another process keeps its own in `{name}`; give each its own file for usage records");
        assert_eq!(refused, text);
        drop(shelf);
        assert!(Shelf::open(&records).is_ok());
    }

    #[test]
    fn a_broken_book_is_set_aside_and_not_overwritten() {
        let whole = r#"{"schema":"relay.spent/1","process":"p","domains":{}}"#;
        let later = whole.replace("/1", "/2");
        let nameless = whole.replace(r#""p""#, r#""""#);
        for broken in ["", "{", &whole[..20], &later, &nameless, "[]"] {
            let directory = directory();
            let records = directory.path().join("usage.jsonl");
            fs::write(directory.path().join("usage.jsonl.spent.json"), broken).expect("a file");
            let (shelf, found) = Shelf::open(&records).expect("it is not fatal");
            assert_eq!(found, None, "{broken}");
            shelf.put(&Book::begin()).expect("there is room");
            let aside = fs::read_to_string(directory.path().join("usage.jsonl.spent.json.broken"));
            assert_eq!(aside.expect("the file"), broken);
        }
    }

    #[test]
    fn a_half_written_book_does_not_replace_a_whole_one() {
        let directory = directory();
        let records = directory.path().join("usage.jsonl");
        let (shelf, _) = Shelf::open(&records).expect("an empty directory");
        let book = Book::begin();
        shelf.put(&book).expect("there is room");
        // The name under which the next one would be written cannot be created.
        fs::create_dir(directory.path().join("usage.jsonl.spent.json.new")).expect("a directory");
        assert!(shelf.put(&Book::begin()).is_err());
        drop(shelf);
        assert_eq!(Shelf::open(&records).expect("what was put there").1, Some(book));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_with_its_name() {
        let error = Shelf::open(Path::new("/nowhere/usage.jsonl")).expect_err("there is no such directory");
        assert!(error.to_string().contains("/nowhere/usage.jsonl.spent.lock"), "{error}");
    }
}
