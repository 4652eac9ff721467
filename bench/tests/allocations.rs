//! What Relay allocates for a request, for an event of a stream, and for a byte of a body. The client and the upstream
//! are in this process too, and allocate nothing.

#[expect(dead_code, reason = "each file of tests uses a part of what they share")]
mod support;

use std::{
    alloc::System,
    sync::{Arc, Mutex},
};

use bench::{
    client::Connection,
    gateway::{EVERYTHING, OPEN},
    load::Target,
    requests, streams,
    upstream::{Pace, Upstream},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{baseline, relay};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Before it is counted: pools fill.
const WARM: usize = 300;
const COUNTED: usize = 500;
const STREAMS: usize = 10;
const OPEN_STREAMS: usize = 100;
const FEW_EVENTS: usize = 60;
const MANY_EVENTS: usize = 660;
const TOLERANCE: f64 = 0.02;

/// What was allocated, as a rule.
#[derive(Debug, Clone, Copy)]
struct Allocated {
    times: f64,
    bytes: f64,
}

fn alone<T>(counted: impl Future<Output = T>) -> T {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(counted)
}

/// The median of so many: what tables that grow and timers allocate once in a while is of no request.
async fn counted(times: usize, mut each: impl AsyncFnMut()) -> Allocated {
    let (mut blocks, mut bytes) = (Vec::with_capacity(times), Vec::with_capacity(times));
    for _ in 0..times {
        let region = Region::new(ALLOCATOR);
        each().await;
        let change = region.change();
        blocks.push(change.allocations + change.reallocations);
        bytes.push(change.bytes_allocated);
    }
    let median = |mut values: Vec<usize>| {
        values.sort_unstable();
        values[values.len() / 2] as f64
    };
    Allocated { times: median(blocks), bytes: median(bytes) }
}

/// For one of many requests over one connection, through Relay.
async fn of_request(request: &[u8]) -> Allocated {
    let upstream = Upstream::start().await.unwrap();
    let mut connection = Connection::open(relay::start(upstream.address).await).await.unwrap();
    let mut ask = async || {
        connection.ask(request).await.unwrap();
    };
    counted(WARM, &mut ask).await;
    counted(COUNTED, &mut ask).await
}

/// For one event of a stream whose events come one by one: what a longer stream has more.
async fn of_event(request: &[u8]) -> Allocated {
    let (few, many) = (of_stream(request, FEW_EVENTS).await, of_stream(request, MANY_EVENTS).await);
    let events = (MANY_EVENTS - FEW_EVENTS) as f64;
    Allocated { times: (many.times - few.times) / events, bytes: (many.bytes - few.bytes) / events }
}

async fn of_stream(request: &[u8], events: usize) -> Allocated {
    let (upstream, pace) = Upstream::paced(events).await.unwrap();
    let mut connection = Connection::open(relay::start(upstream.address).await).await.unwrap();
    let mut ask = async || stream(&mut connection, request, &pace).await;
    counted(STREAMS, &mut ask).await;
    counted(STREAMS, &mut ask).await
}

async fn stream(connection: &mut Connection, request: &[u8], pace: &Arc<Pace>) {
    pace.saw(0);
    connection.ask_telling(request, |events| pace.saw(events)).await.unwrap();
}

/// What is held for each of many streams that are open and silent.
async fn held_by_stream(through_relay: bool) -> f64 {
    let upstream = Upstream::start().await.unwrap();
    let address = if through_relay { relay::start(upstream.address).await } else { upstream.address };
    let request = match through_relay {
        true => requests::openai_of("", "bench-idle", EVERYTHING, true),
        false => requests::openai_at("/idle", EVERYTHING, true),
    };
    let target = Target { address, request: request.into() };
    let few = streams::open(&target, OPEN_STREAMS / 2).await.unwrap();
    let region = Region::new(ALLOCATOR);
    let many = streams::open(&target, OPEN_STREAMS).await.unwrap();
    let change = region.change();
    let held = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    drop((few, many));
    held / OPEN_STREAMS as f64
}

fn check(name: &str, of: &str, allocated: Allocated) {
    baseline::check(&format!("allocations {of}: {name}"), allocated.times, TOLERANCE);
    baseline::check(&format!("bytes allocated {of}: {name}"), allocated.bytes, TOLERANCE);
}

#[test]
fn client_and_upstream_allocate_nothing() {
    alone(async {
        let (upstream, pace) = Upstream::paced(FEW_EVENTS).await.unwrap();
        let mut connection = Connection::open(upstream.address).await.unwrap();
        let (whole, streamed) = (requests::large(OPEN), requests::openai(OPEN, true));
        let mut ask = async || {
            connection.ask(&whole).await.unwrap();
            stream(&mut connection, &streamed, &pace).await;
        };
        counted(WARM, &mut ask).await;
        let allocated = counted(COUNTED, &mut ask).await;
        assert!(allocated.times == 0.0, "{allocated:?}");
    });
}

#[test]
fn a_request_allocates_no_more_than_is_recorded() {
    let of = |request: Vec<u8>| alone(async move { of_request(&request).await });
    check("same shape, limits off", "per request", of(requests::openai(OPEN, false)));
    check("same shape, everything on", "per request", of(requests::openai(EVERYTHING, false)));
    check(
        "Anthropic client, OpenAI host",
        "per request",
        of(requests::anthropic_of("bench-openai", EVERYTHING, false)),
    );
    check(
        "OpenAI client, Anthropic host",
        "per request",
        of(requests::openai_of("", "bench-anthropic", EVERYTHING, false)),
    );
}

#[test]
fn an_event_of_a_stream_allocates_no_more_than_is_recorded() {
    let of = |request: Vec<u8>| alone(async move { of_event(&request).await });
    check("same shape", "per event", of(requests::openai(EVERYTHING, true)));
    check("Anthropic client, OpenAI host", "per event", of(requests::anthropic_of("bench-openai", EVERYTHING, true)));
}

#[test]
fn a_kilobyte_of_a_body_allocates_no_more_than_is_recorded() {
    let (small, large) = (requests::large_of(EVERYTHING, requests::LARGE / 2), requests::large(EVERYTHING));
    let kilobytes = (large.len() - small.len()) as f64 / 1024.0;
    let of = |request: Vec<u8>| alone(async move { of_request(&request).await });
    let (small, large) = (of(small), of(large));
    let more =
        Allocated { times: (large.times - small.times) / kilobytes, bytes: (large.bytes - small.bytes) / kilobytes };
    check("same shape", "per KB of a body", more);
}

#[test]
fn an_open_stream_holds_no_more_than_is_recorded() {
    let held = alone(held_by_stream(true)) - alone(held_by_stream(false));
    baseline::check("bytes held by an open stream: same shape", held, TOLERANCE);
}
