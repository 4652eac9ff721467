//! Everything that an upstream can do wrong, at every place of an answer: before the first content nobody sees it; after
//! it the caller is told once, in its own shape.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    fmt::Debug,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::join_all;
use support::{
    client::{Ask, Whole},
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Received, Script, Upstream, gzip, gzip_pieces},
    wire::{self, SHAPES},
};
use table::WireShape;

/// How an answer travels.
#[derive(Clone, Copy, Debug)]
struct Way {
    client: WireShape,
    upstream: WireShape,
    streamed: bool,
    gzip: bool,
}

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for client in SHAPES {
        for upstream in SHAPES {
            for (streamed, gzip) in [(true, true), (true, false), (false, true), (false, false)] {
                ways.push(Way { client, upstream, streamed, gzip });
            }
        }
    }
    ways
}

impl Way {
    fn ask(&self, model: &str) -> Ask {
        let ask = Ask::of(self.client, model);
        let ask = if self.gzip { ask.header("accept-encoding", "gzip") } else { ask };
        if self.streamed { ask.streamed() } else { ask }
    }

    fn is_same(&self) -> bool {
        self.client == self.upstream
    }

    /// A 200 whose body is `pieces`, left open at its end.
    fn open(&self, pieces: &[String]) -> Script {
        let media_type = if self.streamed { "text/event-stream" } else { "application/json" };
        let mut headers = vec![("content-type", media_type), ("transfer-encoding", "chunked")];
        if !self.gzip {
            return Script::head(200, &headers).chunks(pieces.to_vec());
        }
        headers.push(("content-encoding", "gzip"));
        let mut compressed = gzip_pieces(pieces);
        // The last piece says that the data are complete: an answer that is cut has none.
        compressed.pop();
        compressed.into_iter().fold(Script::head(200, &headers), Script::chunk)
    }

    /// A 200 whose body is `pieces`.
    fn complete(&self, pieces: &[String]) -> Script {
        if !self.gzip {
            return self.open(pieces).end();
        }
        let trailer = gzip_pieces(pieces).pop().expect("the trailer is the last piece");
        self.open(pieces).chunk(trailer).end()
    }

    fn good(&self, text: &str) -> Script {
        self.complete(&self.pieces(self.upstream, text))
    }

    /// The answer `text` in a shape, in several pieces.
    fn pieces(&self, shape: WireShape, text: &str) -> Vec<String> {
        if self.streamed {
            return wire::frames(shape, text);
        }
        let body = wire::whole(shape, text).to_string();
        let middle = body.len() / 2;
        vec![body[..middle].to_owned(), body[middle..].to_owned()]
    }

    /// What comes before the first content.
    fn opening(&self) -> Vec<String> {
        if self.streamed { wire::opening(self.upstream) } else { vec!["{\"id\":".to_owned()] }
    }

    fn reads(&self, answer: &Whole) -> String {
        wire::text_of(self.client, self.streamed, answer)
    }
}

/// What goes wrong before the first content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    Unauthorized,
    OutOfQuota,
    RateLimited,
    ServerError,
    HtmlError,
    ErrorIn200,
    EmptyObject,
    EmptyBody,
    OnlyAnOpening,
    Html,
    OtherShape,
    NotJson,
    CutMidFrame,
    ShorterThanAnnounced,
    ResetBeforeHeaders,
    ResetAfterHeaders,
    ClosedBeforeHeaders,
    NotWhatItsEncodingSays,
    SilentBeforeHeaders,
    SilentAfterHeaders,
    SilentAfterTheOpening,
}

const EARLY: [Early; 18] = [
    Early::Unauthorized,
    Early::OutOfQuota,
    Early::RateLimited,
    Early::ServerError,
    Early::HtmlError,
    Early::ErrorIn200,
    Early::EmptyObject,
    Early::EmptyBody,
    Early::OnlyAnOpening,
    Early::Html,
    Early::OtherShape,
    Early::NotJson,
    Early::CutMidFrame,
    Early::ShorterThanAnnounced,
    Early::ResetBeforeHeaders,
    Early::ResetAfterHeaders,
    Early::ClosedBeforeHeaders,
    Early::NotWhatItsEncodingSays,
];

const SILENT: [Early; 3] = [Early::SilentBeforeHeaders, Early::SilentAfterHeaders, Early::SilentAfterTheOpening];

