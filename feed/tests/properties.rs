//! What holds for every table, every history of changes and every way of cutting it up.

#[path = "support/line.rs"]
mod line;
mod support;

use std::collections::BTreeMap;

use feed::{
    publisher::Publisher,
    replica::Replica,
    rows::{self, Decoded},
    wire::{Fault, FromClient, FromServer},
};
use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest, strategy::Strategy};
use table::{ObjectRef, Row};

use self::{
    line::{Line, content},
    support::{keys, offer, offer_in, with_credential},
};

/// Names and values: of relay keys, models that cannot be used, and credentials.
fn tables() -> impl Strategy<Value = Decoded> {
    let some =
        |names: u64| vec((0..names, 0..4_u64), 0..40).prop_map(|rows| rows.into_iter().collect::<BTreeMap<_, _>>());
    (some(600), some(8), some(20), any::<bool>()).prop_map(|(relay_keys, models, credentials, many)| {
        // Tables with many rows are compared bucket by bucket.
        let base = if many { 0..400 } else { 0..0 };
        let mut decoded = keys(base.map(|name| (name, 0)).chain(relay_keys));
        for (name, value) in models {
            let row = Row::Invalid { reason: format!("reason {value}") };
            decoded.table.models.insert(ObjectRef::new("team", format!("model-{name}")), row);
        }
        credentials.into_iter().fold(decoded, |decoded, (name, value)| with_credential(decoded, name, value))
    })
}

