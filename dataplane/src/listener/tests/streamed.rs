//! Answers whose length is not known: those that take a connection over are no other than those that the HTTP library writes.

use std::future::ready;

use futures::{StreamExt, stream};
use http::StatusCode;

use super::*;

/// What an answer plays.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    Breaks,
    Waits,
}

/// Answers each request with pieces and what comes then.
#[derive(Clone)]
struct Played {
    pieces: &'static [&'static str],
    then: Then,
    dropped: CancellationToken,
}

impl Played {
    fn new(pieces: &'static [&'static str], then: Then) -> Self {
        Self { pieces, then, dropped: CancellationToken::new() }
    }
}

impl Service<(Origin, Request<Incoming>)> for Played {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (_, request): (Origin, Request<Incoming>)) -> Self::Future {
        let guard: DropGuard = self.dropped.clone().drop_guard();
        let pieces = stream::iter(self.pieces).map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let then = match self.then {
            Then::Ends => stream::empty().boxed(),
            Then::Breaks => stream::once(ready(Err(io::Error::other("broken")))).boxed(),
            Then::Waits => stream::pending().boxed(),
        };
        let frames = pieces.chain(then).inspect(move |_| {
            let _held = &guard;
        });
        let body = Body::played(StreamBody::new(frames));
        let mut answer = Response::new(body);
        if let Some(status) = request.headers().get("x-status") {
            *answer.status_mut() = StatusCode::from_bytes(status.as_bytes()).expect("a status");
        }
        answer.headers_mut().insert("x-one", HeaderValue::from_static("1"));
        answer.headers_mut().append("x-two", HeaderValue::from_static("a"));
        answer.headers_mut().append("x-two", HeaderValue::from_static("b"));
        ready(Ok(answer))
    }
}

/// Everything that a client which says `said` and then no more is answered, without the date.
async fn answered(service: Played, spoken: Spoken, said: &[&str]) -> String {
    let (mut client, server) = serve(service, spoken);
    for part in said {
        client.write_all(part.as_bytes()).await.expect("it is being read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("answers");
    server.await.expect("the connection does not panic");
    let text = String::from_utf8(answer).expect("text");
    assert_eq!(text.matches("\r\ndate: ").count(), text.matches("HTTP/1.").count(), "{text}");
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_over_is_what_the_library_would_write_and_requests_go_on_behind_it() {
    const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    const LONG: &str = concat!(
        "GET / HTTP/1.1\r\nhost: h\r\nx-long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"
    );
    let requests: [&[&str]; 14] = [
        &[GET],
        &[GET, GET],
        &[GET, LONG, GET],
        &["GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\nho", "st: h\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"],
        &["POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", GET],
        &["GET / HTTP/1.1\r\nhost: h\r\nconnection: Keep-Alive\r\n\r\n", GET],
        &["GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"],
        &["GET / HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, close\r\n\r\n"],
        &["GET / HTTP/1.0\r\n\r\n"],
        &["GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"],
        &["HEAD / HTTP/1.1\r\nhost: h\r\n\r\n", GET],
        &["GET / HTTP/1.1\r\nhost: h\r\nx-status: 503\r\n\r\n", GET],
        &["GET / HTTP/1.1\r\nhost: h\r\nx-status: 204\r\n\r\n", GET],
        &["GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", GET],
    ];
    let pieces: [&[&str]; 4] = [&["one", "two"], &[], &["", "x", ""], &["a"; 100]];
    for (pieces, said) in pieces.iter().flat_map(|pieces| requests.iter().map(move |said| (pieces, said))) {
        let service = Played::new(pieces, Then::Ends);
        let expected = answered(service.clone(), Spoken::Unknown, said).await;
        assert!(expected.starts_with("HTTP/1."), "{expected}");
        assert_eq!(answered(service, Spoken::Http1, said).await, expected, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    for spoken in HTTP1 {
        let (mut client, server) = serve(Played::new(&["one"], Then::Breaks), spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("the connection is closed");
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));
        server.await.expect("the connection does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_ends_an_answer_that_is_silent() {
    for spoken in HTTP1 {
        let service = Played::new(&["one"], Then::Waits);
        let (mut client, server) = serve(service.clone(), spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        let mut answer = vec![0; 1024];
        let mut size = 0;
        while !answer[..size].ends_with(b"one\r\n") {
            size += client.read(&mut answer[size..]).await.expect("the answer");
        }
        tokio::time::sleep(10 * TIMEOUT).await;
        assert!(!service.dropped.is_cancelled() && !server.is_finished(), "it may be silent for long");
        drop(client);
        server.await.expect("the connection does not panic");
        assert!(service.dropped.is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_on_through_a_drain_and_the_connection_ends_behind_it() {
    for spoken in HTTP1 {
        let (drain, (sender, pieces)) = (Drain::new(), futures::channel::mpsc::unbounded());
        let pieces = Arc::new(parking_lot::Mutex::new(Some(pieces)));
        let service = tower::service_fn(move |_: (Origin, Request<Incoming>)| {
            let pieces = pieces.lock().take().expect("one request");
            let frames = pieces.map(|piece: &'static str| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
            ready(Ok::<_, Infallible>(Response::new(Body::played(StreamBody::new(frames)))))
        });
        let (mut client, server) = serve_until(&drain, service, spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        sender.unbounded_send("one").expect("it is being read");
        tokio::time::sleep(TIMEOUT).await;
        let streams = TaskTracker::new();
        let held = streams.token();
        let settings = tokio::sync::watch::Sender::new(crate::in_force::Stopping {
            deregister: Duration::ZERO,
            grace: Duration::from_secs(600),
        });
        let (draining, seen) = (drain.clone(), settings.subscribe());
        let draining = tokio::spawn(async move { draining.run(seen, &streams).await });
        tokio::time::sleep(TIMEOUT).await;
        assert!(drain.is_closed());
        sender.unbounded_send("two").expect("it is being read");
        drop(sender);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
        server.await.expect("the connection does not panic");
        drop(held);
        draining.await.expect("the drain does not panic");
    }
}
