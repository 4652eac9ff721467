//! HTTP/1.1 as a client speaks it, within the task of whoever asks: a connection has no task of its own, no channel and no
//! queue, and nothing of it is polled while nobody waits for it. Decides what goes over one connection, and whether it
//! can be used again; knows nothing of pools, hosts or repeats.

mod answer;
mod chunks;
mod connection;
mod fault;
mod fields;
mod framing;
mod incoming;
mod request;
mod sending;
mod stream;

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response};

use self::{
    answer::{HEAD_MOST, Head},
    fault::Malformed,
    framing::Framing,
    sending::Sending,
};
pub(super) use self::{connection::Connection, fault::Fault, incoming::Incoming, stream::Stream};
use super::upload::Upload;

/// Sends a request and reads until the head of its answer. The body of the request may still be on its way then: it goes
/// on while the body of the answer is read. After an error, the connection is of no more use.
pub(super) async fn ask(
    connection: &mut Connection,
    request: &mut Request<Upload>,
    host: &HeaderValue,
) -> Result<Response<Incoming>, Fault> {
    let mut sending = Sending::begin(connection, request, host);
    let mut reading = Reading::default();
    let head = poll_fn(|context| {
        if let Poll::Ready(Err(fault)) = sending.poll(connection, request.body_mut(), context) {
            return Poll::Ready(Err(fault));
        }
        if sending.is_at_the_head() {
            return Poll::Pending;
        }
        reading.poll(connection, context)
    })
    .await?;
    let (framing, is_kept) = Framing::of(&head, request.method())?;
    let unsent = (!sending.is_over()).then(|| (sending, request.body_mut().take()));
    Ok(head.into_response(Incoming::new(framing, is_kept, unsent)))
}

/// Waits for the head of an answer.
#[derive(Default)]
struct Reading {
    /// How much of the buffer holds no end of a head.
    searched: usize,
    /// Bytes of heads that only said that the answer is to come.
    interim: usize,
}

impl Reading {
    fn poll(&mut self, connection: &mut Connection, context: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        loop {
            while let Some((head, length)) = answer::take(&mut connection.buffer, &mut self.searched)? {
                if !head.status.is_informational() {
                    return Poll::Ready(Ok(head));
                }
                if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(Malformed::Switching.into()));
                }
                self.interim += length;
            }
            if self.interim + connection.buffer.len() >= HEAD_MOST {
                return Poll::Ready(Err(Malformed::HeadTooLong.into()));
            }
            if ready!(connection.poll_read(context))? == 0 {
                return Poll::Ready(Err(Fault::closed()));
            }
        }
    }
}
