//! A caller that hardly reads: its stream waits at the upstream, not in memory. Alone in its process, so that the
//! process's memory is its own.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::time::Duration;

use support::{
    client::{Answer, Ask},
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Script, Upstream, chunk},
    wire::{self, SHAPES},
};
use table::WireShape::OpenaiChat;

/// Frames of 1 KB that together are 100 MB.
fn endless() -> Script {
    let frame = wire::saying(OpenaiChat, &"x".repeat(1_000), false).concat();
    let batch: Vec<u8> = (0..64).flat_map(|_| chunk(frame.as_bytes())).collect();
    let times = (100 << 20) / batch.len();
    Script::stream().chunks(wire::opening(OpenaiChat)).then(Act::Repeat(batch, times)).end()
}

/// The process's memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize = statm.split(' ').nth(1).expect("the second field").parse().expect("a number");
    pages * 4096
}

/// How long an upstream may be silent while it is read: longer than a busy machine takes for a piece.
const IDLE: Duration = Duration::from_secs(2);

/// Waits until the upstream can send no more, and for longer than it may be silent.
async fn blocked(upstream: &Upstream) -> u64 {
    let mut before = upstream.written();
    loop {
        tokio::time::sleep(IDLE + IDLE / 4).await;
        let now = upstream.written();
        if now == before {
            return now;
        }
        before = now;
    }
}

async fn read(answer: &mut Answer, bytes: usize) {
    let mut seen = 0;
    while seen < bytes {
        seen += answer.chunk().await.expect("the stream goes on").len();
    }
}

#[tokio::test]
async fn a_caller_that_hardly_reads_costs_no_memory_and_holds_the_upstream_back() {
    let upstream = Upstream::start_forgetful(|request| match request.key() {
        "endless" => endless(),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new()
        // The caller is slow, not the upstream: its silence is not counted while nobody reads.
        .host_with("endless", OpenaiChat, &upstream.url(), &["endless"], |host| {
            host.timeouts.stream_idle = IDLE;
        })
        .host("usual", OpenaiChat, &upstream.url(), &["usual"])
        .model("m", &["endless"])
        .model("warm", &["usual"]);
    let relay = TestRelay::start(tables).await;
    for client in SHAPES {
        for _ in 0..20 {
            relay.ask(&Ask::of(client, "warm").streamed()).await;
        }
        let (before, sent_before) = (resident(), upstream.written());
        let mut answer = relay.send(&Ask::of(client, "m").streamed()).await;
        assert_eq!(answer.status, 200);
        for _ in 0..2 {
            read(&mut answer, 1_000).await;
            let sent = blocked(&upstream).await - sent_before;
            let grown = resident().saturating_sub(before);
            println!("{client:?}: {grown} bytes more, {sent} bytes taken from the upstream");
            assert!(sent < 32 << 20, "the upstream could send {sent} bytes");
            assert!(grown < 2 << 20, "the process has grown by {grown} bytes");
        }
        read(&mut answer, 16 << 20).await;
        drop(answer);
        upstream.abandoned(1).await;
    }
}
