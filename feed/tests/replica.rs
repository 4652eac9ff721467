//! What a session and a replica do in cases that one can name: slow clients, urgent changes, entries that cannot be used,
//! histories that were left.

#[path = "support/line.rs"]
mod line;
mod support;

use std::collections::BTreeSet;

use feed::{
    publisher::Publisher,
    replica::{Refused, Replica, Update},
    rows::Kind,
    schema::SCHEMA,
    sealed::{self, SealKey},
    wire::{Fault, FromClient, FromServer, SealedHeader},
};
use table::{ObjectRef, Row};

use self::{
    line::{Line, content, receive},
    support::{keys, offer, offer_in, relay_key, with_credential},
};

/// Cannot use relay keys of these values.
fn refusing(values: &[u64]) -> impl FnMut(Update) -> Result<(), Vec<Refused>> + use<> {
    let tokens: BTreeSet<_> = values.iter().map(|value| relay_key(*value).token_sha256).collect();
    move |update| {
        let refused = |(id, row): (&ObjectRef, &Row<table::RelayKey>)| {
            let is_bad = tokens.contains(&row.usable()?.token_sha256);
            let (code, message) = ("bad-token".to_owned(), "this token is not taken".to_owned());
            is_bad.then(|| Refused { kind: Kind::RelayKeys, key: id.to_string(), code, message })
        };
        let refused: Vec<_> = update.table.relay_keys.iter().filter_map(refused).collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }
}

fn token_in_effect(replica: &Replica, name: u64) -> Row<String> {
    match &replica.decoded().table.relay_keys[&ObjectRef::new("team", format!("key-{name}"))] {
        Row::Usable(key) => Row::Usable(key.token_sha256.clone()),
        Row::Invalid { reason } => Row::Invalid { reason: reason.clone() },
    }
}

fn started(publisher: &Publisher) -> (Line, Replica) {
    let mut replica = Replica::new();
    let mut line = Line::open(publisher, &mut replica, true, 1000);
    line.settle(&mut replica, &mut content);
    (line, replica)
}

#[test]
fn a_slow_client_gets_what_came_meanwhile_as_one_change() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys((0..100).map(|name| (name, 0))));
    let (mut line, mut replica) = started(&publisher);
    offer(&publisher, 2, 2, &keys((0..100).map(|name| (name, u64::from(name == 1)))));
    assert!(line.send());
    for revision in 3..20 {
        offer(&publisher, revision, revision, &keys((0..100).map(|name| (name, if name < 5 { revision } else { 0 }))));
        assert!(!line.send(), "one change is on its way already");
    }
    let answers = line.settle(&mut replica, &mut content);
    assert_eq!(answers.len(), 2);
    assert!(matches!(&answers[1], FromClient::Ack(ack) if ack.revision == 19));
    assert_eq!(token_in_effect(&replica, 4), Row::Usable(relay_key(19).token_sha256));
}

#[test]
fn an_urgent_change_does_not_wait_for_the_acknowledgement_of_another() {
    let publisher = Publisher::new();
    let table = |value: u64| keys((0..100).map(|name| (name, if name == 1 { value } else { 0 })));
    offer(&publisher, 1, 1, &table(1));
    let (mut line, mut replica) = started(&publisher);
    offer(&publisher, 2, 2, &table(2));
    assert!(line.send());
    offer_in("epoch", &publisher, 3, 3, true, &table(3));
    assert!(line.send());
    let Some(FromServer::Delta(delta)) = line.on_the_way[1].kind.clone() else { panic!("no delta") };
    assert!(delta.urgent);
    offer_in("epoch", &publisher, 4, 4, true, &table(4));
    assert!(!line.send(), "two are enough");
    let answers = line.settle(&mut replica, &mut content);
    assert_eq!(answers.len(), 3);
    assert_eq!(token_in_effect(&replica, 1), Row::Usable(relay_key(4).token_sha256));
}

