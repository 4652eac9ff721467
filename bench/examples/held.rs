//! Open streams through Relay, for a map of who holds memory: `valgrind --tool=dhat`, which looks when this ends.

#[path = "../tests/support/relay.rs"]
mod relay;

use bench::{gateway::EVERYTHING, load::Target, requests, streams, upstream::Upstream};
use tokio::runtime::Builder;

/// Enough to be told from what is there once.
const STREAMS: usize = 100;

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let open = runtime.block_on(async {
        let upstream = Upstream::start().await.expect("an upstream");
        let address = relay::start(upstream.address).await;
        let request = requests::openai_of("", "bench-idle", EVERYTHING, true);
        streams::open(&Target { address, request: request.into() }, STREAMS).await.expect("streams")
    });
    println!("{} streams are open", open.len());
    // Nothing is given back.
    std::process::exit(0);
}
