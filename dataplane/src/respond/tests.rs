use std::sync::Arc;

use futures::channel::mpsc;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use protocol::pipe::Pipe;

use super::*;

const BEGUN: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const ENDED: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// What an upstream sends, piece by piece.
type Sent = mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>;

/// How the answer was said to have ended.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Ended>>>);

impl Close for Told {
    fn close(&mut self, ended: Ended, _: Facts) {
        self.0.lock().push(ended);
    }
}

struct Bench {
    upstream: Sent,
    body: Body,
    told: Told,
    drain: Drain,
}

fn bench() -> Bench {
    let (upstream, pieces) = mpsc::unbounded();
    let (told, drain) = (Told::default(), Drain::new());
    let second = Duration::from_secs(1);
    let patience = Patience { idle: 30 * second, deadline: Instant::now() + 600 * second, keep_alive: 15 * second };
    let answer = Answer {
        held: Vec::new(),
        upstream: Some(StreamBody::new(pieces)),
        flow: Flow::plain(Pipe::same(WireShape::OpenaiChat, true, false)),
        close: told.clone(),
        shape: WireShape::OpenaiChat,
        streamed: true,
        request_id: "req_1".into(),
        secret: None,
        patience,
        drain: drain.clone(),
    };
    Bench { upstream, body: answer.into_body(), told, drain }
}

impl Bench {
    fn send(&self, text: &'static str) {
        self.upstream.unbounded_send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).expect("it is being read");
    }

    fn reset(&self) {
        self.upstream.unbounded_send(Err(io::ErrorKind::ConnectionReset.into())).expect("it is being read");
    }

    async fn next(&mut self) -> Option<String> {
        let frame = self.body.frame().await?.expect("streams end with an event, not with a break");
        Some(String::from_utf8_lossy(frame.data_ref().expect("there are no trailers")).into_owned())
    }

    async fn rest(&mut self) -> String {
        let mut text = String::new();
        while let Some(piece) = self.next().await {
            text.push_str(&piece);
        }
        text
    }

    fn told(&self) -> Vec<Ended> {
        self.told.0.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_behind_the_end_marker_leaves_the_answer_whole() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.send(ENDED);
    bench.reset();
    assert_eq!(bench.rest().await, format!("{BEGUN}{ENDED}"));
    assert_eq!(bench.told(), [Ended::Complete]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_behind_the_end_marker_leaves_the_answer_whole() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.send(ENDED);
    assert_eq!(bench.next().await.as_deref(), Some(BEGUN));
    assert_eq!(bench.next().await.as_deref(), Some(ENDED));
    bench.drain.run(tokio::sync::watch::Sender::default().subscribe(), &tokio_util::task::TaskTracker::new()).await;
    assert_eq!(bench.rest().await, "");
    assert_eq!(bench.told(), [Ended::Complete]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_keeps_its_connection_open_behind_the_end_holds_nobody_and_is_followed_by_nothing() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.send(ENDED);
    let began = Instant::now();
    assert_eq!(bench.rest().await, format!("{BEGUN}{ENDED}"));
    assert_eq!((bench.told(), began.elapsed()), (vec![Ended::Complete], LINGER));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_with_the_whole_answer_has_not_cancelled_it() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.send(ENDED);
    assert_eq!(bench.next().await.as_deref(), Some(BEGUN));
    assert_eq!(bench.next().await.as_deref(), Some(ENDED));
    let told = bench.told.clone();
    drop(bench);
    assert_eq!(*told.0.lock(), [Ended::Complete]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_before_the_last_piece_has_cancelled_the_answer() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.next().await;
    let told = bench.told.clone();
    drop(bench);
    assert_eq!(*told.0.lock(), [Ended::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_before_the_end_marker_is_one_error_event() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.reset();
    let text = bench.rest().await;
    assert!(text.starts_with(BEGUN) && text.matches("\"error\"").count() == 1 && !text.contains("[DONE]"), "{text}");
    assert!(matches!(bench.told()[..], [Ended::Failed(_)]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_trickles_ends_with_the_request_and_blames_nobody() {
    let mut bench = bench();
    let upstream = bench.upstream.clone();
    let trickle = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            if upstream.unbounded_send(Ok(Frame::data(Bytes::from_static(BEGUN.as_bytes())))).is_err() {
                return;
            }
        }
    });
    let began = Instant::now();
    assert!(bench.rest().await.contains("timeouts.request"));
    assert_eq!(began.elapsed(), Duration::from_secs(600));
    assert!(matches!(bench.told()[..], [Ended::Overdue(_)]));
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_always_has_more_does_not_outrun_the_deadline() {
    let mut bench = bench();
    bench.send(BEGUN);
    assert_eq!(bench.next().await.as_deref(), Some(BEGUN));
    tokio::time::advance(Duration::from_secs(600)).await;
    bench.send(BEGUN);
    bench.send(BEGUN);
    assert!(bench.rest().await.contains("timeouts.request"));
    assert!(matches!(bench.told()[..], [Ended::Overdue(_)]));
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_keep_alives_until_it_is_too_long() {
    let mut bench = bench();
    bench.send(BEGUN);
    bench.next().await;
    let began = Instant::now();
    let ping = String::from_utf8_lossy(codec::keep_alive(WireShape::OpenaiChat)).into_owned();
    assert_eq!((bench.next().await, began.elapsed().as_secs()), (Some(ping), 15));
    assert!(bench.rest().await.contains("timeouts.streamIdle"));
    assert_eq!(began.elapsed().as_secs(), 30);
}
