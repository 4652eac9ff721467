//! New tables under load: each request keeps the table that it began with, and none fails.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use support::{
    client::{Ask, Connection},
    relay::TestRelay,
    tables::Tables,
    upstream::Upstream,
    wire,
};
use table::WireShape::{self, AnthropicMessages, OpenaiChat};

/// The `turn`th table: another key each time, another host and shape every other time, other timeouts every third.
fn tables(turn: usize, openai: &str, anthropic: &str) -> Tables {
    let (shape, url): (WireShape, &str) = match turn % 2 {
        0 => (OpenaiChat, openai),
        _ => (AnthropicMessages, anthropic),
    };
    let (host, key) = (format!("h{}", turn % 4), format!("key-{turn}"));
    Tables::new()
        .host_with(&host, shape, url, &[&key], |row| {
            row.timeouts.connect = Duration::from_secs(3 + (turn % 3) as u64);
        })
        .model("m", &[&host])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_of_the_table_under_load_fail_no_request_and_each_is_in_effect_at_once() {
    let upstream_of = |shape| Upstream::start(move |request| wire::good(shape, request, "hi"));
    let (openai, anthropic) = (upstream_of(OpenaiChat).await, upstream_of(AnthropicMessages).await);
    let (openai_url, anthropic_url) = (openai.url(), anthropic.url());
    let relay = TestRelay::start(tables(0, &openai_url, &anthropic_url)).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|number| {
        let (is_over, address) = (is_over.clone(), relay.address);
        tokio::spawn(async move {
            let client = wire::SHAPES[number % 2];
            let streamed = number % 4 < 2;
            let ask = if streamed { Ask::of(client, "m").streamed() } else { Ask::of(client, "m") };
            let (mut connection, mut answered) = (Connection::open(address).await, 0);
            while !is_over.load(Ordering::SeqCst) {
                let answer = connection.ask(&ask).await.expect("the relay keeps the connection");
                assert_eq!(wire::text_of(client, streamed, &answer), "hi", "{}", answer.text());
                answered += 1;
            }
            answered
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut connection = relay.connect().await;
    for turn in 1..=100 {
        let Tables { table, credentials } = tables(turn, &openai_url, &anthropic_url);
        relay.installer.install(table, credentials);
        let answer = connection.ask(&Ask::openai("m")).await.expect("the relay keeps the connection");
        assert_eq!(answer.header("x-relay-host"), Some(format!("team/h{}", turn % 4).as_str()), "{}", answer.text());
    }
    is_over.store(true, Ordering::SeqCst);
    let answered: usize = join_all(callers).await.into_iter().map(|done| done.expect("no request failed")).sum();
    println!("{answered} answers during a hundred changes");
    assert!(answered >= 100, "there was load: {answered}");
    let keys = [openai.keys(), anthropic.keys()].concat();
    assert!((1..=100).all(|turn| keys.contains(&format!("key-{turn}"))), "each table's key was used");
}
