//! One request that was passed on, until the end of its answer: what goes back to the caller, and what is counted. Its
//! bytes are not looked into, but for where the last event of a stream ended.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use protocol::{
    WireShape, codec,
    error::{ErrorKind, WireError},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    body::Body, denied::Denied, headers, in_flight::Permit, meter::record::Record, metrics, pipeline::Call,
    relay::Relay, spans::Finished, trace::Trace, upstream,
};

/// A request that was passed on. Dropped before its end, it means that the caller went away.
pub(super) struct Passage {
    relay: Arc<Relay>,
    shape: WireShape,
    trace: Trace,
    began: Instant,
    /// For spans; the shared data plane writes the usage record.
    record: Option<Record>,
    _permit: Option<Permit>,
}

impl Passage {
    pub(super) fn begin(relay: &Arc<Relay>, call: &mut Call) -> Self {
        relay.books.metrics.requests_in_flight.inc();
        let mut record = Record::new(call.id.clone(), "forward", Timestamp::now());
        record.client_shape = Some(call.shape);
        Self {
            relay: relay.clone(),
            shape: call.shape,
            trace: call.trace.clone(),
            began: call.began,
            record: Some(record),
            _permit: call.permit.take(),
        }
    }

    /// There was no answer.
    pub(super) fn refused(mut self, denied: &Denied) {
        if let Some(record) = &mut self.record {
            record.status = denied.to_wire().status;
            record.error_code = Some(denied.label().into());
        }
        self.over(match denied {
            Denied::SharedUnreachable { .. } => metrics::Passage::Unreachable,
            Denied::ShuttingDown => metrics::Passage::Drained,
            Denied::Intake(_) => metrics::Passage::Cancelled,
            _ => metrics::Passage::Broken,
        });
    }

    /// The answer as it came, but for what belongs to the connection that it came on.
    pub(super) fn answer(mut self, answer: Response<upstream::body::Body>) -> Response<Body> {
        let (head, upstream) = answer.into_parts();
        if let Some(record) = &mut self.record {
            record.status = head.status.as_u16();
            if let Some(id) = head.headers.get("x-relay-request-id").and_then(|id| id.to_str().ok()) {
                record.request_id = id.into();
            }
        }
        let events = is_events(&head.headers).then(Events::default);
        let ours = headers::end_to_end(&head.headers);
        let carried = Carried { upstream: Some(upstream), passage: self, events };
        let mut response = Response::new(carried.into_body());
        (*response.status_mut(), *response.headers_mut()) = (head.status, ours);
        response
    }

    /// Counts it, once.
    fn over(&mut self, outcome: metrics::Passage) {
        let Some(mut record) = self.record.take() else { return };
        let books = &self.relay.books;
        books.metrics.requests_in_flight.dec();
        books.metrics.forwarded(outcome);
        let took = self.began.elapsed();
        debug!(
            request_id = &*record.request_id,
            status = record.status,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "passed on to the shared data plane: {}",
            outcome.as_str()
        );
        if self.trace.is_reported() {
            record.duration_ms = took.as_secs_f64() * 1_000.0;
            record.cancelled = outcome == metrics::Passage::Cancelled;
            let trace = self.trace.clone();
            books.spans.send(Finished { trace, record: record.into(), reserve: None });
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.over(metrics::Passage::Cancelled);
    }
}

/// Whether an event can be added to an answer's body: it is a stream of them, and not compressed.
fn is_events(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    media_type.starts_with("text/event-stream")
        && matches!(text(header::CONTENT_ENCODING), None | Some("" | "identity"))
        && !headers.contains_key(header::CONTENT_LENGTH)
}

/// Where a stream of events stands.
#[derive(Default)]
struct Events {
    /// Its last bytes, four at most.
    tail: Vec<u8>,
}

impl Events {
    fn saw(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(&piece[piece.len().saturating_sub(4)..]);
        self.tail.drain(..self.tail.len().saturating_sub(4));
    }

