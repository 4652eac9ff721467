//! Many requests at once against one limit: never more admitted than fits, nobody refused who would fit, and all of it
//! given back when callers leave.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use support::{
    client::{Answer, Ask},
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Script, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;

const CALLERS: usize = 200;
const LIMIT: u64 = 5_000;
/// For whatever a test waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the caller's rule about tokens counts at this moment.
async fn used(relay: &TestRelay, rule: &str) -> u64 {
    let usage = relay.ask(&Ask::get("/v1/usage")).await.json();
    let rules = usage["limits"].as_array().expect("a list").clone();
    let found = rules.iter().find(|line| line["rule"] == rule).unwrap_or_else(|| panic!("no rule {rule}: {usage}"));
    found["used"].as_u64().expect("a number")
}

async fn at_once(relay: &TestRelay) -> (Vec<Answer>, Vec<Answer>) {
    let ask = Ask::openai("m").streamed().with("max_tokens", json!(100));
    let answers = join_all((0..CALLERS).map(|_| relay.send(&ask))).await;
    answers.into_iter().partition(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_at_once_never_exceed_a_token_limit_and_give_all_back_when_they_are_left() {
    let upstream = Upstream::start(|_| {
        // Content, so that callers have their heads; then silence, so that all are open together.
        let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
        Script::stream().chunks(begun).then(Act::Stall)
    })
    .await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .model("m", &["h"])
        .policy(|policy| (policy.limits.tpd, policy.limits.concurrency) = (Some(LIMIT), Some(1_000)));
    let relay = TestRelay::start(tables).await;

    let (admitted, refused) = at_once(&relay).await;

    assert!(refused.iter().all(|answer| answer.status == 429));
    let reserved = used(&relay, "tokens_per_day").await;
    let open = admitted.len() as u64;
    assert_eq!(used(&relay, "concurrency").await, open);
    assert_eq!(reserved % open, 0, "equal requests reserve equally");
    let each = reserved / open;
    assert!(reserved <= LIMIT && LIMIT - reserved < each, "{open} of {CALLERS} admitted with {each} tokens each");
    assert_eq!(upstream.count(), admitted.len());

    drop(admitted);
    upstream.abandoned(open as usize).await;
    let settled = tokio::time::timeout(PATIENCE, async {
        while used(&relay, "concurrency").await > 0 {
            tokio::task::yield_now().await;
        }
        used(&relay, "tokens_per_day").await
    });
    let settled = settled.await.expect("every place is given back");
    let records: Vec<Value> = relay.records().await.into_iter().filter(|record| record["cancelled"] == true).collect();
    assert_eq!(records.len() as u64, open);
    // What was generated until they left stays counted; the rest of what was reserved does not.
    let generated: u64 = records
        .iter()
        .map(|record| record["usage"]["input"].as_u64().unwrap_or(0) + record["usage"]["output"].as_u64().unwrap_or(0))
        .sum();
    println!("{open} of {CALLERS} admitted with {each} tokens each; {settled} stay counted of {reserved}");
    assert_eq!(settled, generated);
    assert!(settled < reserved / 2, "{settled} of {reserved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_that_are_left_before_their_answers_leave_only_the_prompts_that_were_sent() {
    let upstream = Upstream::start(|_| Script::new().then(Act::Stall)).await;
    let tables = Tables::new()
        .host("h", OpenaiChat, &upstream.url(), &["k"])
        .model("m", &["h"])
        .policy(|policy| (policy.limits.tpd, policy.limits.concurrency) = (Some(LIMIT), Some(1_000)));
    let relay = TestRelay::start(tables).await;
    let ask = Ask::openai("m").with("max_tokens", json!(100));
    let waiting: Vec<_> = join_all((0..CALLERS).map(|_| relay.connect())).await;
    let asked: Vec<_> = waiting
        .into_iter()
        .map(|mut connection| {
            let ask = ask.clone();
            tokio::spawn(async move { connection.ask(&ask).await })
        })
        .collect();
    let each = tokio::time::timeout(PATIENCE, async {
        loop {
            let (reserved, open) = (used(&relay, "tokens_per_day").await, used(&relay, "concurrency").await);
            let refused = asked.iter().filter(|asked| asked.is_finished()).count();
            if open > 0 && open as usize + refused == CALLERS && upstream.count() as u64 == open {
                assert!(LIMIT - reserved < reserved / open, "{open} run with {reserved} tokens");
                return reserved / open;
            }
        }
    });
    let each = each.await.expect("as many run as fit");
    assert!(each > 100, "{each}");
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    let released = tokio::time::timeout(PATIENCE, async {
        while used(&relay, "concurrency").await > 0 {
            tokio::task::yield_now().await;
        }
        used(&relay, "tokens_per_day").await
    });
    let counted = released.await.expect("every place is given back");
    let sent = upstream.count() as u64;
    // The provider has seen the prompt, and bills it.
    assert_eq!(counted, sent * (each - 100), "{sent} requests of {each} tokens, 100 of them for the answer");
}
