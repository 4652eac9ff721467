use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Connection, Fault, Incoming, Stream, ask};
use crate::upstream::upload::{Upload, Whole};

mod oracle;

/// An answer as its client sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: Version,
    status: StatusCode,
    headers: Vec<(String, Bytes)>,
    body: Vec<u8>,
    trailers: Vec<(String, Bytes)>,
}

fn listed(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    headers.iter().map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

fn request(method: Method, body: &'static [u8]) -> Request<Upload> {
    let mut request = Request::new(Upload::Whole(Whole::from(Bytes::from_static(body))));
    (*request.method_mut(), *request.uri_mut()) = (method, "/v1/models?a=b".parse().unwrap());
    request
}

fn pair(room: usize) -> (Connection, DuplexStream) {
    let (near, far) = tokio::io::duplex(room);
    (Connection::new(Stream::Piped(near)), far)
}

const HOST: HeaderValue = HeaderValue::from_static("h.example:8080");

/// The next of an answer's body.
async fn frame(incoming: &mut Incoming, connection: &mut Connection) -> Option<Result<http_body::Frame<Bytes>, Fault>> {
    std::future::poll_fn(|context| incoming.poll_frame(connection, context)).await
}

/// What a request looks like to the other side.
async fn written(mut request: Request<Upload>) -> String {
    let (mut connection, mut far) = pair(1 << 20);
    drop(far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
    ask(&mut connection, &mut request, &HOST).await.unwrap();
    drop(connection);
    let mut seen = String::new();
    far.read_to_string(&mut seen).await.unwrap();
    seen
}

#[tokio::test]
async fn a_request_says_where_it_goes_and_how_long_its_body_is_whatever_its_headers_say() {
    let mut post = request(Method::POST, b"{}");
    for (name, value) in
        [("host", "elsewhere"), ("content-length", "7"), ("transfer-encoding", "chunked"), ("x-one", "1")]
    {
        post.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let expected = "POST /v1/models?a=b HTTP/1.1\r\nhost: h.example:8080\r\nx-one: 1\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(written(post).await, expected);
    let get = "GET /v1/models?a=b HTTP/1.1\r\nhost: h.example:8080\r\n\r\n";
    assert_eq!(written(request(Method::GET, b"")).await, get);
    let empty = "POST /v1/models?a=b HTTP/1.1\r\nhost: h.example:8080\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(written(request(Method::POST, b"")).await, empty);
}

#[tokio::test]
async fn a_path_is_in_origin_form_even_where_it_is_a_query_only() {
    let mut asked = request(Method::GET, b"");
    *asked.uri_mut() = "http://h.example?a=b".parse().unwrap();
    assert!(written(asked).await.starts_with("GET /?a=b HTTP/1.1\r\n"));
    let mut asked = request(Method::GET, b"");
    *asked.uri_mut() = "http://h.example".parse().unwrap();
    assert!(written(asked).await.starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn pieces_of_a_body_come_out_without_being_copied_and_an_idle_connection_keeps_no_large_buffer() {
    let (mut connection, mut far) = pair(1 << 20);
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 300005\r\n\r\n").await.unwrap();
    far.write_all(&[b'a'; 300_000]).await.unwrap();
    let answer = ask(&mut connection, &mut request(Method::GET, b""), &HOST).await.unwrap();
    let (mut incoming, mut sizes) = (answer.into_body(), Vec::new());
    while sizes.iter().sum::<usize>() < 300_000 {
        sizes.push(frame(&mut incoming, &mut connection).await.unwrap().unwrap().into_data().unwrap().len());
    }
    assert!(sizes.len() < 12 && sizes.contains(&(64 << 10)), "{sizes:?}");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(incoming.poll_frame(&mut connection, &mut context).is_pending());
    assert_eq!(connection.buffer.capacity(), 0);
    far.write_all(b"hello").await.unwrap();
    let last = frame(&mut incoming, &mut connection).await.unwrap().unwrap().into_data().unwrap();
    assert!(last == "hello" && incoming.is_over() && incoming.leaves(&connection));
}

#[tokio::test]
async fn small_pieces_one_after_the_other_share_one_small_buffer() {
    let (mut connection, mut far) = pair(1 << 20);
    far.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let answer = ask(&mut connection, &mut request(Method::GET, b""), &HOST).await.unwrap();
    let (head, mut incoming) = answer.into_parts();
    drop(head);
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        far.write_all(b"64\r\n").await.unwrap();
        far.write_all(&[b'e'; 100]).await.unwrap();
        far.write_all(b"\r\n").await.unwrap();
        let piece = frame(&mut incoming, &mut connection).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, [b'e'; 100][..]);
        places.insert(piece.as_ptr() as usize);
    }
    assert!(places.last().unwrap() - places.first().unwrap() < 4 << 10, "{places:?}");
}

#[tokio::test]
async fn who_has_all_data_knows_that_it_is_all_where_the_end_came_with_it() {
    for (answer, is_known) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
    ] {
        let (mut connection, mut far) = pair(1 << 20);
        far.write_all(answer.as_bytes()).await.unwrap();
        let mut incoming = ask(&mut connection, &mut request(Method::GET, b""), &HOST).await.unwrap().into_body();
        let data = frame(&mut incoming, &mut connection).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((&data[..], incoming.is_over()), (&b"hello"[..], is_known), "{answer}");
    }
}

#[tokio::test]
async fn an_end_that_is_too_early_is_told_after_there_was_time_to_pass_on_what_came_before_it() {
    let (mut connection, mut far) = pair(1 << 20);
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    let mut incoming = ask(&mut connection, &mut request(Method::GET, b""), &HOST).await.unwrap().into_body();
    drop(far);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = || incoming.poll_frame(&mut connection, &mut context);
    assert!(matches!(poll(), Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap() == "half"));
    assert!(poll().is_pending());
    assert!(matches!(poll(), Poll::Ready(Some(Err(Fault::Broken(_))))));
}
