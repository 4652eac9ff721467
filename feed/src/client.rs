//! The side of a data plane: holds a stream to an operator, puts what arrives into effect and answers. While there is no
//! stream, what was in effect stays.

pub mod backoff;
mod talk;

use std::time::{Duration, SystemTime};

use table::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    backoff::Backoff,
    talk::{End, Talk},
};
use crate::{
    connect::Connector,
    replica::{Kept, Refusal, Refused, Replica, Update},
    schema::SCHEMA,
    store::Keeping,
    wire::{Codec, Hello, Rejection, Report, SealedBody, SealedHeader},
};

/// Who the data plane is, and what it wants.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its pod's name.
    pub pod: String,
    /// Its pod's UID.
    pub pod_uid: String,
    /// The node that it runs on.
    pub node: String,
    /// Its namespace.
    pub namespace: String,
    /// The fleet whose table it wants.
    pub fleet: String,
    /// Version of the program.
    pub build: String,
}

/// Times of a client.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The longest first wait after a connection was lost; waits are random, and doubled at each failure.
    pub backoff: Duration,
    /// No wait is longer.
    pub backoff_most: Duration,
    /// A report is sent so often where nothing changed.
    pub report: Duration,
    /// Changed reports are sent no more often.
    pub report_least: Duration,
}

impl Default for Times {
    /// 200 ms to 10 s of back-off, a report every 10 s, changed ones every second.
    fn default() -> Self {
        Self {
            backoff: Duration::from_millis(200),
            backoff_most: Duration::from_secs(10),
            report: Duration::from_secs(10),
            report_least: Duration::from_secs(1),
        }
    }
}

/// How the feed stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The server that the stream hangs on; none: no stream.
    pub server: Option<String>,
    /// The digest of what is in effect; none: nothing yet, and so not ready.
    pub root: Option<Digest>,
    /// Its number.
    pub revision: u64,
    /// What is in effect is from a sealed copy, and no operator has confirmed or replaced it.
    pub restored: bool,
    /// When an operator last said that what is in effect is the newest.
    pub confirmed: Option<SystemTime>,
    /// Entries that cannot be used.
    pub rejections: Vec<Rejection>,
    /// Why the last connection or update failed; none after a success.
    pub trouble: Option<String>,
    /// Streams that were opened.
    pub streams: u64,
    /// Snapshots that were put into effect, those that changed nothing included.
    pub snapshots: u64,
    /// Rows that came in snapshots.
    pub snapshot_rows: u64,
    /// Deltas that were put into effect.
    pub deltas: u64,
}

/// Puts updates into effect.
type Apply = Box<dyn FnMut(Update) -> Result<(), Vec<Refused>> + Send>;

/// What is in effect, and how to put the next into effect. Moves to a thread that may block and back.
struct Worker {
    replica: Replica,
    apply: Apply,
    /// Entries in effect that cannot be used at the moment.
    unusable: watch::Sender<Vec<Refused>>,
}

impl Worker {
    fn new(apply: Apply) -> Self {
        Self { replica: Replica::new(), apply, unusable: watch::Sender::default() }
    }

    /// Takes down what cannot be used at the moment, and says whether that is news.
    fn name_unusable(&mut self) -> bool {
        let unusable = self.unusable.borrow().clone();
        self.replica.name_unusable(unusable)
    }
}

/// A client that does not run yet.
pub struct Client {
    about: About,
    times: Times,
    connector: Connector,
    worker: Box<Worker>,
    state: watch::Sender<State>,
    report: watch::Sender<Report>,
    kept: watch::Sender<Option<Kept>>,
    keeping: Option<Keeping>,
}

impl Client {
    /// `apply` is called on a thread that may block. It puts an update into effect whole, or names the entries that it
    /// cannot use and puts nothing into effect: then it is asked again with their last good copies.
    pub fn new(
        about: About,
        times: Times,
        connector: Connector,
        apply: impl FnMut(Update) -> Result<(), Vec<Refused>> + Send + 'static,
    ) -> Self {
        let worker = Box::new(Worker::new(Box::new(apply)));
        let (state, report, kept) = Default::default();
        Self { about, times, connector, worker, state, report, kept, keeping: None }
    }

    /// Keeps sealed copies of what is in effect.
    pub fn keeping(self, keeping: Keeping) -> Self {
        Self { keeping: Some(keeping), ..self }
    }

    /// Names to the operator what `unusable` names: entries that `apply` put into effect and that cannot be used at the
    /// moment, for reasons of this machine that may pass. They are named again when they change.
    pub fn naming(mut self, unusable: watch::Sender<Vec<Refused>>) -> Self {
        self.worker.unusable = unusable;
        self
    }

    /// Puts a sealed copy into effect, before the first connection. Errs, and has no table, where it cannot be.
    pub fn restore(&mut self, header: SealedHeader, body: SealedBody) -> Result<(), Refusal> {
        let confirmed = SystemTime::UNIX_EPOCH + Duration::from_millis(header.confirmed_ms);
        self.worker.replica = Replica::restore(header, body, &mut *self.worker.apply)?;
        self.worker.name_unusable();
        self.state.send_modify(|state| state.confirmed = Some(confirmed));
        show(&self.state, &self.worker.replica);
        Ok(())
    }

    /// How the feed stands, now and later.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Where the data plane says how it fares.
    pub fn reports(&self) -> watch::Sender<Report> {
        self.report.clone()
    }

    /// Runs until `stop`. Connects again for as long.
    pub async fn run(self, stop: CancellationToken) {
        let kept = self.kept.subscribe();
        let keeper = self.keeping.clone();
        let keep = async {
            if let Some(keeper) = keeper {
                keeper.run(kept, stop.clone()).await;
            }
        };
        tokio::join!(keep, self.follow(&stop));
    }

    async fn follow(mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::new(self.times.backoff, self.times.backoff_most);
        loop {
            if self.worker.name_unusable() {
                show(&self.state, &self.worker.replica);
            }
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                end = Talk::run(&mut self, &mut backoff) => match end {
                    End::Elsewhere => Duration::ZERO,
                    End::Lost(error) => {
                        let words = format!("{error:#}");
                        self.state.send_modify(|state| state.trouble = Some(words.clone()));
                        warn!(error = words, "the stream to the operator was lost: {words}");
                        backoff.wait()
                    }
                },
            };
            self.state.send_modify(|state| state.server = None);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn hello(&mut self) -> Hello {
        let About { pod, pod_uid, node, namespace, fleet, build } = self.about.clone();
        let (restored, resume) = (self.worker.replica.is_restored(), self.worker.replica.resume());
        let codecs = vec![Codec::Zstd.into()];
        Hello { pod, pod_uid, node, namespace, fleet, build, schema: SCHEMA, codecs, resume, restored }
    }
}

/// Shows what is in effect.
fn show(state: &watch::Sender<State>, replica: &Replica) {
    state.send_modify(|state| {
        let is_new = state.root != replica.root();
        state.root = replica.root();
        state.revision = replica.revision();
        state.restored = replica.is_restored();
        state.rejections = replica.rejections();
        if let (true, Some(root)) = (is_new, state.root) {
            info!(%root, revision = state.revision, "a table is in effect");
        }
    });
}
