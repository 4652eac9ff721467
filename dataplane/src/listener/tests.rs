use std::{future::Ready, task};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers each request with a body that never ends, until it is dropped.
#[derive(Clone, Default)]
struct Endless {
    dropped: CancellationToken,
}

impl Endless {
    fn answer(&self) -> Response<Body> {
        let guard: DropGuard = self.dropped.clone().drop_guard();
        let pieces = futures::stream::repeat_with(move || {
            let _held = &guard;
            Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))
        });
        Response::new(Body::played(StreamBody::new(pieces)))
    }
}

impl Service<(Origin, Request<Incoming>)> for Endless {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: (Origin, Request<Incoming>)) -> Self::Future {
        std::future::ready(Ok(self.answer()))
    }
}

/// What a connection of HTTP/1 may be taken for when it begins.
const HTTP1: [Spoken; 2] = [Spoken::Http1, Spoken::Unknown];

/// Serves one end of a pipe; gives the other, and the server's task.
fn serve<S>(service: S, spoken: Spoken) -> (DuplexStream, tokio::task::JoinHandle<()>)
where
    S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    serve_until(&Drain::new(), service, spoken)
}

fn serve_until<S>(drain: &Drain, service: S, spoken: Spoken) -> (DuplexStream, tokio::task::JoinHandle<()>)
where
    S: Service<(Origin, Request<Incoming>), Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(1024);
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let connection = Connection { peer, header_read_timeout: TIMEOUT, drain: drain.clone(), service };
    (ours, tokio::spawn(connection.speak(theirs, spoken, Instant::now())))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_word_is_let_go() {
    let of_http1 = ["", "GET / HT"].map(|word| (word, Spoken::Http1));
    let of_any = ["", "P", "PRI * HTTP/2.0", "GET / HT"].map(|word| (word, Spoken::Unknown));
    for (word, spoken) in of_http1.into_iter().chain(of_any) {
        let (mut client, server) = serve(Endless::default(), spoken);
        client.write_all(word.as_bytes()).await.expect("it is being read");
        let began = Instant::now();
        server.await.expect("the connection does not panic");
        assert_eq!(began.elapsed(), TIMEOUT, "{word:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_holds_it_for_two_minutes_at_most() {
    for spoken in HTTP1 {
        let service = Endless::default();
        let (mut client, server) = serve(service.clone(), spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        let began = Instant::now();
        service.dropped.cancelled().await;
        assert!((STALL..STALL + 2 * TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
        server.await.expect("the connection does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_http2_that_nobody_reads_is_let_go_too() {
    let service = Endless::default();
    let (client, server) = serve(service.clone(), Spoken::Unknown);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
        .await
        .expect("the server speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let request = Request::get("http://h/").body(Empty::<Bytes>::new()).expect("a valid request");
    let unread = sender.send_request(request).await.expect("an answer");
    let began = Instant::now();
    service.dropped.cancelled().await;
    assert!((STALL..STALL + 2 * TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
    server.await.expect("the connection does not panic");
    drop(unread);
    connection.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_cut_off() {
    for spoken in HTTP1 {
        let service = Endless::default();
        let (mut client, server) = serve(service.clone(), spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        let mut piece = vec![0; 512 * 1024];
        for _ in 0..10 {
            tokio::time::sleep(STALL / 2).await;
            client.read_exact(&mut piece).await.expect("more of the answer");
        }
        assert!(!service.dropped.is_cancelled());
        drop(client);
        server.await.expect("the connection does not panic");
    }
}

/// Answers each request with a word.
#[derive(Clone)]
struct Word;

impl Service<(Origin, Request<Incoming>)> for Word {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: (Origin, Request<Incoming>)) -> Self::Future {
        std::future::ready(Ok(Response::new(Body::whole("word"))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_idle_between_requests_is_closed_when_the_drain_begins_or_its_time_is_up() {
    for (spoken, drains) in HTTP1.into_iter().flat_map(|spoken| [(spoken, true), (spoken, false)]) {
        let drain = Drain::new();
        let (mut client, server) = serve_until(&drain, Word, spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        let mut answer = vec![0; 1024];
        let size = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..size].ends_with(b"word"));
        let began = Instant::now();
        if drains {
            drain.run(tokio::sync::watch::Sender::default().subscribe(), &TaskTracker::new()).await;
        }
        server.await.expect("the connection does not panic");
        assert_eq!(began.elapsed() < TIMEOUT, drains, "{:?}", began.elapsed());
    }
}

#[test]
fn only_what_can_still_become_the_preface_of_http2_has_to_be_looked_at() {
    for (first, expected) in [
        ("P", Spoken::Unknown),
        ("PR", Spoken::Unknown),
        ("PRI ", Spoken::Unknown),
        ("PO", Spoken::Http1),
        ("PRIX", Spoken::Http1),
        ("GET ", Spoken::Http1),
        ("\r\n", Spoken::Http1),
    ] {
        assert_eq!(Spoken::of_first_bytes(first.as_bytes()), expected, "{first:?}");
    }
    assert_eq!(Spoken::agreed(Some(b"http/1.1")), Spoken::Http1);
    assert_eq!((Spoken::agreed(Some(b"h2")), Spoken::agreed(None)), (Spoken::Unknown, Spoken::Unknown));
}

/// A connection over TCP, its client and its server's task.
async fn over_tcp(drain: &Drain, timeout: Duration) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine");
    let client = TcpStream::connect(socket.local_addr().expect("it is bound")).await.expect("it is listened on");
    let (stream, peer) = socket.accept().await.expect("a client");
    let connection = Connection { peer, header_read_timeout: timeout, drain: drain.clone(), service: Word };
    (client, tokio::spawn(connection.open(stream)))
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_in_time_and_when_the_drain_begins() {
    for (drains, timeout) in [(true, Duration::from_secs(600)), (false, Duration::from_millis(20))] {
        let drain = Drain::new();
        let (mut client, server) = over_tcp(&drain, timeout).await;
        if drains {
            drain.run(tokio::sync::watch::Sender::default().subscribe(), &TaskTracker::new()).await;
        }
        server.await.expect("the connection does not panic");
        assert_eq!(client.read(&mut [0; 1]).await.expect("it is closed in order"), 0);
    }
}

#[tokio::test]
async fn a_request_that_comes_in_single_bytes_is_answered_over_tcp() {
    let (mut client, server) = over_tcp(&Drain::new(), TIMEOUT).await;
    for byte in b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" {
        client.write_all(&[*byte]).await.expect("it is being read");
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.ends_with(b"word"), "{}", String::from_utf8_lossy(&answer));
    server.await.expect("the connection does not panic");
}

mod late;
mod stalled;
mod streamed;
