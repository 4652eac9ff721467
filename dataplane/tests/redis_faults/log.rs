//! What the data plane of one test has logged.

use std::{collections::HashMap, io, sync::OnceLock};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};

/// Lines by the runtime on which they were logged: each test has its own, and none reads what another's leaves behind.
static LINES: Mutex<Option<HashMap<Id, Vec<u8>>>> = Mutex::new(None);

/// Lines that were logged on this runtime, from the beginning on.
pub(crate) struct Log(Id);

impl Log {
    /// The log, from now on.
    pub(crate) fn begin() -> Self {
        static LISTENING: OnceLock<()> = OnceLock::new();
        LISTENING.get_or_init(|| {
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        });
        let id = Handle::current().id();
        LINES.lock().get_or_insert_default().insert(id, Vec::new());
        Self(id)
    }

    /// How many lines have these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }

    /// The lines that have these words.
    pub(crate) fn about(&self, words: &str) -> String {
        self.text().lines().filter(|line| line.contains(words)).collect::<Vec<_>>().join("\n")
    }

    fn text(&self) -> String {
        let lines = LINES.lock();
        let mine = lines.as_ref().and_then(|lines| lines.get(&self.0));
        mine.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(runtime) = Handle::try_current()
            && let Some(lines) = LINES.lock().as_mut().and_then(|lines| lines.get_mut(&runtime.id()))
        {
            lines.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