impl Early {
    fn script(self, way: &Way) -> Script {
        let shape = way.upstream;
        let error = |status, kind: &str| way.error(status, &wire::error(shape, kind, "boom").to_string());
        let page = || vec!["<!doctype html><html>CANARY-PAGE</html>".to_owned()];
        let other = if shape == SHAPES[0] { SHAPES[1] } else { SHAPES[0] };
        match self {
            Early::Unauthorized => error(401, "authentication_error"),
            Early::OutOfQuota => error(402, "billing_error"),
            Early::RateLimited => error(429, "rate_limit_error"),
            Early::ServerError => error(500, "api_error"),
            Early::HtmlError => way.error(502, &page().concat()),
            Early::ErrorIn200 if way.streamed => {
                way.complete(&[way.opening(), vec![wire::error_frame(shape, "overloaded_error", "boom")]].concat())
            }
            Early::ErrorIn200 => way.complete(&[wire::error(shape, "overloaded_error", "boom").to_string()]),
            Early::EmptyObject => way.complete(&["{}".to_owned()]),
            Early::EmptyBody => way.complete(&[]),
            Early::OnlyAnOpening => way.complete(&way.opening()),
            Early::Html => way.complete(&page()),
            Early::OtherShape => way.complete(&way.pieces(other, "CANARY-PAGE")),
            Early::NotJson if way.streamed => way.complete(&["data: {CANARY-PAGE\n\n".to_owned()]),
            Early::NotJson => way.complete(&["{\"CANARY-PAGE\": tru".to_owned()]),
            Early::CutMidFrame => {
                let half = if way.streamed { "data: {\"cho" } else { "\"chat" };
                way.open(&[way.opening(), vec![half.to_owned()]].concat()).then(Act::Close)
            }
            Early::ShorterThanAnnounced => {
                Script::head(200, &[("content-type", "application/json"), ("content-length", "5000")])
                    .raw(way.opening().concat())
                    .then(Act::Close)
            }
            Early::ResetBeforeHeaders => Script::new().then(Act::Reset),
            Early::ResetAfterHeaders => way.open(&way.opening()).then(Act::Reset),
            Early::ClosedBeforeHeaders => Script::new().then(Act::Close),
            Early::NotWhatItsEncodingSays => Script::answer_with(
                200,
                &[("content-type", "application/json"), ("content-encoding", "gzip")],
                wire::whole(shape, "CANARY-PAGE").to_string(),
            ),
            Early::SilentBeforeHeaders => Script::new().then(Act::Stall),
            Early::SilentAfterHeaders => way.open(&[]).then(Act::Stall),
            Early::SilentAfterTheOpening => way.open(&way.opening()).then(Act::Stall),
        }
    }
}

impl Way {
    fn error(&self, status: u16, body: &str) -> Script {
        let media_type = if body.starts_with('<') { "text/html" } else { "application/json" };
        if self.gzip {
            let headers = [("content-type", media_type), ("content-encoding", "gzip")];
            return Script::answer_with(status, &headers, gzip(body));
        }
        Script::answer(status, media_type, body)
    }
}

/// Every way with every fault, each with a host of its own, so that none disturbs another.
struct Cases<F> {
    all: Vec<(Way, F)>,
    relay: TestRelay,
    upstream: Upstream,
}

impl<F: Copy + Debug + Send + Sync + 'static> Cases<F> {
    /// Starts them; `keys` are drawn in this order, and those that start with `bad` meet the fault.
    async fn start(
        ways: Vec<Way>,
        faults: &[F],
        keys: &[&str],
        (first_byte, stream_idle): (Duration, Duration),
        script: impl Fn(F, &Way) -> Script + Send + Sync + 'static,
    ) -> Self {
        let all: Arc<Vec<(Way, F)>> =
            Arc::new(ways.iter().flat_map(|&way| faults.iter().map(move |&fault| (way, fault))).collect());
        let known = all.clone();
        let upstream = Upstream::start(move |request| {
            let (way, fault) = known[case_of(request)];
            if request.key().starts_with("bad") { script(fault, &way) } else { way.good("hi") }
        })
        .await;
        let mut tables = Tables::new();
        for (index, (way, _)) in all.iter().enumerate() {
            let url = format!("http://{}/{index}/v1", upstream.address);
            let keys: Vec<String> = keys.iter().map(|key| format!("{key}-{index}")).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let name = index.to_string();
            tables = tables
                .host_with(&name, way.upstream, &url, &keys, |host| {
                    host.timeouts.first_byte = first_byte;
                    host.timeouts.stream_idle = stream_idle;
                })
                .model(&name, &[&name]);
        }
        let relay = TestRelay::start(tables).await;
        Self { all: all.to_vec(), relay, upstream }
    }

    async fn ask_all(&self) -> Vec<((Way, F), Whole)> {
        let each = self
            .all
            .iter()
            .enumerate()
            .map(|(index, case)| async move { (*case, self.relay.ask(&case.0.ask(&index.to_string())).await) });
        join_all(each).await
    }
}

