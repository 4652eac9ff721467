//! Notices a client that takes nothing of an answer. Such an answer holds an upstream's connection, a slot and a
//! reservation, and none of its own timers runs, because nobody asks it for more. What follows is the listener's business.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::listener::Body;

/// The answers of one connection.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    last: u64,
    /// For each that is under way, see [`Paced::offered`].
    offered: HashMap<u64, Arc<AtomicU64>>,
}

impl Pace {
    /// No answer is under way.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), answers: Mutex::default() })
    }

    /// The same answer, watched. One that is there as a whole holds nothing and passes as it is.
    pub(crate) fn follow(self: &Arc<Self>, body: Body) -> Body {
        if body.size_hint().exact().is_some() {
            return body;
        }
        let offered = Arc::new(AtomicU64::new(0));
        let mut answers = self.answers.lock();
        answers.last += 1;
        let number = answers.last;
        answers.offered.insert(number, offered.clone());
        Paced { body, number, offered, pace: self.clone() }.boxed_unsync()
    }

    /// Whether an answer waits for its client since `most` or longer.
    pub(crate) fn is_stalled(&self, most: Duration) -> bool {
        let (now, most) = (self.millis(), u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
        let answers = self.answers.lock();
        answers
            .offered
            .values()
            .map(|offered| offered.load(Ordering::Relaxed))
            .any(|at| at > 0 && now - at.min(now) >= most)
    }

    /// Since the connection began; never 0.
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// An answer that is watched.
struct Paced {
    body: Body,
    number: u64,
    /// When a piece was handed over, after which nobody has asked for the next; 0: it is being asked for.
    offered: Arc<AtomicU64>,
    pace: Arc<Pace>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let offered = if polled.is_ready() { self.pace.millis() } else { 0 };
        self.offered.store(offered, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.pace.answers.lock().offered.remove(&self.number);
    }
}
