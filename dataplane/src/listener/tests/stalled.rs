//! Clients that take nothing, where that is not seen at once.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use tokio::io::ReadBuf;

use super::*;

/// A client that takes nothing, behind a layer that takes all, as TLS does with the last of an answer.
struct Sealed {
    asks: &'static [u8],
}

impl AsyncRead for Sealed {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.asks.is_empty() {
            return Poll::Pending;
        }
        let (first, rest) = self.asks.split_at(into.remaining().min(self.asks.len()));
        into.put_slice(first);
        self.asks = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_the_end_of_its_answer_is_let_go_too() {
    let service = tower::service_fn(|_: (Origin, Request<Incoming>)| {
        let pieces = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"one")))]);
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::played(StreamBody::new(pieces)))))
    });
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let connection = Connection { peer, header_read_timeout: TIMEOUT, drain: Drain::new(), service };
    let client = Sealed { asks: b"GET / HTTP/1.1\r\nhost: h\r\n\r\n" };
    let served = connection.speak(client, Spoken::Http1, Instant::now());
    tokio::time::timeout(STALL + 2 * TIMEOUT, served).await.expect("it is let go");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_waits_for_a_client_to_take_what_comes_before_it_does_not_wait_for_ever() {
    const FIRST: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    const SECOND: &str = "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx";
    // With its head, it leaves no room on the way, so that what tells the client to go on is not taken.
    const FILLS: usize =
        1024 - "HTTP/1.1 200 OK\r\ncontent-length: 947\r\ndate: Sun, 22 Nov 2026 06:00:00 GMT\r\n\r\n".len();
    for spoken in HTTP1 {
        let (endless, asked) = (Endless::default(), Arc::new(AtomicUsize::new(0)));
        let (answers, calls) = (endless.clone(), asked.clone());
        let service = tower::service_fn(move |(_, request): (Origin, Request<Incoming>)| {
            let (answers, calls) = (answers.clone(), calls.clone());
            async move {
                request.into_body().collect().await.expect("it has come");
                match calls.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(Response::new(Body::whole(vec![b'x'; FILLS]))),
                    _ => Ok::<_, Infallible>(answers.answer()),
                }
            }
        });
        let (mut client, server) = serve(service, spoken);
        client.write_all([FIRST, SECOND].concat().as_bytes()).await.expect("it is being read");
        let began = Instant::now();
        tokio::time::timeout(10 * STALL, endless.dropped.cancelled()).await.expect("it is let go");
        assert!((STALL..STALL + 2 * TIMEOUT).contains(&began.elapsed()), "{spoken:?}: {:?}", began.elapsed());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        server.await.expect("the connection does not panic");
    }
}
