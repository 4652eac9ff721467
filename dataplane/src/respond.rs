//! The body of an answer: what the upstream sends on its way to the caller, polled by the caller's reading, so that
//! back-pressure reaches the upstream and a caller that goes away cancels it. After the first content a failure becomes
//! one event of the caller's shape; an answer that is not streamed is broken off instead, so that it cannot look whole.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use protocol::{
    WireShape, codec,
    error::{ErrorKind, WireError},
    pipe::Facts,
};
use tokio::time::Instant;

use self::pieces::Pieces;
use crate::{
    alarm::{Alarm, Rang},
    body::Body,
    drain::Drain,
    failure,
    flow::Flow,
    upstream::credentials::HostSecret,
};

/// How long an upstream may keep its connection open behind the end of its answer.
const LINGER: Duration = Duration::from_secs(1);

/// Why an answer is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It is whole.
    Complete,
    /// The upstream failed after the first content.
    Failed(WireError),
    /// The request took longer than it may, whoever was slow.
    Overdue(WireError),
    /// The caller went away.
    Cancelled,
    /// The process stops.
    Drained,
}

/// Takes note of an answer's end, exactly once; dropped without a word it means that the caller went away.
pub trait Close: Send + Unpin + 'static {
    /// The answer is over.
    fn close(&mut self, ended: Ended, facts: Facts);
}

/// An answer whose first content was seen, ready to be sent.
pub struct Answer<C: Close, B> {
    /// What the caller gets before anything else is read.
    pub held: Vec<Bytes>,
    /// The rest of the upstream's body; absent: all of it is held.
    pub upstream: Option<B>,
    /// What turns the upstream's bytes into the caller's.
    pub flow: Flow,
    /// Who is told of the end.
    pub close: C,
    /// The caller's shape.
    pub shape: WireShape,
    /// Whether the caller is streamed to.
    pub streamed: bool,
    /// The request's id, for error events.
    pub request_id: Arc<str>,
    /// What it was asked with, to be left out of the upstream's words.
    pub secret: Option<HostSecret>,
    /// Times that bound it.
    pub patience: Patience,
    /// Ends it when the process must stop.
    pub drain: Drain,
}

/// Times that bound an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two pieces of the upstream's body.
    pub idle: Duration,
    /// When the whole request is over.
    pub deadline: Instant,
    /// Silence after which a keep-alive is sent; zero: never.
    pub keep_alive: Duration,
}

impl<C, B> Answer<C, B>
where
    C: Close,
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    /// The response body that plays it.
    pub fn into_body(mut self) -> Body {
        let ready = Pieces::of(std::mem::take(&mut self.held));
        let (alarm, last_sent) = (Alarm::new(), Instant::now());
        Body::played(Player { ready, waiting: None, last_sent, alarm, over: false, told: false, answer: self })
    }
}

struct Player<C: Close, B> {
    answer: Answer<C, B>,
    ready: Pieces,
    /// Since when the upstream is waited for; absent: it is not. The time in which the caller takes what was sent does
    /// not count.
    waiting: Option<Instant>,
    /// When the caller was last sent something.
    last_sent: Instant,
    alarm: Alarm,
    /// Nothing more is read; what is ready is still sent.
    over: bool,
    /// The end was told.
    told: bool,
}

/// What happened while the player waited.
enum Event {
    Piece(Bytes),
    End,
    Broken(WireError),
    Overdue(WireError),
    Silence,
    Drained,
}

/// What time brings.
#[derive(Clone, Copy)]
enum Due {
    Overdue,
    /// The upstream was silent for so long.
    Idle(Duration),
    Silence,
}

impl From<Due> for Event {
    fn from(due: Due) -> Self {
        let timeout = |message: String| WireError::new(ErrorKind::Timeout, message);
        match due {
            Due::Silence => Event::Silence,
            Due::Overdue => {
                Event::Overdue(timeout("the answer took longer than the request may (`timeouts.request`)".to_owned()))
            }
            Due::Idle(idle) => Event::Broken(timeout(format!(
                "the upstream sent nothing for {} s (`timeouts.streamIdle`)",
                idle.as_secs_f64()
            ))),
        }
    }
}

impl<C, B> http_body::Body for Player<C, B>
where
    C: Close,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(piece) = self.ready.next() {
                self.last_sent = Instant::now();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let event = ready!(self.poll_event(context));
            if let Err(broken) = self.take(event) {
                return Poll::Ready(Some(Err(broken)));
            }
        }
    }
}

