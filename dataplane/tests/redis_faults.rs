//! What callers and operators notice when Redis fails: one wait of a few dozen milliseconds, the mode that the policy
//! declares, and a return that leaves nothing behind and has counted everything.
//!
//! Prints a row of a table for each fault, times in milliseconds: median and slowest request before the fault; the slowest
//! of the first requests of all clients that met it, and of their second ones; median and slowest while it lasted, and
//! after it; when the first request was sent that Redis decided again, and the last one that it did not; how many it did not.
//! Times are bounded generously, as other tests run beside these; counts are exact.

#[path = "redis_faults/load.rs"]
mod load;
#[path = "redis_faults/log.rs"]
mod log;
#[path = "redis_faults/story.rs"]
mod story;
#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;
#[path = "redis_faults/tables.rs"]
mod tables;

use std::{net::SocketAddr, time::Duration};

use dataplane::config::redis::{RedisConfig, RedisMode};
use servers::{Cluster, CountingProxy, Redis, Sentinels};
use story::{Fault, Kept, Story};
use support::{relay::redis_at, tables::NAMESPACE};
use table::RedisOutage::{self, Closed, LocalShare, Open};
use tokio::task::block_in_place;

const MODES: [RedisOutage; 3] = [LocalShare, Closed, Open];

/// For how long Redis is away, in requests of each client.
const AWAY: usize = 16;

fn at(address: SocketAddr) -> RedisConfig {
    redis_at(&[address])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_for_two_seconds() {
    for mode in MODES {
        let redis = Redis::start();
        let mut story = Story::begin("stalled for 2 s", mode, at(redis.address())).await;
        story.fault(|| redis.stop());
        story.wait_for(Duration::from_secs(2)).await;
        story.mend(|| redis.cont());
        story.end(Fault::Outage, Kept::All, &[&redis]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_and_comes_back_empty() {
    for mode in MODES {
        let redis = Redis::start();
        let mut story = Story::begin("stopped, restarted empty", mode, at(redis.address())).await;
        story.fault(|| redis.kill());
        story.each_asks(AWAY).await;
        story.mend(|| redis.restart_empty());
        story.end(Fault::Outage, Kept::SinceTheFault, &[&redis]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_reached_and_has_kept_its_data() {
    for mode in MODES {
        let redis = Redis::start();
        let proxy = CountingProxy::start(redis.address());
        let mut story = Story::begin("unreachable", mode, at(proxy.address())).await;
        story.fault(|| proxy.refuse());
        story.each_asks(AWAY).await;
        story.mend(|| proxy.resume());
        story.end(Fault::Outage, Kept::All, &[&redis]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_everything_and_whose_replies_are_lost() {
    for mode in MODES {
        let redis = Redis::start();
        let proxy = CountingProxy::start(redis.address());
        let mut story = Story::begin("replies lost", mode, at(proxy.address())).await;
        story.fault(|| proxy.lose_replies());
        story.each_asks(AWAY).await;
        story.mend(|| proxy.resume());
        story.end(Fault::Outage, Kept::All, &[&redis]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_under_sentinels() {
    let sentinels = block_in_place(Sentinels::start);
    let mut redis = redis_at(&sentinels.addresses());
    (redis.mode, redis.sentinel_master) = (RedisMode::Sentinel, Some(sentinels.name().to_owned()));
    let mut story = Story::begin("failed over (Sentinel)", LocalShare, redis).await;
    let replica = sentinels.replica();
    story.fault(|| _ = sentinels.kill_master());
    story.mend(|| sentinels.wait_until_promoted(replica));
    story.end(Fault::Outage, Kept::SinceTheFault, &[replica]).await;
}

/// Where nobody should notice anything, the calls of a busy machine may take their time: those are no outage.
fn patient(redis: RedisConfig) -> RedisConfig {
    RedisConfig { timeout: Duration::from_secs(5), ..redis }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_to_another_master() {
    let cluster = block_in_place(Cluster::start);
    let redis = RedisConfig { mode: RedisMode::Cluster, ..redis_at(&cluster.addresses()) };
    let mut story = Story::begin("cluster slot moved", LocalShare, patient(redis)).await;
    story.fault(|| _ = cluster.move_slot_of(&format!("{{{NAMESPACE}}}")));
    story.each_asks(AWAY).await;
    story.mend(|| ());
    story.end(Fault::Detour, Kept::All, &cluster.nodes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_its_scripts() {
    let redis = Redis::start();
    let mut story = Story::begin("script flushed", LocalShare, patient(at(redis.address()))).await;
    story.fault(|| redis.flush_scripts());
    story.each_asks(AWAY).await;
    story.mend(|| ());
    story.end(Fault::Detour, Kept::All, &[&redis]).await;
}
