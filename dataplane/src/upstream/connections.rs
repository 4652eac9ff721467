//! The connections of one host: HTTP/1.1 ones are lent to one request at a time, HTTP/2 ones are shared. Decides which
//! connection a request gets and when a new one is dialled; what is sent on it is [`super::client`]'s business.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use parking_lot::Mutex;
use table::{Http, HttpVersion};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    dial::{Dialed, Dialer, Wire},
    error::SendError,
    h1::Connection,
    upload::Upload,
};

/// A connection is used at least this long, though the name's addresses may hold for a shorter time.
const AGE_LEAST: Duration = Duration::from_secs(300);

/// The connections of one host.
pub(super) struct Connections {
    dialer: Dialer,
    most: Option<usize>,
    streams_most: usize,
    idle_timeout: Duration,
    spoken: Mutex<Spoken>,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    /// One dials, the others wait for the same connection, or for the same failure.
    gate: tokio::sync::Mutex<Option<(Instant, SendError)>>,
    /// One for each HTTP/1.1 request in flight: idle ones are always used first, so connections never exceed it.
    slots: Option<Arc<Semaphore>>,
    _reaper: DropGuard,
}

/// The version that the host speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Unknown,
    H1,
    H2,
}

struct Idle {
    connection: Connection,
    since: Instant,
    retire: Option<Instant>,
}

struct Shared {
    sender: http2::SendRequest<Upload>,
    streams: Arc<AtomicUsize>,
    load: Arc<Load>,
    retire: Option<Instant>,
}

struct Load {
    in_flight: AtomicUsize,
    last: Mutex<Instant>,
}

/// A connection for one request.
pub(super) struct Lease {
    pub(super) line: Line,
    /// Whether another request has used it before.
    pub(super) is_reused: bool,
}

pub(super) enum Line {
    H1(Exclusive),
    H2(Stream),
}

/// An HTTP/1.1 connection. Dropped before its answer was read, it is closed.
pub(super) struct Exclusive {
    pub(super) connection: Connection,
    retire: Option<Instant>,
    home: Weak<Connections>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// A stream of an HTTP/2 connection.
pub(super) struct Stream {
    pub(super) sender: http2::SendRequest<Upload>,
    load: Arc<Load>,
}

impl Connections {
    pub(super) fn new(dialer: Dialer, http: &Http) -> Arc<Self> {
        let spoken = match (dialer.version, dialer.tls.is_some()) {
            (HttpVersion::H2, _) => Spoken::H2,
            (HttpVersion::H1, _) | (HttpVersion::Auto, false) => Spoken::H1,
            (HttpVersion::Auto, true) => Spoken::Unknown,
        };
        let most = http.max_connections.map(|most| most.max(1) as usize);
        let (stop, tasks) = (CancellationToken::new(), dialer.tasks.clone());
        let connections = Arc::new(Self {
            dialer,
            most,
            streams_most: http.max_streams_per_connection.map_or(usize::MAX, |most| most.max(1) as usize),
            idle_timeout: http.idle_timeout,
            spoken: Mutex::new(spoken),
            idle: Mutex::default(),
            shared: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            slots: most.map(|most| Arc::new(Semaphore::new(most))),
            _reaper: stop.clone().drop_guard(),
        });
        tasks.spawn(reap(Arc::downgrade(&connections), http.idle_timeout, stop));
        connections
    }

    /// A connection for one request; `fresh`: one that no request has used.
    pub(super) async fn lease(self: &Arc<Self>, fresh: bool) -> Result<Lease, SendError> {
        loop {
            let spoken = *self.spoken.lock();
            let lease = match spoken {
                Spoken::H1 => self.exclusive(fresh).await?,
                Spoken::H2 | Spoken::Unknown => self.stream(fresh).await?,
            };
            if let Some(lease) = lease {
                return Ok(lease);
            }
        }
    }

    /// An HTTP/1.1 connection; `None` when the host has turned to HTTP/2.
    async fn exclusive(self: &Arc<Self>, fresh: bool) -> Result<Option<Lease>, SendError> {
        let slot = match &self.slots {
            Some(slots) => self.slot(slots).await?,
            None => None,
        };
        if !fresh && let Some(idle) = self.idle_one() {
            return Ok(Some(self.lent(idle.connection, idle.retire, slot, true)));
        }
        let dialed = self.dial().await?;
        let retire = retirement(&dialed);
        match dialed.wire {
            Wire::H1(connection) => Ok(Some(self.lent(connection, retire, slot, false))),
            Wire::H2(sender, streams) => {
                self.share(sender, streams, retire);
                Ok(None)
            }
        }
    }

    /// A new connection. On the heap, so that requests which need none do not carry the room that it takes.
    fn dial(&self) -> Pin<Box<dyn Future<Output = Result<Dialed, SendError>> + Send + '_>> {
        Box::pin(self.dialer.dial())
    }