impl<C, B> Player<C, B>
where
    C: Close,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Makes ready what follows from an event. Errs when the connection has to be broken.
    fn take(&mut self, event: Event) -> io::Result<()> {
        let ended = match event {
            Event::Piece(piece) => {
                self.waiting = None;
                let seen = self.answer.flow.push(piece, self.ready.behind());
                let Some(error) = seen.error else { return Ok(()) };
                Ended::Failed(error)
            }
            Event::End => {
                let seen = self.answer.flow.end(self.ready.behind());
                seen.error.map_or(Ended::Complete, Ended::Failed)
            }
            Event::Broken(error) => Ended::Failed(error),
            Event::Overdue(error) => Ended::Overdue(error),
            Event::Silence => {
                self.ready.behind().push(Bytes::from_static(codec::keep_alive(self.answer.shape)));
                return Ok(());
            }
            Event::Drained => Ended::Drained,
        };
        // Behind a finished answer, an error would only spoil it.
        self.finish(if self.answer.flow.has_ended() { Ended::Complete } else { ended })
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let Some(upstream) = &mut self.answer.upstream else { return Poll::Ready(Event::End) };
        let now = Instant::now();
        // An upstream that always has more must not outrun the clock.
        if now >= self.answer.patience.deadline {
            return Poll::Ready(Due::Overdue.into());
        }
        if self.answer.drain.expiry().has_come() {
            return Poll::Ready(Event::Drained);
        }
        loop {
            let event = match Pin::new(&mut *upstream).poll_frame(context) {
                Poll::Pending => break,
                Poll::Ready(None) => Event::End,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => Event::Piece(piece),
                    // Trailers say nothing that a caller was promised.
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(_))) => Event::Broken(WireError::new(
                    ErrorKind::Unreachable,
                    "the upstream broke off in the middle of its answer",
                )),
            };
            return Poll::Ready(event);
        }
        let (at, due) = self.due(now);
        self.alarm.poll(self.answer.drain.expiry(), at, context).map(|rang| match rang {
            Rang::Come => Event::Drained,
            Rang::Due => due.into(),
        })
    }

    /// What happens first, and when, if the upstream says nothing more.
    fn due(&mut self, now: Instant) -> (Instant, Due) {
        let Patience { idle, deadline, keep_alive } = self.answer.patience;
        let has_ended = self.answer.flow.has_ended();
        let idle = if has_ended { idle.min(LINGER) } else { idle };
        let idle_until = *self.waiting.get_or_insert(now) + idle;
        let is_editable = self.answer.streamed && !self.answer.flow.is_compressed();
        let may_ping = is_editable && !keep_alive.is_zero() && !has_ended;
        let ping = may_ping.then(|| (self.last_sent + keep_alive, Due::Silence));
        let ends = if idle_until < deadline { (idle_until, Due::Idle(idle)) } else { (deadline, Due::Overdue) };
        ping.filter(|(at, _)| *at < ends.0).unwrap_or(ends)
    }

    /// Tells of the end. Errs when the connection has to be broken.
    fn finish(&mut self, ended: Ended) -> io::Result<()> {
        let ended = match (ended, &self.answer.secret) {
            (Ended::Failed(error), Some(secret)) => Ended::Failed(failure::without_secret(error, secret.expose())),
            (ended, _) => ended,
        };
        self.over = true;
        // The upstream is let go before the caller has read the rest.
        self.answer.upstream = None;
        self.tell(ended.clone());
        let error = match ended {
            Ended::Complete | Ended::Cancelled => return Ok(()),
            Ended::Failed(error) | Ended::Overdue(error) => failure::for_caller(error),
            Ended::Drained => WireError::new(ErrorKind::Overloaded, "the router is shutting down; please try again"),
        };
        if self.answer.streamed && !self.answer.flow.is_compressed() {
            let event = codec::encode_error_event(self.answer.shape, &error, &self.answer.request_id);
            self.ready.behind().push(event.into());
            return Ok(());
        }
        self.ready.clear();
        Err(io::Error::other(error.message))
    }
}

impl<C: Close, B> Player<C, B> {
    fn tell(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.told, true) {
            let facts = self.answer.flow.facts();
            self.answer.close.close(ended, facts);
        }
    }
}

impl<C: Close, B> Drop for Player<C, B> {
    fn drop(&mut self) {
        // A caller that has all of the answer may go without waiting for the connection's own end.
        let has_all = self.answer.flow.has_ended() && self.ready.is_empty();
        self.tell(if has_all { Ended::Complete } else { Ended::Cancelled });
    }
}

mod pieces;
#[cfg(test)]
mod tests;
