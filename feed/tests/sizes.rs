//! What travels, counted: a change costs what changed, whatever else there is.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use feed::{
    parts::Digests,
    publisher::Publisher,
    session::{Plan, Session},
    wire::{Ack, Hello, Resume},
};
use prost::Message;
use support::{keys, offer};

const KEYS: u64 = 10_000;

#[test]
fn one_key_of_ten_thousand_costs_a_few_hundred_bytes_and_a_return_costs_digests() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys((0..KEYS).map(|name| (name, name))));
    let before = publisher.current().unwrap();
    let whole: usize = before.snapshot(None, false, true, 1 << 20).iter().map(Message::encoded_len).sum();
    assert!(whole > 300_000, "a snapshot of {whole} bytes");

    let mut session = Session::open(&Hello::default());
    session.sent(before.clone());
    assert!(session.on_ack(&Ack { revision: 1, ..Ack::default() }));
    offer(&publisher, 2, 2, &keys((0..KEYS).map(|name| (name, if name == 7 { KEYS } else { name }))));
    let after = publisher.current().unwrap();
    let plan = session.plan(&after, |from, to| publisher.ops(from, to, true, 1 << 20));
    let Plan::Delta(delta) = plan else { panic!("one key is no reason for a snapshot") };
    assert!(delta.encoded_len() < 500, "a delta of {} bytes", delta.encoded_len());

    // Who returns with what there was names it, and gets the bucket that differs.
    let resume = Resume { tables: Digests::of(&before.tables).to_wire(), ..Resume::default() };
    assert!(resume.encoded_len() < 8 << 10, "{} bytes of digests", resume.encoded_len());
    let bytes =
        |of: &Digests| after.snapshot(Some(of), false, true, 1 << 20).iter().map(Message::encoded_len).sum::<usize>();
    let differing = bytes(&Digests::of(&before.tables));
    assert!(differing < 8 << 10, "{differing} bytes for one bucket of 256");
    let same = bytes(&Digests::of(&after.tables));
    assert!(same < 200, "{same} bytes for who has all");
}
