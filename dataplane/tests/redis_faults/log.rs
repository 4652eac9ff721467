//! What this process has logged.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

/// Lines of the log, from the first call on.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log, from now on.
    pub(crate) fn begin() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Log::default();
            let lines = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
            log
        });
        log.0.lock().clear();
        log.clone()
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
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
