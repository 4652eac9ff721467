//! Drives a connection that the HTTP library serves, until it ends or an answer takes it over: tells it of the drain, and
//! closes it where its client says or takes nothing for too long.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::Response;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::STALL;
use crate::{
    alarm::{Alarm, Rang},
    body::Body,
    drain::Drain,
    lookout::Kept,
    pace::Pace,
};

/// What the answers of a connection tell whoever drives it.
#[derive(Default)]
pub(super) struct Told {
    /// A request has come.
    pub(super) has_begun: AtomicBool,
    /// What was last written waits for the client.
    pub(super) is_blocked: Arc<AtomicBool>,
    /// An answer that takes the connection over from the HTTP library, for which it is not to answer, and since when it wants
    /// to.
    takes_over: Mutex<Option<(Response<Body>, Instant)>>,
}

/// What a connection and its answers have in common.
pub(super) struct Ties {
    pub(super) drain: Drain,
    pub(super) pace: Pace,
    pub(super) told: Told,
}

/// What a connection is watched for.
pub(super) struct Watch {
    pub(super) peer: SocketAddr,
    pub(super) ties: Arc<Ties>,
    /// What is waited for on it.
    pub(super) kept: Arc<Kept>,
    /// How often it is looked at.
    look_every: Duration,
    look_at: Instant,
}

impl Watch {
    /// The first request has to come within `patience` after `opened`.
    pub(super) fn new(peer: SocketAddr, drain: Drain, patience: Duration, opened: Instant) -> Self {
        let look_every = patience.max(Duration::from_millis(1));
        let (kept, look_at) = (Arc::new(Kept::new(opened)), opened + look_every);
        let ties = Arc::new(Ties { drain, pace: Pace::new(), told: Told::default() });
        Self { peer, ties, kept, look_every, look_at }
    }

    /// Drives it, and gives the answer that takes it over; none where the connection has ended or is to. `wind_up` ends it
    /// behind what is under way.
    pub(super) async fn drive<C, E>(
        &mut self,
        mut connection: Pin<&mut C>,
        wind_up: fn(Pin<&mut C>),
    ) -> Option<Response<Body>>
    where
        C: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let (peer, ties) = (self.peer, &self.ties);
        let (mut alarm, mut moment) = (Alarm::new(), ties.drain.closing());
        loop {
            let next = poll_fn(|context| {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Next::Ended(ended));
                }
                if let Some(answer) = ties.told.taken_over() {
                    return Poll::Ready(Next::TakenOver(answer));
                }
                alarm.poll(moment, self.kept.next(self.look_at), context).map(Next::Rang)
            });
            match next.await {
                Next::Ended(Ok(())) => return None,
                Next::Ended(Err(error)) => {
                    debug!(%error, %peer, "connection ended early");
                    return None;
                }
                Next::TakenOver(answer) => return Some(answer),
                Next::Rang(Rang::Come) if std::ptr::eq(moment, ties.drain.closing()) => {
                    wind_up(connection.as_mut());
                    // From now on it is polled again when requests must end, too.
                    (alarm, moment) = (Alarm::new(), ties.drain.expiry());
                }
                Next::Rang(Rang::Come) => {}
                Next::Rang(Rang::Due) => {
                    let now = Instant::now();
                    self.kept.look(now);
                    if now < self.look_at {
                        continue;
                    }
                    self.look_at = now + self.look_every;
                    // The HTTP library's own timer runs only once it knows the version.
                    if !ties.told.has_begun.load(Ordering::Relaxed) {
                        debug!(%peer, "closing a connection on which no request came");
                        return None;
                    }
                    if ties.pace.is_stalled(STALL) || ties.told.is_stalled(STALL) {
                        debug!(%peer, "closing a connection whose client takes nothing of its answer");
                        return None;
                    }
                }
            }
        }
    }
}

impl Told {
    /// Has an answer take the connection over.
    pub(super) fn take_over(&self, answer: Response<Body>) {
        *self.takes_over.lock() = Some((answer, Instant::now()));
    }

    /// An answer that takes the connection over, once the HTTP library has written everything that came before.
    fn taken_over(&self) -> Option<Response<Body>> {
        if self.is_blocked.load(Ordering::Relaxed) {
            None
        } else {
            self.takes_over.lock().take().map(|(answer, _)| answer)
        }
    }

    /// Whether an answer waits since `most` or longer for the client to take what came before it. Nobody asks it for a piece
    /// meanwhile, so none of its own timers runs.
    fn is_stalled(&self, most: Duration) -> bool {
        self.takes_over.lock().as_ref().is_some_and(|(_, since)| since.elapsed() >= most)
    }
}

/// What happens next on a connection.
enum Next<E> {
    /// It has ended.
    Ended(Result<(), E>),
    /// An answer takes it over.
    TakenOver(Response<Body>),
    Rang(Rang),
}