fn case_of(request: &Received) -> usize {
    request.path.split('/').nth(1).and_then(|case| case.parse().ok()).expect("the host's path names the case")
}

const PATIENT: Duration = Duration::from_secs(30);
/// Is waited for; still long enough for all that answer, each of whom is asked at the same time on a busy machine.
const IMPATIENT: Duration = Duration::from_secs(5);

async fn the_next_key_answers(faults: &[Early], first_byte: Duration) {
    let cases = Cases::start(ways(), faults, &["bad", "good"], (first_byte, PATIENT), Early::script).await;
    for (case, answer) in cases.ask_all().await {
        let (way, _) = case;
        assert_eq!(answer.status, 200, "{case:?}: {}", answer.text());
        assert!(!answer.is_broken, "{case:?}");
        assert_eq!(way.reads(&answer), "hi", "{case:?}: {}", answer.text());
        assert_eq!(answer.header("x-relay-attempts"), Some("2"), "{case:?}");
        assert!(!way.streamed || wire::is_ended(way.client, &answer), "{case:?}: {}", answer.text());
        assert!(!way.streamed || wire::errors_of(way.client, &answer).is_empty(), "{case:?}: {}", answer.text());
    }
    // Probes are not counted: where all of this takes long, keys that failed are tried again.
    assert_eq!(cases.upstream.keys().len(), 2 * cases.all.len(), "each fault is met once and answered once");
}

#[tokio::test]
async fn before_the_first_content_the_next_key_answers() {
    the_next_key_answers(&EARLY, PATIENT).await;
}

#[tokio::test]
async fn a_silent_upstream_is_left_for_the_next_key() {
    the_next_key_answers(&SILENT, IMPATIENT).await;
}

#[tokio::test]
async fn when_no_key_is_left_the_caller_gets_an_error_of_its_shape_and_nothing_of_the_faulty_answer() {
    let cases = Cases::start(ways(), &EARLY, &["bad"], (PATIENT, PATIENT), Early::script).await;
    for (case, answer) in cases.ask_all().await {
        let (way, fault) = case;
        let text = answer.text();
        assert!(!wire::message_of(way.client, &answer).is_empty(), "{case:?}: {text}");
        assert!(!text.contains("CANARY-PAGE"), "{case:?}: {text}");
        let expected = if fault == Early::RateLimited { 429..430 } else { 500..600 };
        assert!(expected.contains(&answer.status), "{case:?}: {} {text}", answer.status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{case:?}");
    }
}

/// What goes wrong after the first content of a stream.
#[derive(Clone, Copy, Debug)]
enum Late {
    ErrorEvent,
    NoEndMarker,
    CutMidFrame,
    Reset,
    NotJson,
    Html,
    Stall,
}

const LATE: [Late; 7] =
    [Late::ErrorEvent, Late::NoEndMarker, Late::CutMidFrame, Late::Reset, Late::NotJson, Late::Html, Late::Stall];

impl Late {
    fn script(self, way: &Way) -> Script {
        let begun = [wire::opening(way.upstream), wire::saying(way.upstream, "hel", true)].concat();
        let and = |more: &str| [begun.clone(), vec![more.to_owned()]].concat();
        match self {
            Late::ErrorEvent => way.complete(&and(&wire::error_frame(way.upstream, "overloaded_error", "boom"))),
            Late::NoEndMarker => way.complete(&begun),
            Late::CutMidFrame => way.open(&and("data: {\"choices\": [{\"del")).then(Act::Close),
            Late::Reset => way.open(&begun).pause(20).then(Act::Reset),
            Late::NotJson => way.complete(&and("data: {CANARY-PAGE\n\n")),
            Late::Html => way.complete(&and("<html>\n\n</html>\n\n")),
            Late::Stall => way.open(&begun).then(Act::Stall),
        }
    }
}

#[tokio::test]
async fn after_the_first_content_a_stream_ends_with_exactly_one_error_event_of_the_callers_shape() {
    let streams = ways().into_iter().filter(|way| way.streamed).collect();
    let cases = Cases::start(streams, &LATE, &["bad", "good"], (PATIENT, IMPATIENT), Late::script).await;
    for (case, answer) in cases.ask_all().await {
        let (way, _) = case;
        let text = answer.text();
        assert_eq!((answer.status, answer.is_broken), (200, false), "{case:?}: {text}");
        assert_eq!(way.reads(&answer), "hel", "{case:?}: {text}");
        assert!(!wire::is_ended(way.client, &answer), "{case:?}: {text}");
        assert_eq!(wire::errors_of(way.client, &answer).len(), 1, "{case:?}: {text}");
        let last = answer.events().pop().expect("there are events");
        assert!(last.json()["error"]["message"].is_string(), "the error is the last event: {case:?}: {text}");
        assert!(!text.contains("CANARY-PAGE"), "{case:?}: {text}");
    }
}

/// What goes wrong late in a whole answer that is too large to be held back.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Closed,
    Ended,
    Stalled,
}