#[test]
fn a_change_of_more_than_a_quarter_goes_as_a_snapshot_and_a_small_one_as_a_delta() {
    let publisher = Publisher::new();
    let table = |changed: u64| keys((0..400).map(|name| (name, u64::from(name < changed))));
    offer(&publisher, 1, 1, &table(0));
    let (mut line, mut replica) = started(&publisher);
    offer(&publisher, 2, 2, &table(90));
    line.send();
    assert!(matches!(line.on_the_way[0].kind, Some(FromServer::Delta(_))));
    line.settle(&mut replica, &mut content);
    offer(&publisher, 3, 3, &table(200));
    line.send();
    assert!(matches!(line.on_the_way[0].kind, Some(FromServer::Begin(_))));
    line.settle(&mut replica, &mut content);
    assert_eq!(replica.decoded(), &table(200));
}

#[test]
fn the_same_table_again_sends_nothing_but_how_new_it_is() {
    let publisher = Publisher::new();
    assert!(offer(&publisher, 1, 1, &keys([(1, 1)])));
    let (mut line, mut replica) = started(&publisher);
    assert!(!offer(&publisher, 2, 9, &keys([(1, 1)])));
    assert!(!line.send());
    let ping = line.session.ping();
    receive(&mut replica, ping, &mut content);
    assert_eq!(replica.vector().version("relaykeys"), Some(9));

    // Now a server that has not seen what this one has is too old.
    let lagging = Publisher::new();
    offer(&lagging, 1, 5, &keys([(1, 0)]));
    assert!(!Line::open(&lagging, &mut replica, true, 1000).send());
}

#[test]
fn an_entry_that_cannot_be_used_keeps_its_last_good_copy_and_the_rest_is_applied() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys([(1, 10), (2, 20)]));
    let (mut line, mut replica) = started(&publisher);

    offer(&publisher, 2, 2, &keys([(1, 11), (2, 21), (3, 30)]));
    let answers = line.settle(&mut replica, &mut refusing(&[11, 30]));
    let [FromClient::Nack(nack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((nack.fault(), nack.revision), (Fault::None, 2));
    let named: Vec<_> = nack.rejections.iter().map(|one| (one.table, one.key.as_str(), one.code.as_str())).collect();
    assert_eq!(named, [(5, "team/key-1", "bad-token"), (5, "team/key-3", "bad-token")]);
    assert_eq!(token_in_effect(&replica, 1), Row::Usable(relay_key(10).token_sha256));
    assert_eq!(token_in_effect(&replica, 2), Row::Usable(relay_key(21).token_sha256));
    let reason = "this data plane cannot use it: this token is not taken".to_owned();
    assert_eq!(token_in_effect(&replica, 3), Row::Invalid { reason });
    assert_eq!(replica.root(), publisher.current().map(|current| current.root()));

    // Another change: the bad entries are still said, and still not in effect.
    offer(&publisher, 3, 3, &keys([(1, 11), (2, 22), (3, 30)]));
    let answers = line.settle(&mut replica, &mut refusing(&[11, 30]));
    assert!(matches!(&answers[..], [FromClient::Nack(nack)] if nack.rejections.len() == 2));
    assert_eq!(token_in_effect(&replica, 1), Row::Usable(relay_key(10).token_sha256));

    // Mended, one by a good value and one by its removal.
    offer(&publisher, 4, 4, &keys([(1, 12), (2, 22)]));
    let answers = line.settle(&mut replica, &mut refusing(&[11, 30]));
    assert!(matches!(&answers[..], [FromClient::Ack(_)]));
    assert_eq!(replica.decoded(), &keys([(1, 12), (2, 22)]));
}

#[test]
fn what_cannot_be_used_at_all_changes_nothing_and_is_not_sent_again() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys([(1, 10)]));
    let (mut line, mut replica) = started(&publisher);
    offer(&publisher, 2, 2, &keys([(1, 11)]));
    let answers = line.settle(&mut replica, &mut |_| Err(Vec::new()));
    assert!(matches!(&answers[..], [FromClient::Nack(nack)] if nack.fault() == Fault::Unusable));
    assert_eq!(replica.decoded(), &keys([(1, 10)]));
    assert!(!line.send());
    offer(&publisher, 3, 3, &keys([(1, 12)]));
    line.settle(&mut replica, &mut content);
    assert_eq!(replica.decoded(), &keys([(1, 12)]));
}

