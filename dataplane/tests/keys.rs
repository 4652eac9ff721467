//! Pools of which some keys are dead: callers never notice, and a dead key meets no caller until it has healed.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures::future::join_all;
use parking_lot::Mutex;
use support::{
    client::{Ask, Connection},
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Received, Script, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;

fn by_class(request: &Received) -> Script {
    let error = |status, kind| Script::json(status, &wire::error(OpenaiChat, kind, "boom"));
    match request.key().split('-').next().unwrap_or_default() {
        "refused" => error(401, "authentication_error"),
        "limited" => error(429, "rate_limit_error"),
        "failing" => error(500, "server_error"),
        "resetting" => Script::new().then(Act::Reset),
        "hanging" => Script::new().then(Act::Stall),
        _ => wire::good(OpenaiChat, request, "hi"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_over_a_pool_half_of_which_is_dead_meet_no_error_and_hardly_a_second_try() {
    const REQUESTS: usize = 10_000;
    const CALLERS: usize = 16;
    let tried = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let count = tried.clone();
    let upstream = Upstream::start_forgetful(move |request| {
        if request.is_conversation() {
            *count.lock().entry(request.key().to_owned()).or_default() += 1;
        }
        by_class(request)
    })
    .await;
    let mut tables = Tables::new()
        .host_with("h", OpenaiChat, &upstream.url(), &[], |host| host.timeouts.first_byte = Duration::from_secs(4))
        .model("m", &["h"])
        .policy(|policy| policy.routing.max_attempts = 8);
    for class in ["refused", "limited", "failing", "resetting", "hanging"] {
        tables = tables.host_key("h", class, |_| {}).host_key("h", &format!("good-{class}"), |_| {});
    }
    let relay = TestRelay::start(tables).await;

    let began = std::time::Instant::now();
    let left = Arc::new(AtomicUsize::new(REQUESTS));
    let caller = |number: usize| {
        let (left, address) = (left.clone(), relay.address);
        tokio::spawn(async move {
            let ask = if number.is_multiple_of(2) { Ask::openai("m") } else { Ask::openai("m").streamed() };
            let (mut connection, mut answered, mut failed) = (Connection::open(address).await, 0, Vec::new());
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                let answer = connection.ask(&ask).await.expect("the relay keeps the connection");
                let text = wire::text_of(OpenaiChat, !number.is_multiple_of(2), &answer);
                if (answer.status, text.as_str()) == (200, "hi") { answered += 1 } else { failed.push(answer.text()) }
            }
            (answered, failed)
        })
    };
    let mut answered = 0;
    for done in join_all((0..CALLERS).map(caller)).await {
        let (good, failed) = done.expect("no caller panics");
        assert!(failed.is_empty(), "{failed:?}");
        answered += good;
    }
    let by_key = tried.lock().clone();
    let tries: usize = by_key.values().sum();
    println!("{answered} answers with {tries} tries in {:?}: {by_key:?}", began.elapsed());
    assert_eq!(answered, REQUESTS);
    assert!(tries <= REQUESTS + REQUESTS / 100, "{tries} tries: {by_key:?}");
}

/// Keeps a paused clock from advancing by itself, so that sockets have their time; ends when dropped.
struct Standstill(#[expect(dead_code, reason = "its drop is what ends the wait")] mpsc::Sender<()>);

impl Standstill {
    fn begin() -> Self {
        let (sender, receiver) = mpsc::channel();
        tokio::time::pause();
        // A paused clock stands still while there is work on a blocking thread.
        tokio::task::spawn_blocking(move || receiver.recv());
        Self(sender)
    }
}

#[tokio::test]
async fn over_ten_minutes_no_caller_meets_a_dead_key_until_a_probe_has_succeeded() {
    let _standstill = Standstill::begin();
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let upstream = Upstream::start(move |request| match request.key() {
        "bad" if !mended.load(Ordering::SeqCst) => Script::json(500, &wire::error(OpenaiChat, "server_error", "boom")),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &[])
        .host_key("h", "bad", |_| {})
        .host_key("h", "good", |_| {})
        .model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    let mut connection = relay.connect().await;
    for second in 0..600 {
        if second == 300 {
            is_mended.store(true, Ordering::SeqCst);
        }
        for _ in 0..4 {
            let answer = connection.ask(&Ask::openai("m")).await.expect("the relay keeps the connection");
            assert_eq!(answer.status, 200, "in second {second}: {}", answer.text());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    let to_bad: Vec<bool> =
        upstream.received().iter().filter(|request| request.key() == "bad").map(Received::is_conversation).collect();
    let victims = to_bad.iter().take_while(|is_conversation| **is_conversation).count();
    assert_eq!(victims, 3, "three failures in a row take a key out");
    let probes = to_bad[victims..].iter().take_while(|is_conversation| !**is_conversation).count();
    let rest = &to_bad[victims + probes..];
    println!("{victims} conversations, then {probes} probes, then {} conversations", rest.len());
    assert!((2..20).contains(&probes), "the key is probed ever more rarely: {probes}");
    assert!(rest.iter().all(|is_conversation| *is_conversation), "what has healed is not probed");
    assert!(rest.len() > 300, "the key is back in use: {}", rest.len());
}
