//! Takes usage records to where they are kept: JSON lines, appended to a file or written to stdout.
//!
//! Sending never blocks: a bounded queue, and a thread of its own that writes. What the queue cannot take is counted as
//! lost. A sink that fails is tried again until it works, and what waits in it is written then, line by line, whole.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::record::Record;
use crate::metrics::Metrics;

/// Records that wait at most.
const QUEUE: usize = 16_384;

/// Bytes that are written at once, about.
const BATCH: usize = 64 * 1024;

/// How long a failed sink is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How long a file is kept open: after this it is opened anew, so that it may be moved away.
const REOPEN: Duration = Duration::from_secs(1);

/// How long sinks that are dropped without being closed may still write.
const AT_DROP: Duration = Duration::from_secs(5);

/// Where usage records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere; metrics alone count them.
    None,
    /// To stdout.
    Stdout,
    /// To the end of this file, which is created where it is missing.
    File(PathBuf),
}

/// The way to the sink.
pub struct Sinks {
    queue: Mutex<Option<SyncSender<Arc<Record>>>>,
    writer: Mutex<Option<Running>>,
    closing: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// The thread that writes.
struct Running {
    thread: Thread,
    /// Disconnected when it has ended.
    ended: Receiver<()>,
}

impl Sinks {
    /// Starts the thread that writes to `target`. A target that cannot be opened is tried again, not an error: requests
    /// come first.
    pub fn new(target: Target, metrics: Arc<Metrics>) -> Self {
        match target {
            Target::None => Self::idle(metrics),
            Target::Stdout => Self::writing(|| Ok(Box::new(io::stdout())), "stdout".into(), metrics, QUEUE, RETRY),
            Target::File(path) => {
                let name = path.display().to_string();
                let mut first = true;
                let open = move || {
                    let mut file = append(&path)?;
                    if first {
                        end_line(&mut file)?;
                        first = false;
                    }
                    Ok(Box::new(file) as Box<dyn Write>)
                };
                Self::writing(open, name, metrics, QUEUE, RETRY)
            }
        }
    }

    fn idle(metrics: Arc<Metrics>) -> Self {
        Self { queue: Mutex::new(None), writer: Mutex::new(None), closing: Arc::default(), metrics }
    }

    fn writing(
        open: impl FnMut() -> io::Result<Box<dyn Write>> + Send + 'static,
        name: String,
        metrics: Arc<Metrics>,
        capacity: usize,
        retry: Duration,
    ) -> Self {
        let (queue, records) = sync_channel(capacity);
        let closing = Arc::new(AtomicBool::new(false));
        let (counts, closed) = (metrics.clone(), closing.clone());
        let (end, ended) = sync_channel(0);
        let run = move || {
            let _end: SyncSender<()> = end;
            Writer::new(open, name, counts, closed, retry).run(&records);
        };
        match thread::Builder::new().name("relay-usage".into()).spawn(run) {
            Ok(writer) => {
                let running = Running { thread: writer.thread().clone(), ended };
                Self { queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(running)), closing, metrics }
            }
            Err(error) => {
                tracing::error!(%error, "no usage record is kept: the thread that writes them could not be started");
                Self::idle(metrics)
            }
        }
    }

    /// Whether records go anywhere; false also once it was closed.
    pub(crate) fn take_any(&self) -> bool {
        self.queue.lock().is_some()
    }

