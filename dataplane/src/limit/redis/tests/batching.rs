//! How many calls it takes to tell Redis what became of reservations.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;

use super::{
    super::{
        Redis, Settings,
        batches::{FULL, GATHER},
        script::Time,
        wire::Entry,
    },
    books,
    places::{Place, Standalone},
};
use crate::pool::signals::Signals;

const LONG: Duration = Duration::from_millis(300);
const CALLERS: usize = 8;

/// Posts an entry each round trip; gives how many.
async fn entries_until(redis: Redis, end: Instant) -> u128 {
    let domain = Arc::from("team");
    let mut entries = 0;
    while Instant::now() < end {
        redis.inner.ledger.batches.push(&domain, Entry::Renew { id: "unknown".into(), lease: 1_000 });
        entries += 1;
        redis.inner.link.store().read_hash("batching:{team}:nothing").await.expect("the server is there");
    }
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_come_all_the_time_go_in_a_batch_every_five_milliseconds() {
    let (books, place) = (books(), Standalone::shared());
    let settings = Settings { prefix: "batching".to_owned(), time: Time::Redis, records: None };
    let redis =
        Redis::start(place.target(), &settings, &books, Arc::new(Signals::new())).await.expect("a whole target");
    let start = Instant::now();
    let callers = (0..CALLERS).map(|_| tokio::spawn(entries_until(redis.clone(), start + LONG)));
    let entries: u128 = join_all(callers).await.into_iter().map(|caller| caller.expect("it ends")).sum();
    redis.inner.settled().await;

    let (took, batches) = (start.elapsed(), books.metrics.redis_batches.get());
    println!("{entries} entries in {batches} batches in {took:?}");
    let at_most = took.as_millis() / GATHER.as_millis() + entries / FULL as u128 + 2;
    assert!(u128::from(batches) <= at_most, "{batches} batches, {at_most} at most");
    assert_eq!(u128::from(books.metrics.redis_settlements.get()), entries);
}