    /// Whether what comes next begins an event.
    fn is_between(&self) -> bool {
        self.tail.is_empty() || self.tail.ends_with(b"\n\n") || self.tail.ends_with(b"\r\n\r\n")
    }
}

/// An answer on its way back, polled by the caller's reading: back-pressure reaches the shared data plane, and a caller
/// that goes away cancels it.
struct Carried {
    /// The rest of it; absent: it is over.
    upstream: Option<upstream::body::Body>,
    passage: Passage,
    /// Absent: it is no stream of events.
    events: Option<Events>,
}

type Played = Option<(Result<Frame<Bytes>, io::Error>, Carried)>;

impl Carried {
    fn into_body(mut self) -> Body {
        self.settle();
        Body::carried(StreamBody::new(stream::unfold(self, Self::play)))
    }

    async fn play(mut self) -> Played {
        let upstream = self.upstream.as_mut()?;
        let drain = self.passage.relay.drain.clone();
        let frame = tokio::select! {
            biased;
            () = drain.expired() => {
                let said = "the router is shutting down; please try again";
                return Some((self.cut(metrics::Passage::Drained, ErrorKind::Overloaded, said), self));
            }
            frame = upstream.frame() => frame,
        };
        match frame {
            None => {
                self.finish(metrics::Passage::Answered);
                None
            }
            Some(Ok(frame)) => {
                if let (Some(events), Some(piece)) = (&mut self.events, frame.data_ref()) {
                    events.saw(piece);
                }
                self.settle();
                Some((Ok(frame), self))
            }
            Some(Err(_)) => {
                let said = "the shared data plane broke off in the middle of its answer";
                Some((self.cut(metrics::Passage::Broken, ErrorKind::Unreachable, said), self))
            }
        }
    }

    /// A caller that has all of the answer may go without waiting for its end.
    fn settle(&mut self) {
        if self.upstream.as_ref().is_some_and(|upstream| upstream.is_end_stream()) {
            self.finish(metrics::Passage::Answered);
        }
    }

    fn finish(&mut self, outcome: metrics::Passage) {
        self.upstream = None;
        self.passage.over(outcome);
    }

    /// Ends an answer before its end: by an event where one can follow, else by breaking the connection, so that it cannot
    /// look whole.
    fn cut(&mut self, outcome: metrics::Passage, kind: ErrorKind, said: &str) -> io::Result<Frame<Bytes>> {
        let id = self.passage.record.as_ref().map(|record| record.request_id.clone()).unwrap_or_default();
        self.finish(outcome);
        match self.events.as_ref().is_some_and(Events::is_between) {
            true => {
                let event = codec::encode_error_event(self.passage.shape, &WireError::new(kind, said), &id);
                Ok(Frame::data(event.into()))
            }
            false => Err(io::Error::other(said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_may_follow_where_the_last_one_has_ended_however_it_was_cut_into_pieces() {
        for (pieces, expected) in [
            (vec![], true),
            (vec!["data: a\n\n"], true),
            (vec!["data: a\n", "\n"], true),
            (vec!["data: a\r\n", "\r", "\n"], true),
            (vec!["data: a\n\n", "da"], false),
            (vec!["data: a\n"], false),
            (vec!["\n\n", "x"], false),
        ] {
            let mut events = Events::default();
            pieces.iter().for_each(|piece| events.saw(piece.as_bytes()));
            assert_eq!(events.is_between(), expected, "{pieces:?}");
        }
    }

    #[test]
    fn only_a_plain_stream_of_events_takes_one_more() {
        let headers = |lines: &[(&'static str, &'static str)]| -> HeaderMap {
            let parsed = lines
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)));
            parsed.collect()
        };
        let events = ("content-type", "text/event-stream; charset=utf-8");
        assert!(is_events(&headers(&[events])));
        assert!(!is_events(&headers(&[events, ("content-encoding", "gzip")])));
        assert!(!is_events(&headers(&[events, ("content-length", "10")])));
        assert!(!is_events(&headers(&[("content-type", "application/json")])));
    }
}