impl Broken {
    fn script(self, way: &Way) -> Script {
        let mut pieces = way.pieces(way.upstream, &LARGE);
        pieces.pop();
        let begun = way.open(&pieces);
        match self {
            Broken::Closed => begun.then(Act::Close),
            Broken::Ended => begun.end(),
            Broken::Stalled => begun.then(Act::Stall),
        }
    }
}

/// A text that hardly compresses, of which half is still more than is held back.
static LARGE: LazyLock<String> = LazyLock::new(|| {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    };
    (0..1_000_000).map(|_| next()).collect()
});

fn whole_ways(same: bool) -> Vec<Way> {
    ways().into_iter().filter(|way| !way.streamed && way.is_same() == same).collect()
}

#[tokio::test]
async fn a_whole_answer_that_breaks_after_it_began_never_looks_whole() {
    let faults = [Broken::Closed, Broken::Ended, Broken::Stalled];
    let cases = Cases::start(whole_ways(true), &faults, &["bad", "good"], (PATIENT, IMPATIENT), Broken::script).await;
    for (case, answer) in cases.ask_all().await {
        assert!(answer.is_broken, "{case:?}: {} bytes", answer.bytes.len());
    }
}

#[tokio::test]
async fn a_whole_answer_of_the_other_shape_is_replaced_however_late_it_breaks() {
    let faults = [Broken::Closed, Broken::Ended];
    let cases = Cases::start(whole_ways(false), &faults, &["bad", "good"], (PATIENT, PATIENT), Broken::script).await;
    for (case, answer) in cases.ask_all().await {
        assert_eq!(case.0.reads(&answer), "hi", "{case:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn good_answers_pass_every_way() {
    let cases = Cases::start(ways(), &[()], &["good"], (PATIENT, PATIENT), |(), way| way.good("never asked")).await;
    for (case, answer) in cases.ask_all().await {
        let (way, ()) = case;
        assert_eq!(way.reads(&answer), "hi", "{case:?}: {}", answer.text());
        let is_kept = way.gzip && way.is_same() && !way.streamed;
        assert_eq!(answer.header("content-encoding").is_some(), is_kept, "{case:?}");
    }
}

#[tokio::test]
async fn a_hundred_megabytes_that_are_no_answer_are_read_no_further_than_needed() {
    let upstream = Upstream::start_forgetful(|request| match (request.key(), request.is_streamed()) {
        ("good", _) => wire::good(WireShape::OpenaiChat, request, "hi"),
        (_, true) => Script::stream().then(Act::Repeat(support::upstream::chunk(&[b'x'; 1 << 16]), 1_600)).end(),
        (_, false) => {
            Script::head(200, &[("content-length", "104857600")]).then(Act::Repeat(vec![b' '; 1 << 16], 1_600))
        }
    })
    .await;
    let tables = Tables::new().host("h", WireShape::OpenaiChat, &upstream.url(), &["bad", "good"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    for client in SHAPES {
        for ask in [Ask::of(client, "m"), Ask::of(client, "m").streamed()] {
            let streamed = ask.body["stream"] == true;
            let answer = relay.ask(&ask).await;
            assert_eq!(wire::text_of(client, streamed, &answer), "hi", "{}", answer.text());
        }
    }
    assert!(upstream.written() < 100 << 20, "{} bytes were taken", upstream.written());
}
