//! Upstreams that speak HTTP/2 and break a stream: other streams of the connection go on, and callers are served as over
//! HTTP/1.1.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    client::{Ask, Whole},
    relay::TestRelay,
    tables::Tables,
    wire,
};
use table::{HttpVersion, WireShape::OpenaiChat};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::task::AbortOnDropHandle;

type Piece = Result<Frame<Bytes>, io::Error>;

/// What is sent to a key: the pieces of a stream, the last of which may break it.
fn pieces(key: &str) -> Vec<Piece> {
    let data = |frame: String| Ok(Frame::data(Bytes::from(frame)));
    let frames = wire::frames(OpenaiChat, "hi");
    match key {
        "breaks-early" => vec![data(frames[0].clone()), Err(io::Error::other("broken"))],
        "breaks-late" => vec![data(frames[0].clone()), data(frames[1].clone()), Err(io::Error::other("broken"))],
        _ => frames.into_iter().map(data).collect(),
    }
}

/// An HTTP/2 upstream; gives its address. A reset throws away what the other side has not read yet: each waits until
/// `read` has a permit for it.
async fn upstream(read: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let read = read.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let bearer = request.headers()["authorization"].to_str().unwrap_or_default().to_owned();
                let (pieces, read) = (pieces(bearer.trim_start_matches("Bearer ")), read.clone());
                let in_time = move |piece: Piece| {
                    let read = read.clone();
                    async move {
                        if piece.is_err() {
                            read.acquire().await.expect("it is never closed").forget();
                        }
                        piece
                    }
                };
                let body = StreamBody::new(Box::pin(stream::iter(pieces).then(in_time)));
                let answer = Response::builder().header("content-type", "text/event-stream").body(body);
                std::future::ready(Ok::<_, Infallible>(answer.expect("a head")))
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn served(keys: &[&str], read: &Arc<Semaphore>) -> TestRelay {
    let url = format!("http://{}/v1", upstream(read.clone()).await);
    let tables = Tables::new()
        .host_with("h", OpenaiChat, &url, keys, |host| host.http.version = HttpVersion::H2)
        .model("m", &["h"]);
    TestRelay::start(tables).await
}

#[tokio::test]
async fn a_stream_that_is_reset_before_its_content_is_answered_by_the_next_key() {
    let read = Arc::new(Semaphore::new(0));
    let relay = served(&["breaks-early", "good"], &read).await;
    // Nothing shows from without that it was read. Mostly it was by then; where not, the same has to come of it.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let _permitting = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            ticks.tick().await;
            read.add_permits(1);
        }
    }));
    for client in wire::SHAPES {
        let answer = relay.ask(&Ask::of(client, "m").streamed()).await;
        assert_eq!(wire::text_of(client, true, &answer), "hi", "{}", answer.text());
        assert!(wire::is_ended(client, &answer));
        assert_eq!(answer.header("x-relay-attempts"), Some("2"));
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_after_its_content_ends_with_one_error_event() {
    let read = Arc::new(Semaphore::new(0));
    let relay = served(&["breaks-late", "good"], &read).await;
    for client in wire::SHAPES {
        let mut answer = relay.send(&Ask::of(client, "m").streamed()).await;
        let seen = answer.until("hi").await;
        read.add_permits(1);
        let rest = answer.whole().await;
        let answer = Whole { bytes: [seen.as_bytes(), &rest.bytes].concat(), ..rest };
        assert_eq!(wire::text_of(client, true, &answer), "hi", "{}", answer.text());
        assert_eq!(wire::errors_of(client, &answer).len(), 1, "{}", answer.text());
        assert!(!wire::is_ended(client, &answer) && !answer.is_broken);
    }
}