/// What happens on the way.
#[derive(Clone, Debug)]
enum Event {
    /// The next table is published.
    Publish(Box<Decoded>, bool),
    /// The session looks whether there is something to send.
    Send,
    /// So many messages arrive and are answered.
    Deliver(usize),
    /// The connection is lost, with all that was on its way.
    Reconnect { zstd: bool, max_frame: usize },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = proptest::prop_oneof![
        2 => (tables(), any::<bool>()).prop_map(|(table, urgent)| Event::Publish(Box::new(table), urgent)),
        3 => proptest::strategy::Just(Event::Send),
        3 => (1..20_usize).prop_map(Event::Deliver),
        1 => (any::<bool>(), 1..4000_usize).prop_map(|(zstd, max_frame)| Event::Reconnect { zstd, max_frame }),
    ];
    vec(event, 1..30)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(96))]

    #[test]
    fn any_history_of_changes_and_connections_ends_at_the_newest_table(first in tables(), events in events()) {
        let (publisher, mut replica) = (Publisher::new(), Replica::new());
        let (mut revision, mut newest) = (1, first);
        offer(&publisher, revision, revision, &newest);
        let mut line = Line::open(&publisher, &mut replica, true, 1000);
        for event in events {
            match event {
                Event::Publish(table, urgent) => {
                    (revision, newest) = (revision + 1, *table);
                    offer_in("epoch", &publisher, revision, revision, urgent, &newest);
                }
                Event::Send => drop(line.send()),
                Event::Deliver(count) => for _ in 0..count {
                    if let Some(FromClient::Nack(nack)) = line.deliver(&mut replica, &mut content) {
                        return Err(proptest::test_runner::TestCaseError::fail(format!("{nack:?}")));
                    }
                },
                Event::Reconnect { zstd, max_frame } => line = Line::open(&publisher, &mut replica, zstd, max_frame),
            }
        }
        let answers = line.settle(&mut replica, &mut content);
        prop_assert!(answers.iter().all(|answer| matches!(answer, FromClient::Ack(_))), "{:?}", answers);
        prop_assert_eq!(replica.decoded(), &newest);
        prop_assert_eq!(replica.root().unwrap(), rows::encode(&newest.table, &newest.credentials).root());
        prop_assert!(!line.send(), "nothing is left to send");
    }

    #[test]
    fn a_client_with_any_earlier_table_gets_what_differs(earlier in tables(), newer in tables(), zstd in any::<bool>()) {
        let (publisher, mut replica) = (Publisher::new(), Replica::new());
        offer(&publisher, 1, 1, &earlier);
        Line::open(&publisher, &mut replica, zstd, 1000).settle(&mut replica, &mut content);
        prop_assert_eq!(replica.decoded(), &earlier);

        // Another replica of the operator, which never saw the earlier table.
        let other = Publisher::new();
        offer(&other, 7, 2, &newer);
        let mut line = Line::open(&other, &mut replica, zstd, 1000);
        prop_assert!(line.send());
        let Some(FromServer::Begin(begin)) = line.on_the_way[0].kind.clone() else { panic!("no snapshot") };
        let is_same = earlier == newer;
        prop_assert_eq!(begin.parts.is_empty(), is_same);
        prop_assert_eq!(line.on_the_way.len() == 2, is_same);
        line.settle(&mut replica, &mut content);
        prop_assert_eq!(replica.decoded(), &newer);
    }

    #[test]
    fn whatever_is_lost_doubled_swapped_or_altered_is_seen(
        earlier in tables(), newer in tables(), zstd in any::<bool>(), max_frame in 1..2000_usize,
        kind in 0..4_u8, place in any::<proptest::sample::Index>(), bit in any::<proptest::sample::Index>(),
    ) {
        let (publisher, mut replica) = (Publisher::new(), Replica::new());
        offer(&publisher, 1, 1, &earlier);
        Line::open(&publisher, &mut replica, true, 1 << 20).settle(&mut replica, &mut content);
        offer(&publisher, 2, 2, &newer);
        let mut line = Line::open(&publisher, &mut replica, zstd, max_frame);
        line.send();
        let chunks = line.on_the_way.len() - 2;
        proptest::prop_assume!(chunks > 0);
        let at = 1 + place.index(chunks);
        match kind {
            0 => drop(line.on_the_way.remove(at)),
            1 => line.on_the_way.insert(at, line.on_the_way[at].clone()),
            2 => { proptest::prop_assume!(chunks > 1); line.on_the_way.swap(at, if at == 1 { 2 } else { at - 1 }) }
            _ => {
                let Some(FromServer::Chunk(chunk)) = line.on_the_way[at].kind.as_mut() else { panic!("no chunk") };
                let mut data = chunk.data.to_vec();
                let bit = bit.index(data.len() * 8);
                data[bit / 8] ^= 1 << (bit % 8);
                chunk.data = data.into();
            }
        }
        let mut answer = None;
        while answer.is_none() && !line.on_the_way.is_empty() {
            answer = line.deliver(&mut replica, &mut content);
        }
        match answer {
            Some(FromClient::Nack(nack)) => {
                prop_assert_eq!(nack.fault(), Fault::Corrupt);
                prop_assert_eq!(replica.decoded(), &earlier);
            }
            // A bit that the packing does not use.
            Some(FromClient::Ack(_)) => { prop_assert_eq!(kind, 3); prop_assert_eq!(replica.decoded(), &newer) }
            other => panic!("{other:?}"),
        }
        // The server sends everything again, and the rest of the damaged snapshot is passed over.
        line.settle(&mut replica, &mut content);
        prop_assert_eq!(replica.decoded(), &newer);
    }

    #[test]
    fn what_is_older_in_any_source_is_never_taken(held in vec(0..4_u64, 3), offered in vec(0..4_u64, 3)) {
        let vector = |versions: &[u64]| ["a", "b", "c"].into_iter().zip(versions.iter().copied()).collect();
        let publish = |versions: &[u64], decoded: &Decoded| {
            let publisher = Publisher::new();
            let (table, credentials) = (&decoded.table, &decoded.credentials);
            let vector = vector(versions);
            publisher.offer(feed::publisher::Offer { revision: 1, epoch: "e", vector, urgent: false, table, credentials });
            publisher
        };
        let (one, other) = (keys([(1, 1)]), keys([(1, 2)]));
        let mut replica = Replica::new();
        Line::open(&publish(&held, &one), &mut replica, true, 1000).settle(&mut replica, &mut content);

        let is_older = held.iter().zip(&offered).any(|(held, offered)| offered < held);
        let publisher = publish(&offered, &other);
        let mut line = Line::open(&publisher, &mut replica, true, 1000);
        prop_assert_eq!(line.send(), !is_older, "a server that is behind sends nothing");
        line.settle(&mut replica, &mut content);
        prop_assert_eq!(replica.decoded() == &other, !is_older);

        // A server that does not hold back is refused by the client.
        let mut fresh = Line::open(&publish(&offered, &one), &mut Replica::new(), true, 1000);
        let mut replica = Replica::new();
        Line::open(&publish(&held, &other), &mut replica, true, 1000).settle(&mut replica, &mut content);
        let answers = fresh.settle(&mut replica, &mut content);
        match &answers[..] {
            [FromClient::Nack(nack)] => { prop_assert!(is_older); prop_assert_eq!(nack.fault(), Fault::Rollback) }
            [FromClient::Ack(_)] => prop_assert!(!is_older),
            other => panic!("{other:?}"),
        }
        prop_assert_eq!(replica.decoded() == &other, is_older);
    }
}
