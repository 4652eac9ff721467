//! What pushing costs: encoding and sizes of a large fleet's table, and one change to a thousand streams in process.
//! `cargo bench -p relay-feed`; without `--bench` everything is small, to see that it runs.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use feed::{
    fleet::Identity,
    parts::{Digests, Needed},
    publisher::Publisher,
    replica::Replica,
    rows::{self, Kind},
    server::{Server, Settings},
    wire::{Ack, ClientMessage, Codec, FromClient, FromServer, Hello},
};
use futures::{SinkExt, StreamExt};
use prost::Message;

use self::support::{keys, offer, offer_in, with_credential};

fn main() {
    let (rows, streams, runs) =
        if std::env::args().any(|argument| argument == "--bench") { (10_000, 1_000, 15) } else { (100, 10, 2) };
    encoding(rows, runs);
    sizes(rows);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(fan_out(rows, streams, runs));
}

/// The median, the least and the most of several runs.
fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:.2?}, {least:.2?} to {most:.2?} of {} runs", times.len());
}

fn timed<T>(runs: u64, mut work: impl FnMut(u64) -> T) -> Vec<Duration> {
    let one = |run| {
        let begun = Instant::now();
        black_box(work(run));
        begun.elapsed()
    };
    (1..=runs).map(one).collect()
}

fn table(rows: u64, changed: u64) -> rows::Decoded {
    let decoded = keys((0..rows).map(|name| (name, if name == 7 { changed } else { name })));
    (0..rows / 10).fold(decoded, |decoded, name| with_credential(decoded, name, name))
}

fn encoding(rows: u64, runs: u64) {
    let decoded = table(rows, 0);
    show(
        &format!("rows and digests of {rows} relay keys and {} credentials", rows / 10),
        timed(runs, |_| rows::encode(&decoded.table, &decoded.credentials)),
    );
    let (publisher, tables) = (Publisher::new(), (0..=runs).map(|run| table(rows, run)).collect::<Vec<_>>());
    let offers = timed(runs, |run| offer(&publisher, run, run, &tables[usize::try_from(run).expect("few runs")]));
    show("offering a table in which one key changed", offers);
    let current = publisher.current().expect("it was offered");
    let whole = |kind: Kind| Needed { table: kind.number(), buckets: Vec::new() };
    show("packing it", timed(runs, |_| feed::parts::encode(&current.tables, &whole(Kind::RelayKeys), true)));
    let messages = current.snapshot(None, false, true, 1 << 20);
    let apply = || {
        let mut replica = Replica::new();
        for message in &messages {
            match message.kind.clone().expect("it was made here") {
                FromServer::Begin(begin) => replica.begin(begin).expect("it is as announced"),
                FromServer::Chunk(chunk) => replica.chunk(chunk).expect("it is as announced"),
                FromServer::End(end) => {
                    let arrived = replica.end(end).expect("it is as announced").expect("it was begun");
                    drop(replica.settle(arrived, &mut |_| Ok(())).expect("everything can be used"));
                }
                other => panic!("{other:?} is no part of a snapshot"),
            }
        }
        replica
    };
    show("receiving it: unpacking, digests, reading every row", timed(runs, |_| apply()));
}

fn sizes(rows: u64) {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &table(rows, 1));
    let before = publisher.current().expect("it was offered");
    for (number, table) in before.tables.tables() {
        let raw: usize = table.rows().map(|(key, row)| key.len() + row.len()).sum();
        let needed = Needed { table: number, buckets: Vec::new() };
        let packed = feed::parts::encode(&before.tables, &needed, true).bytes.len();
        let name = Kind::of(number).map_or("?", Kind::as_str);
        println!("{name}: {} rows, {raw} bytes, packed {packed}", table.len());
    }
    let bytes = |messages: &[feed::wire::ServerMessage]| messages.iter().map(Message::encoded_len).sum::<usize>();
    println!("snapshot: {} bytes in all messages", bytes(&before.snapshot(None, false, true, 1 << 20)));
    let held = Digests::of(&before.tables);
    let named: usize = held.to_wire().iter().map(Message::encoded_len).sum();
    println!(
        "resume: {named} bytes of digests up, {} down",
        bytes(&before.snapshot(Some(&held), false, true, 1 << 20))
    );
    offer(&publisher, 2, 2, &table(rows, 2));
    let after = publisher.current().expect("it was offered");
    println!("resume after one key changed: {} bytes down", bytes(&after.snapshot(Some(&held), false, true, 1 << 20)));
    let ops = publisher.ops(&before, &after, true, 1 << 20).expect("one key is few");
    println!("one key: {} bytes of operations, packed {}", ops.raw_bytes, ops.bytes.len());
}

async fn fan_out(rows: u64, streams: usize, runs: u64) {
    let publisher = Publisher::new();
    let assigned = publisher.clone();
    let server = Server::new(
        Settings::default(),
        |_| std::future::ready(Ok(Identity::default())),
        move |_, _| Ok(assigned.clone()),
    );
    let begun = Instant::now();
    offer(&publisher, 1, 1, &table(rows, 1));
    for pod in 0..streams {
        let (mut answers, inbound) = futures::channel::mpsc::channel(4);
        let mut outbound = server.attach(Identity::default(), inbound);
        tokio::spawn(async move {
            let codecs = vec![Codec::Zstd.into()];
            let (pod_uid, schema) = (pod.to_string(), feed::schema::SCHEMA);
            let hello = Hello { pod_uid, schema, codecs, ..Hello::default() };
            answers.send(Ok(ClientMessage::from(FromClient::Hello(hello)))).await.ok()?;
            let mut root = bytes::Bytes::new();
            while let Some(Ok(message)) = outbound.next().await {
                let revision = match message.kind? {
                    FromServer::Begin(begin) => {
                        root = begin.root;
                        continue;
                    }
                    FromServer::End(end) => end.revision,
                    FromServer::Delta(delta) => {
                        root = delta.root;
                        delta.revision
                    }
                    _ => continue,
                };
                let ack = Ack { revision, root: root.clone(), apply_micros: 0 };
                answers.send(Ok(FromClient::Ack(ack).into())).await.ok()?;
            }
            Some(())
        });
    }
    acked(&publisher, streams, 1).await;
    println!("snapshot of {rows} keys to {streams} streams, all acknowledged: {:.2?}", begun.elapsed());
    let (mut all, mut delivery) = (Vec::new(), Vec::new());
    for run in 2..=runs + 1 {
        let next = table(rows, run);
        let begun = Instant::now();
        offer_in("epoch", &publisher, run, run, false, &next);
        let offered = Instant::now();
        acked(&publisher, streams, run).await;
        all.push(begun.elapsed());
        delivery.push(offered.elapsed());
    }
    show(&format!("one key to {streams} streams, offer to the last acknowledgement, one thread"), all);
    show("of that, after the offer", delivery);
}

async fn acked(publisher: &Publisher, streams: usize, revision: u64) {
    while publisher.fleet().pods().iter().filter(|pod| pod.revision == revision).count() < streams {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
