//! The body of an answer as it comes over a connection, and the rest of the request where that is still on its way.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{connection::Connection, fault::Fault, framing::Framing, sending::Sending};
use crate::upstream::upload::Upload;

/// The body of an answer.
pub(in crate::upstream) struct Incoming {
    framing: Framing,
    is_kept: bool,
    /// An answer that came early.
    unsent: Option<Box<(Sending, Upload)>>,
    /// Whether the last poll gave something.
    has_given: bool,
    /// Told by the next poll.
    fault: Option<Box<Fault>>,
}

impl Incoming {
    pub(super) fn new(framing: Framing, is_kept: bool, unsent: Option<(Sending, Upload)>) -> Self {
        // Who has answered before the end of the request may not read the rest of it.
        Self {
            framing,
            is_kept: is_kept && unsent.is_none(),
            unsent: unsent.map(Box::new),
            has_given: false,
            fault: None,
        }
    }

    /// The next of the body. A fault comes one poll later than what came just before it: who passes that on and is told of the
    /// fault at once would break off without having sent it.
    pub(in crate::upstream) fn poll_frame(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(*fault)));
        }
        let had_given = std::mem::take(&mut self.has_given);
        match self.poll_next(connection, context) {
            Poll::Ready(Some(Err(fault))) if had_given => {
                self.fault = Some(Box::new(fault));
                context.waker().wake_by_ref();
                Poll::Pending
            }
            polled => {
                self.has_given = matches!(polled, Poll::Ready(Some(Ok(_))));
                polled
            }
        }
    }

    fn poll_next(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            if let Some(frame) = self.framing.next(&mut connection.buffer).map_err(Fault::Malformed)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.framing.is_over() {
                return Poll::Ready(None);
            }
            self.send_on(connection, context)?;
            if ready!(connection.poll_read(context)).map_err(Fault::Broken)? == 0 {
                self.framing.end()?;
            }
        }
    }

    fn send_on(&mut self, connection: &mut Connection, context: &mut Context<'_>) -> Result<(), Fault> {
        let Some(unsent) = &mut self.unsent else { return Ok(()) };
        let (sending, upload) = &mut **unsent;
        if let Poll::Ready(sent) = sending.poll(connection, upload, context) {
            self.unsent = None;
            sent?;
        }
        Ok(())
    }

    /// Whether all of the body was taken.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// Whether another request may be sent on the connection, once this body is over: nothing came behind it.
    pub(in crate::upstream) fn leaves(&self, connection: &Connection) -> bool {
        self.is_kept && connection.buffer.is_empty()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        self.framing.size_hint()
    }
}
