//! What is reserved in Redis is what an answer is thought to take, not what its caller says it could.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::json;
use servers::Redis;
use support::{
    client::{Ask, Connection},
    relay::TestRelay,
    tables::Tables,
    upstream::Upstream,
    wire,
};
use table::WireShape::OpenaiChat;

/// More than any limit here could hold.
const ASKED: u64 = 128_000;
/// What each answer takes, input and output.
const TAKEN: u64 = 12;
const CLIENTS: usize = 8;
const EACH: usize = 100;

/// A relay whose callers may use so many tokens a minute.
async fn limited(redis: &Redis, tokens: u64) -> (Upstream, TestRelay) {
    let upstream = Upstream::start_forgetful(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let tables = tables.policy(|policy| policy.limits.tpm = Some(tokens));
    let relay = TestRelay::start_sharing(tables, redis.address()).await;
    (upstream, relay)
}

fn greedy() -> Ask {
    Ask::openai("m").with("max_tokens", json!(ASKED))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_128000_tokens_each_time_keeps_its_throughput() {
    let redis = Redis::start();
    let limit = (CLIENTS * EACH) as u64 * TAKEN + 5_000;
    let (_upstream, relay) = limited(&redis, limit).await;
    let clients = (0..CLIENTS).map(async |_| {
        let mut connection = Connection::open(relay.address).await;
        let mut statuses = Vec::new();
        for _ in 0..EACH {
            statuses.push(connection.ask(&greedy()).await.expect("an answer").status);
        }
        statuses
    });
    let mut statuses = BTreeMap::<u16, usize>::new();
    for status in join_all(clients).await.into_iter().flatten() {
        *statuses.entry(status).or_default() += 1;
    }
    let records = relay.records().await;
    let reserved: Vec<_> = records.iter().filter_map(|record| record["reserved"]["output"].as_u64()).collect();
    let (first, last) = (reserved[0], reserved[reserved.len() - 1]);
    println!("{statuses:?} under {limit} tokens a minute; reserved for output: {first} at first, {last} at last");
    assert_eq!(statuses, BTreeMap::from([(200, CLIENTS * EACH)]));
    assert!(records.iter().all(|record| record["limits_degraded"] == false));
}

#[tokio::test]
async fn the_first_request_of_a_limit_of_a_thousand_tokens_is_admitted() {
    let redis = Redis::start();
    let (_upstream, relay) = limited(&redis, 1_000).await;
    for ask in [greedy(), greedy().streamed()] {
        let answer = relay.ask(&ask).await;
        assert_eq!((answer.status, answer.header("x-relay-limits")), (200, None), "{}", answer.text());
    }
}
