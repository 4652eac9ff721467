//! Follows a directory: waits for changes, lets them settle, compiles, and puts the table into effect. On a thread of its
//! own, so that compiling delays no request.

use std::{
    io,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use compiler::Compilation;
use dataplane::app::Installer;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tracing::{debug, info, warn};

use super::{Directory, State};

/// How long no change may follow a change before it is read.
const QUIET: Duration = Duration::from_millis(10);
/// How long a change waits at most.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the directory is read anyway: links may lead to where nothing is watched.
const ANYWAY: Duration = Duration::from_secs(5);
/// How often it is read where changes cannot be watched.
const POLL: Duration = Duration::from_millis(200);

enum Signal {
    Changed,
    Stop,
}

/// The thread that follows a directory.
pub(super) struct Follower {
    thread: JoinHandle<()>,
    signals: Sender<Signal>,
}

impl Follower {
    /// Starts to follow a directory of which `state` is in effect.
    pub(super) fn start(directory: Directory, state: State, installer: Installer) -> io::Result<Self> {
        let (signals, changes) = channel();
        // Watched from before the thread runs, so that no change after this is missed.
        let watcher = watch(directory.path(), signals.clone());
        let sender = signals.clone();
        let follow = Following { directory, state, installer, watcher, changes, sender, is_lost: false };
        let thread = thread::Builder::new().name("relay-manifests".into()).spawn(move || follow.run())?;
        Ok(Self { thread, signals })
    }

    /// Stops it and waits for its end.
    pub(super) fn stop(self) {
        let _ = self.signals.send(Signal::Stop);
        // A panic there was already printed; the process is ending.
        let _ = self.thread.join();
    }
}

struct Following {
    directory: Directory,
    state: State,
    installer: Installer,
    watcher: Option<RecommendedWatcher>,
    changes: Receiver<Signal>,
    sender: Sender<Signal>,
    /// Whether the directory could not be read the last time.
    is_lost: bool,
}

impl Following {
    fn run(mut self) {
        // What changed between the first reading and the watch.
        self.refresh(Instant::now());
        while self.settled() {
            self.refresh(Instant::now());
        }
    }

    /// Waits for a change and until it has settled; false: it is time to stop.
    fn settled(&self) -> bool {
        let now = Instant::now();
        let idle = if self.watcher.is_some() { ANYWAY } else { POLL };
        let wait = self.directory.until(now).map_or(idle, |until| idle.min(until - now));
        match self.changes.recv_timeout(wait) {
            Ok(Signal::Changed) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
        let latest = Instant::now() + SETTLE;
        loop {
            let left = latest.saturating_duration_since(Instant::now());
            match self.changes.recv_timeout(QUIET.min(left)) {
                Ok(Signal::Changed) if !left.is_zero() => {}
                Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return true,
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn refresh(&mut self, now: Instant) {
        let loaded = match self.directory.read_if_changed(now) {
            Ok(loaded) => loaded,
            Err(error) => {
                if !self.is_lost {
                    warn!("{error:#}; what was read last stays in effect");
                }
                self.is_lost = true;
                return;
            }
        };
        if self.is_lost {
            info!("the manifests can be read again");
            self.watcher = watch(self.directory.path(), self.sender.clone());
            self.is_lost = false;
        }
        let Some(loaded) = loaded else { return };
        let read_ms = now.elapsed().as_millis();
        let state = State::compiled(loaded);
        state.report(&self.state.findings);
        let compiled_ms = now.elapsed().as_millis();
        if state.differs(&self.state) {
            let Compilation { table, credentials, .. } = state.compilation.clone();
            self.installer.install(table, credentials);
            let done_ms = now.elapsed().as_millis();
            debug!(read_ms, compiled_ms, done_ms, "a change of the directory is in effect");
        }
        self.state = state;
    }
}

/// Watches a directory; absent: it cannot be watched, and has to be polled.
fn watch(dir: &Path, signals: Sender<Signal>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // The follower may have ended before its watcher.
            let _ = signals.send(Signal::Changed);
        }
    };
    let watching = notify::recommended_watcher(told)
        .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::Recursive).map(|()| watcher));
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!("`{}` cannot be watched ({error}): it is read every {} ms", dir.display(), POLL.as_millis());
            None
        }
    }
}

/// Whether an event can change what is read: our own reading cannot.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}