#[test]
fn a_history_that_was_left_is_not_returned_to() {
    let (old, new) = (Publisher::new(), Publisher::new());
    offer_in("one", &old, 1, 500, false, &keys([(1, 10)]));
    offer_in("two", &new, 1, 3, false, &keys([(1, 11)]));
    let (_, mut replica) = started(&old);
    Line::open(&new, &mut replica, true, 1000).settle(&mut replica, &mut content);
    assert_eq!(replica.decoded(), &keys([(1, 11)]));
    let answers = Line::open(&old, &mut replica, true, 1000).settle(&mut replica, &mut content);
    assert!(matches!(&answers[..], [FromClient::Nack(nack)] if nack.fault() == Fault::Rollback));
    assert_eq!(replica.decoded(), &keys([(1, 11)]));
}

#[test]
fn a_server_that_hears_late_of_a_new_history_is_listened_to_then() {
    let (late, new) = (Publisher::new(), Publisher::new());
    offer_in("one", &late, 1, 500, false, &keys([(1, 10)]));
    offer_in("two", &new, 1, 500, false, &keys([(1, 11)]));
    let (_, mut replica) = started(&late);
    Line::open(&new, &mut replica, true, 1000).settle(&mut replica, &mut content);
    offer_in("one", &late, 2, 501, false, &keys([(1, 12)]));
    let mut line = Line::open(&late, &mut replica, true, 1000);
    assert!(matches!(&line.settle(&mut replica, &mut content)[..], [FromClient::Nack(_)]));
    offer_in("two", &late, 3, 501, false, &keys([(1, 12)]));
    assert!(matches!(&line.settle(&mut replica, &mut content)[..], [FromClient::Ack(_)]));
    assert_eq!(replica.decoded(), &keys([(1, 12)]));
}

#[test]
fn a_sealed_replica_comes_back_with_its_guard_and_its_last_good_copies() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys([(1, 10)]));
    let (mut line, mut replica) = started(&publisher);
    offer(&publisher, 2, 7, &with_credential(keys([(1, 11)]), 1, 1));
    line.settle(&mut replica, &mut refusing(&[11]));

    let key = SealKey::new(&[7; 32]).unwrap();
    let kept = replica.keep(123).unwrap();
    let sealed = sealed::seal(&kept.header, &kept.body(), &key).unwrap();
    let (header, body) = sealed::open(&sealed, &key).unwrap();
    let mut restored = Replica::restore(header.clone(), body.clone(), &mut refusing(&[11])).unwrap();
    assert!(restored.is_restored());
    assert_eq!(restored.decoded(), replica.decoded());
    assert_eq!(restored.root(), replica.root());
    assert_eq!(restored.rejections().len(), 1);

    // What a newer build has sealed in another form is not used.
    let another = SealedHeader { schema: SCHEMA + 1, ..header.clone() };
    let refused = Replica::restore(another, body.clone(), &mut content).unwrap_err();
    assert_eq!(refused.message, "rows have the form 2, and this data plane reads 1 to 1");

    // A newer build that can use the entry uses it.
    let newer = Replica::restore(header, body, &mut content).unwrap();
    assert_eq!(newer.decoded(), &with_credential(keys([(1, 11)]), 1, 1));
    assert_eq!(newer.rejections(), []);

    // The guard stays armed; the same table is welcome and costs nothing.
    let lagging = Publisher::new();
    offer(&lagging, 1, 6, &keys([(1, 9)]));
    assert!(!Line::open(&lagging, &mut restored, true, 1000).send());
    let mut line = Line::open(&publisher, &mut restored, true, 1000);
    assert!(line.send());
    assert_eq!(line.on_the_way.len(), 2);
    line.settle(&mut restored, &mut content);
    assert!(!restored.is_restored());
}

#[test]
fn an_answer_to_what_is_not_on_its_way_means_nothing() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys([(1, 10)]));
    let (mut line, _) = started(&publisher);
    let ack = feed::wire::Ack { revision: 77, ..Default::default() };
    assert!(!line.session.on_ack(&ack));
    let nack = feed::wire::Nack { revision: 77, fault: Fault::Corrupt.into(), ..Default::default() };
    assert_eq!(line.session.on_nack(&nack), Ok(false));
}

#[test]
fn no_debug_of_what_holds_credentials_shows_them() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &with_credential(keys([(1, 10)]), 1, 1));
    let (line, replica) = started(&publisher);
    let shown = format!("{replica:?} {:?} {:?}", replica.keep(1), line.on_the_way);
    assert!(shown.contains("host-key-1"));
    assert!(!shown.contains("canary"), "{shown}");
}