    /// Waits for one of the connections that may be open, no longer than for a new one.
    async fn slot(&self, slots: &Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, SendError> {
        match tokio::time::timeout(self.dialer.timeout, slots.clone().acquire_owned()).await {
            Ok(slot) => Ok(slot.ok()),
            Err(_) => Err(SendError::Full { most: self.most.unwrap_or_default() }),
        }
    }

    fn lent(
        self: &Arc<Self>,
        connection: Connection,
        retire: Option<Instant>,
        slot: Option<OwnedSemaphorePermit>,
        is_reused: bool,
    ) -> Lease {
        let home = Arc::downgrade(self);
        Lease { line: Line::H1(Exclusive { connection, retire, home, _slot: slot }), is_reused }
    }

    /// The connection that was used last; those that are closed, too old, or have something to say that nobody asked for
    /// are dropped on the way.
    fn idle_one(&self) -> Option<Idle> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            let now = Instant::now();
            let is_old = now.duration_since(idle.since) >= self.idle_timeout || is_past(idle.retire, now);
            if !is_old && idle.connection.is_quiet() {
                return Some(idle);
            }
        }
    }

    /// A stream of an HTTP/2 connection; `None` when the host turns out to speak HTTP/1.1.
    async fn stream(self: &Arc<Self>, fresh: bool) -> Result<Option<Lease>, SendError> {
        let asked = Instant::now();
        if !fresh && let Some(lease) = self.free_stream() {
            return Ok(Some(lease));
        }
        let mut failure = self.gate.lock().await;
        if !fresh && let Some(lease) = self.free_stream() {
            return Ok(Some(lease));
        }
        if *self.spoken.lock() == Spoken::H1 {
            return Ok(None);
        }
        match &*failure {
            Some((at, error)) if *at > asked => return Err(error.clone()),
            Some(_) | None => {}
        }
        let dialed = match self.dial().await {
            Ok(dialed) => dialed,
            Err(error) => {
                *failure = Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        let retire = retirement(&dialed);
        match dialed.wire {
            Wire::H2(sender, streams) => Ok(Some(self.share(sender, streams, retire))),
            Wire::H1(connection) => {
                *self.spoken.lock() = Spoken::H1;
                self.idle.lock().push(Idle { connection, since: Instant::now(), retire });
                Ok(None)
            }
        }
    }

    /// A stream of the connection with the fewest, where it takes one more or no other may be opened.
    fn free_stream(&self) -> Option<Lease> {
        let mut shared = self.shared.lock();
        let now = Instant::now();
        shared.retain(|one| !one.sender.is_closed() && !is_past(one.retire, now));
        let may_open = self.most.is_none_or(|most| shared.len() < most);
        let least = shared.iter().min_by_key(|one| one.load.in_flight.load(Ordering::Relaxed))?;
        let room = self.streams_most.min(least.streams.load(Ordering::Relaxed));
        let is_full = least.load.in_flight.load(Ordering::Relaxed) >= room;
        if is_full && may_open { None } else { Some(least.stream(true)) }
    }

    fn share(&self, sender: http2::SendRequest<Upload>, streams: Arc<AtomicUsize>, retire: Option<Instant>) -> Lease {
        *self.spoken.lock() = Spoken::H2;
        let load = Arc::new(Load { in_flight: AtomicUsize::new(0), last: Mutex::new(Instant::now()) });
        let one = Shared { sender, streams, load, retire };
        let lease = one.stream(false);
        self.shared.lock().push(one);
        lease
    }

    /// Closes what nobody uses.
    fn prune(&self) {
        let now = Instant::now();
        let is_idle = |since: Instant| now.duration_since(since) >= self.idle_timeout;
        self.idle.lock().retain_mut(|one| {
            one.connection.rest();
            one.connection.is_quiet() && !is_idle(one.since) && !is_past(one.retire, now)
        });
        self.shared.lock().retain(|one| {
            let is_unused = one.load.in_flight.load(Ordering::Relaxed) == 0 && is_idle(*one.load.last.lock());
            !one.sender.is_closed() && !is_past(one.retire, now) && !is_unused
        });
    }

    /// How many connections wait for a request, or are shared.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.idle.lock().len(), self.shared.lock().len())
    }
}

impl Shared {
    fn stream(&self, is_reused: bool) -> Lease {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease { line: Line::H2(Stream { sender: self.sender.clone(), load: self.load.clone() }), is_reused }
    }
}

impl Exclusive {
    /// Gives the connection back after the whole answer was read.
    pub(super) fn finish(self) {
        let Exclusive { connection, retire, home, _slot } = self;
        if let Some(home) = home.upgrade() {
            home.idle.lock().push(Idle { connection, since: Instant::now(), retire });
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.load.last.lock() = Instant::now();
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn retirement(dialed: &Dialed) -> Option<Instant> {
    dialed.valid_for.map(|valid_for| Instant::now() + valid_for.clamp(AGE_LEAST, Duration::from_secs(86400)))
}

fn is_past(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| now >= moment)
}

async fn reap(connections: Weak<Connections>, idle_timeout: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval((idle_timeout / 2).max(Duration::from_millis(100)));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(connections) = connections.upgrade() else { return };
        connections.prune();
    }
}
