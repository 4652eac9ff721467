//! A client, Relay and an upstream on one thread, for counting instructions: see `tests/instructions.rs`.

#[path = "../tests/support/relay.rs"]
mod relay;

use std::{
    io::{self, Write},
    pin::Pin,
    sync::Arc,
};

use bench::{
    client::Connection,
    gateway::{EVERYTHING, OPEN},
    requests,
    upstream::{Pace, Upstream},
};
use tokio::runtime::{Builder, Runtime};

/// Before it is counted: tables grow, pools fill.
const WARM: usize = 50;
const REQUESTS: usize = 200;
const STREAMS: usize = 10;
/// A short stream and a long one: what the long one has more is the price of events.
const EVENTS: [usize; 2] = [60, 260];

/// Says each part once it is over, as its name and what it consisted of.
fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let question = |token| requests::openai(token, false);
    answers(&runtime, "no gateway", false, question(OPEN));
    answers(&runtime, "same shape, limits off", true, question(OPEN));
    answers(&runtime, "same shape, everything on", true, question(EVERYTHING));
    let (openai, anthropic) = ("bench-openai", "bench-anthropic");
    answers(&runtime, "Anthropic client, OpenAI host", true, requests::anthropic_of(openai, EVERYTHING, false));
    answers(&runtime, "OpenAI client, Anthropic host", true, requests::openai_of("", anthropic, EVERYTHING, false));
    answers(&runtime, "no gateway, 200 KB", false, requests::large(EVERYTHING));
    answers(&runtime, "same shape, 200 KB", true, requests::large(EVERYTHING));
    for events in EVENTS {
        let question = requests::openai(EVERYTHING, true);
        streams(&runtime, &format!("no gateway, {events} events"), false, events, &question);
        streams(&runtime, &format!("same shape, {events} events"), true, events, &question);
        let question = requests::anthropic_of(openai, EVERYTHING, true);
        streams(&runtime, &format!("Anthropic client, OpenAI host, {events} events"), true, events, &question);
    }
}

fn answers(runtime: &Runtime, name: &str, through_relay: bool, request: Vec<u8>) {
    let mut connection = runtime.block_on(async {
        let upstream = Upstream::start().await.expect("an upstream");
        connected(&upstream, through_relay).await
    });
    let mut ask = |times: usize| {
        let (connection, request) = (&mut connection, &request);
        let asking = async move {
            for _ in 0..times {
                connection.ask(request).await.expect("an answer");
            }
        };
        if times == REQUESTS { counted_part(runtime, Box::pin(asking)) } else { runtime.block_on(asking) }
    };
    ask(WARM);
    ask(REQUESTS);
    say(&format!("{name}\t{REQUESTS}"));
}

fn streams(runtime: &Runtime, name: &str, through_relay: bool, events: usize, request: &[u8]) {
    let (mut connection, pace) = runtime.block_on(async {
        let (upstream, pace) = Upstream::paced(events).await.expect("an upstream");
        (connected(&upstream, through_relay).await, pace)
    });
    runtime.block_on(streamed(&mut connection, request, &pace, 2));
    counted_part(runtime, Box::pin(streamed(&mut connection, request, &pace, STREAMS)));
    say(&format!("{name}\t{STREAMS}"));
}

async fn streamed(connection: &mut Connection, request: &[u8], pace: &Arc<Pace>, times: usize) {
    for _ in 0..times {
        pace.saw(0);
        connection.ask_telling(request, |events| pace.saw(events)).await.expect("a stream");
    }
}

async fn connected(upstream: &Upstream, through_relay: bool) -> Connection {
    let address = if through_relay { relay::start(upstream.address).await } else { upstream.address };
    Connection::open(address).await.expect("it listens")
}

/// What is counted: callgrind knows it by this name.
#[inline(never)]
fn counted_part(runtime: &Runtime, work: Pin<Box<dyn Future<Output = ()> + '_>>) {
    runtime.block_on(work);
}

/// Callgrind knows this too.
#[inline(never)]
fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}
