//! Who hangs on the streams of a publisher, and what they answered: what conditions are made of.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use table::Digest;
use tokio::sync::watch;

use crate::{
    vector::Regression,
    wire::{Fault, Rejection, Report},
};

/// Who a token belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The pod that the token is bound to, where it is bound to one.
    pub pod: Option<Bound>,
    /// When the token expires, where that is known: the stream is asked to come anew before.
    pub expires: Option<std::time::SystemTime>,
}

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A data plane on a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The node that it runs on.
    pub node: String,
    /// Version of its program.
    pub build: String,
    /// What it has was read from a sealed copy of an earlier run.
    pub restored: bool,
    /// The digest of what is in effect there; none: nothing yet.
    pub root: Option<Digest>,
    /// The revision that it acknowledged last; 0: none on this stream.
    pub revision: u64,
    /// How long it took from the last byte to the swap.
    pub apply_micros: u64,
    /// Entries that it cannot use.
    pub rejections: Vec<Rejection>,
    /// Why the last revision that was sent is not in effect there at all.
    pub refused: Option<(u64, Fault, String)>,
    /// It has seen newer sources than this server has: nothing is sent until this server has caught up.
    pub ahead: Option<Regression>,
    /// How it fares.
    pub report: Report,
    /// When its stream was opened, in milliseconds since 1970.
    pub since_ms: u64,
}

/// How many data planes hang on streams, and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Streams that are open.
    pub streams: usize,
    /// Data planes that hold what was published last.
    pub current: usize,
    /// Data planes that hold something older, or nothing.
    pub lagging: usize,
    /// Data planes that refuse what was published last or a part of it; they are counted above too.
    pub nacked: usize,
}

/// Data planes on streams, by stream.
#[derive(Debug)]
pub struct Fleet {
    pods: Mutex<BTreeMap<u64, Pod>>,
    next: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { pods: Mutex::default(), next: AtomicU64::new(1), changed: watch::Sender::new(0) }
    }
}

impl Fleet {
    /// One entry for each pod: of two streams of one pod, the newer.
    pub fn pods(&self) -> Vec<Pod> {
        let pods = self.pods.lock();
        let newest: BTreeMap<_, _> = pods.values().map(|pod| (pod.uid.as_str(), pod)).collect();
        newest.into_values().cloned().collect()
    }

    /// How many there are, where `root` was published last.
    pub fn census(&self, root: Option<Digest>) -> Census {
        let pods = self.pods.lock();
        let newest: BTreeMap<_, _> = pods.values().map(|pod| (pod.uid.as_str(), pod)).collect();
        let count = |is_such: &dyn Fn(&Pod) -> bool| newest.values().filter(|pod| is_such(pod)).count();
        let is_current = |pod: &Pod| root.is_some() && pod.root == root;
        Census {
            streams: pods.len(),
            current: count(&is_current),
            lagging: count(&|pod| !is_current(pod)),
            nacked: count(&|pod| !pod.rejections.is_empty() || pod.refused.is_some()),
        }
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.pods.lock().len()
    }

    /// In what data planes have seen newer sources than their server has. Says it of each stream.
    pub fn ahead(&self) -> Vec<Regression> {
        self.pods.lock().values().filter_map(|pod| pod.ahead.clone()).collect()
    }

    /// Wakes whenever [`Fleet::pods`] has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn join(&self, pod: Pod) -> u64 {
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        self.pods.lock().insert(stream, pod);
        self.notify();
        stream
    }

    pub(crate) fn update(&self, stream: u64, change: impl FnOnce(&mut Pod)) {
        let mut pods = self.pods.lock();
        let Some(pod) = pods.get_mut(&stream) else { return };
        let before = pod.clone();
        change(pod);
        let is_changed = *pod != before;
        drop(pods);
        if is_changed {
            self.notify();
        }
    }

    pub(crate) fn leave(&self, stream: u64) {
        self.pods.lock().remove(&stream);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