    /// Queues a record. Never blocks; a record that finds no room is counted as lost.
    pub fn send(&self, record: Arc<Record>) {
        let queue = self.queue.lock();
        let Some(queue) = queue.as_ref() else { return };
        match queue.try_send(record) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.usage_records_dropped.inc();
            }
        }
    }

    /// Writes what is queued and stops. Blocks until that is done or the time is up (then it logs that records may be
    /// lost: whoever reads them does not keep up). A sink that fails gets one more try. Records that come later are
    /// ignored.
    pub fn close(&self, within: Duration) {
        self.closing.store(true, Ordering::Release);
        drop(self.queue.lock().take());
        let Some(Running { thread, ended }) = self.writer.lock().take() else { return };
        thread.unpark();
        if ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(waited = ?within, "usage records may be lost: their sink takes none");
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.close(AT_DROP);
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// Ends the line that a process which was killed may have left half written.
fn end_line(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

struct Writer<O> {
    open: O,
    name: String,
    metrics: Arc<Metrics>,
    closing: Arc<AtomicBool>,
    retry: Duration,
    out: Option<(Box<dyn Write>, Instant)>,
    /// Lines that are not written; the first may be half written.
    pending: Vec<u8>,
    failing: bool,
}

impl<O: FnMut() -> io::Result<Box<dyn Write>>> Writer<O> {
    fn new(open: O, name: String, metrics: Arc<Metrics>, closing: Arc<AtomicBool>, retry: Duration) -> Self {
        Self { open, name, metrics, closing, retry, out: None, pending: Vec::new(), failing: false }
    }

    fn run(mut self, records: &Receiver<Arc<Record>>) {
        while let Ok(record) = records.recv() {
            self.add(&record);
            while self.pending.len() < BATCH {
                let Ok(record) = records.try_recv() else { break };
                self.add(&record);
            }
            self.write_all();
        }
    }

    fn add(&mut self, record: &Record) {
        let whole = self.pending.len();
        match serde_json::to_writer(&mut self.pending, record) {
            Ok(()) => self.pending.push(b'\n'),
            Err(error) => {
                self.pending.truncate(whole);
                self.metrics.usage_records_dropped.inc();
                tracing::error!(%error, "a usage record could not be written as JSON");
            }
        }
    }

    /// Writes what is pending, however often it takes. While it fails, records wait in the queue.
    fn write_all(&mut self) {
        loop {
            match self.write_some() {
                Ok(()) if self.pending.is_empty() => return self.succeeded(),
                Ok(()) => {}
                Err(error) => {
                    self.failed(&error);
                    if self.closing.load(Ordering::Acquire) {
                        return self.give_up();
                    }
                    thread::park_timeout(self.retry);
                }
            }
        }
    }

    fn write_some(&mut self) -> io::Result<()> {
        if self.out.as_ref().is_none_or(|(_, since)| since.elapsed() > REOPEN) {
            self.out = Some(((self.open)()?, Instant::now()));
        }
        let Some((out, _)) = self.out.as_mut() else { return Ok(()) };
        while !self.pending.is_empty() {
            match out.write(&self.pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let lines = self.pending[..written].iter().filter(|byte| **byte == b'\n').count();
                    self.metrics.usage_records_written.inc_by(lines as u64);
                    // What was written is gone from here, so that a retry goes on in the middle of the line.
                    self.pending.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    }

    fn succeeded(&mut self) {
        if self.failing {
            self.failing = false;
            tracing::info!(sink = %self.name, "usage records are written again to `{}`", self.name);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.out = None;
        self.metrics.usage_sink_errors.inc();
        if !self.failing {
            self.failing = true;
            tracing::error!(sink = %self.name, %error, "usage records wait: `{}` cannot be written", self.name);
        }
    }

    fn give_up(&mut self) {
        let lost = self.pending.iter().filter(|byte| **byte == b'\n').count();
        self.metrics.usage_records_dropped.inc_by(lost as u64);
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, fs};

    use jiff::Timestamp;

    use super::*;

    fn record(id: &str) -> Arc<Record> {
        Arc::new(Record::new(id, "chat", Timestamp::UNIX_EPOCH))
    }

    fn ids(text: &str) -> Vec<String> {
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("every line is whole");
        text.lines().map(|text| line(text)["request_id"].as_str().unwrap_or_default().to_owned()).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a sink does at each call, and all that it took.
    #[derive(Clone, Default)]
    struct Script {
        taken: Arc<Mutex<Vec<u8>>>,
        steps: Arc<Mutex<VecDeque<Step>>>,
    }

    #[derive(Clone, Copy)]
    enum Step {
        Take(usize),
        Full,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.steps.lock().pop_front() {
                Some(Step::Full) => Err(io::ErrorKind::StorageFull.into()),
                Some(Step::Take(most)) => {
                    self.taken.lock().extend(&bytes[..most.min(bytes.len())]);
                    Ok(most.min(bytes.len()))
                }
                None => {
                    self.taken.lock().extend(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted(steps: &[Step], capacity: usize) -> (Sinks, Script, Arc<Metrics>) {
        let script = Script::default();
        script.steps.lock().extend(steps);
        let (metrics, out) = (Arc::new(Metrics::new()), script.clone());
        let open = move || Ok(Box::new(out.clone()) as Box<dyn Write>);
        let sinks = Sinks::writing(open, "script".into(), metrics.clone(), capacity, Duration::from_millis(1));
        (sinks, script, metrics)
    }

    #[test]
    fn appends_a_line_for_each_record_and_writes_all_before_it_stops() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("usage.jsonl");
        fs::write(&path, "{\"request_id\":\"before\"}\n").expect("a file");
        let metrics = Arc::new(Metrics::new());
        let sinks = Sinks::new(Target::File(path.clone()), metrics.clone());
        for turn in 0..1_000 {
            sinks.send(record(&format!("{turn}")));
        }
        sinks.close(PATIENCE);
        let ids = ids(&fs::read_to_string(&path).expect("the file"));
        assert_eq!((ids.len(), ids[0].as_str(), ids[1_000].as_str()), (1_001, "before", "999"));
        assert_eq!((metrics.usage_records_written.get(), metrics.usage_records_dropped.get()), (1_000, 0));
    }

    #[test]
    fn a_full_disk_loses_nothing_and_breaks_no_line_once_there_is_room_again() {
        let (sinks, script, metrics) = scripted(&[Step::Take(10), Step::Full, Step::Take(7), Step::Full], 100);
        sinks.send(record("a"));
        while metrics.usage_records_written.get() == 0 {
            thread::yield_now();
        }
        sinks.send(record("b"));
        sinks.close(PATIENCE);
        assert_eq!(ids(&String::from_utf8(script.taken.lock().clone()).expect("text")), ["a", "b"]);
        assert_eq!((metrics.usage_sink_errors.get(), metrics.usage_records_dropped.get()), (2, 0));
    }

    #[test]
    fn a_sink_that_never_works_blocks_nobody_and_counts_every_record_as_lost() {
        let metrics = Arc::new(Metrics::new());
        let open = || Err(io::ErrorKind::PermissionDenied.into());
        let sinks = Sinks::writing(open, "none".into(), metrics.clone(), 10, Duration::from_millis(1));
        for turn in 0..100 {
            sinks.send(record(&format!("{turn}")));
        }
        sinks.close(PATIENCE);
        assert_eq!((metrics.usage_records_dropped.get(), metrics.usage_records_written.get()), (100, 0));
        assert!(metrics.usage_sink_errors.get() > 0);
    }

    #[test]
    fn a_device_without_room_is_an_error_and_not_a_panic() {
        let metrics = Arc::new(Metrics::new());
        let sinks = Sinks::new(Target::File("/dev/full".into()), metrics.clone());
        sinks.send(record("a"));
        sinks.close(PATIENCE);
        assert_eq!((metrics.usage_records_dropped.get(), metrics.usage_records_written.get()), (1, 0));
    }

    #[test]
    fn a_sink_that_takes_nothing_does_not_hold_up_the_end() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                // Until the test ends.
                let _ = self.0.recv();
                Ok(0)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (end, stuck) = sync_channel(0);
        let mut stuck = Some(Stuck(stuck));
        let open =
            move || stuck.take().map(|it| Box::new(it) as Box<dyn Write>).ok_or_else(|| io::ErrorKind::Other.into());
        let metrics = Arc::new(Metrics::new());
        let sinks = Sinks::writing(open, "stuck".into(), metrics, 10, Duration::from_millis(1));
        sinks.send(record("a"));
        sinks.close(Duration::from_millis(10));
        drop(end);
    }

    #[test]
    fn a_line_that_another_process_left_half_written_stays_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("usage.jsonl");
        fs::write(&path, "{\"request_id\":\"ha").expect("a file");
        let sinks = Sinks::new(Target::File(path.clone()), Arc::new(Metrics::new()));
        sinks.send(record("a"));
        sinks.close(PATIENCE);
        let text = fs::read_to_string(&path).expect("the file");
        let (half, whole) = text.split_once('\n').expect("two lines");
        assert_eq!((half, ids(whole)), ("{\"request_id\":\"ha", vec!["a".to_owned()]));
    }

    #[test]
    fn without_a_target_records_are_neither_kept_nor_lost() {
        let metrics = Arc::new(Metrics::new());
        let sinks = Sinks::new(Target::None, metrics.clone());
        sinks.send(record("a"));
        sinks.close(PATIENCE);
        assert_eq!(metrics.usage_records_dropped.get(), 0);
    }
}
