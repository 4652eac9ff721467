//! Requests that wait for longer than they may, and what wakes them.

use std::future::pending;

use super::*;
use crate::{
    in_force::Stopping,
    intake::{self, IntakeError},
    lookout::Late,
};

/// Shorter than, and longer than, what the connection itself is looked at after.
const WAITS: [Duration; 4] =
    [Duration::from_micros(1_700), Duration::from_secs(3), TIMEOUT, Duration::from_secs(4 * TIMEOUT.as_secs() + 1)];

const HEAD: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n";

/// Reads until an answer has ended with `word`.
async fn answered(client: &mut DuplexStream, word: &str) {
    let mut read = Vec::new();
    while !read.ends_with(word.as_bytes()) {
        assert!(client.read_buf(&mut read).await.expect("an answer") > 0, "{}", String::from_utf8_lossy(&read));
    }
}

fn is_about(passed: Duration, wait: Duration) {
    assert!((wait..=wait + Duration::from_millis(2)).contains(&passed), "{passed:?} instead of {wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_in_vain_is_woken_at_its_time_and_the_next_one_too() {
    for spoken in HTTP1 {
        let waits = Arc::new(parking_lot::Mutex::new(WAITS.to_vec()));
        let service = tower::service_fn(move |(origin, request): (Origin, Request<Incoming>)| {
            let (wait, began) = (waits.lock().remove(0), Instant::now());
            async move {
                let body = intake::read(request.into_body(), None, 5, TIMEOUT, &origin.lookout).await;
                assert_eq!(body.as_deref(), Ok(&b"hello"[..]));
                let late = origin.lookout.within(began + wait, Box::pin(pending::<()>())).await;
                assert_eq!(late, Err(Late));
                is_about(began.elapsed(), wait);
                Ok::<_, Infallible>(Response::new(Body::whole("late")))
            }
        });
        let (mut client, server) = serve(service, spoken);
        for wait in WAITS {
            let began = Instant::now();
            client.write_all(format!("{HEAD}hello").as_bytes()).await.expect("it is being read");
            answered(&mut client, "late").await;
            is_about(began.elapsed(), wait);
            tokio::time::sleep(TIMEOUT / 3).await;
        }
        drop(client);
        server.await.expect("the connection does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_which_nothing_more_comes_is_given_up_at_its_time() {
    for (spoken, wait) in HTTP1.into_iter().flat_map(|spoken| WAITS.map(|wait| (spoken, wait))) {
        let service = tower::service_fn(move |(origin, request): (Origin, Request<Incoming>)| async move {
            let body = intake::read(request.into_body(), None, 5, wait, &origin.lookout).await;
            assert_eq!(body, Err(IntakeError::TimedOut(wait)));
            Ok::<_, Infallible>(Response::new(Body::whole("late")))
        });
        let (mut client, server) = serve(service, spoken);
        let began = Instant::now();
        client.write_all(format!("{HEAD}he").as_bytes()).await.expect("it is being read");
        answered(&mut client, "late").await;
        is_about(began.elapsed(), wait);
        drop(client);
        server.await.expect("the connection does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_woken_when_the_process_must_stop() {
    const GRACE: Duration = Duration::from_secs(33);
    for spoken in HTTP1 {
        let drain = Drain::new();
        let stops = drain.clone();
        let service = tower::service_fn(move |(origin, _): (Origin, Request<Incoming>)| {
            let drain = stops.clone();
            async move {
                assert_eq!(origin.lookout.unless_expired(&drain, Box::pin(pending::<()>())).await, None);
                Ok::<_, Infallible>(Response::new(Body::whole("over")))
            }
        });
        let (mut client, server) = serve_until(&drain, service, spoken);
        client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("it is being read");
        tokio::time::sleep(TIMEOUT).await;
        let streams = TaskTracker::new();
        let held = streams.token();
        let settings = tokio::sync::watch::Sender::new(Stopping { deregister: Duration::ZERO, grace: GRACE });
        let (draining, seen, began) = (drain.clone(), settings.subscribe(), Instant::now());
        let draining = tokio::spawn(async move { draining.run(seen, &streams).await });
        answered(&mut client, "over").await;
        is_about(began.elapsed(), GRACE);
        server.await.expect("the connection does not panic");
        drop(held);
        draining.await.expect("the drain does not panic");
    }
}
