//! A sentinel set does what the tests of others rely on.

use servers::{Options, Redis, Reply, Sentinels};

fn same(one: &Redis, other: &Redis) -> bool {
    one.address() == other.address()
}

/// The master as `sentinel` names it.
fn master_named_by(sentinel: &Redis, name: &str) -> String {
    sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]).replace('\n', ":")
}

#[test]
fn each_sentinel_names_the_master_and_the_replica_follows_it() {
    let set = Sentinels::start();
    assert_eq!((set.servers().len(), set.sentinels().len(), set.addresses().len()), (2, 3, 3));
    let named: Vec<_> = set.sentinels().iter().map(|sentinel| master_named_by(sentinel, set.name())).collect();
    assert_eq!(named, vec![set.master().address().to_string(); 3]);

    set.master().cli(&["SET", "a", "1"]);
    assert_eq!(set.master().cli(&["WAIT", "1", "5000"]), "1");
    assert_eq!(set.replica().cli(&["GET", "a"]), "1");
    assert!(matches!(set.replica().call(&["SET", "a", "2"]), Reply::Error(error) if error.starts_with("READONLY")));
}

#[test]
fn a_failover_exchanges_master_and_replica() {
    let set = Sentinels::start();
    let (old, new) = (set.master(), set.replica());
    assert!(same(set.failover(), new));
    assert!(same(set.master(), new) && same(set.replica(), old));
    assert_eq!(new.cli(&["SET", "a", "1"]), "OK");

    set.wait_until_ok();
    assert!(matches!(old.call(&["SET", "a", "2"]), Reply::Error(error) if error.starts_with("READONLY")));
    assert!(same(set.failover(), old));
}

#[test]
fn the_sentinels_replace_a_master_that_was_killed_and_take_it_back_as_replica() {
    let set = Sentinels::start();
    let new = set.replica();
    let old = set.kill_master();
    set.wait_until_promoted(new);
    assert_eq!(new.cli(&["SET", "a", "1"]), "OK");

    old.restart_empty();
    set.wait_until_ok();
    assert!(same(set.master(), new));
    assert_eq!(new.cli(&["WAIT", "1", "5000"]), "1");
    assert_eq!(old.cli(&["GET", "a"]), "1");
}

#[test]
fn the_sentinels_replace_a_master_that_is_stopped() {
    let set = Sentinels::start();
    let (old, new) = (set.master(), set.replica());
    old.stop();
    set.wait_until_promoted(new);
    old.cont();
    set.wait_until_ok();
    assert!(same(set.replica(), old));
}

#[test]
fn tls_and_users_hold_in_a_sentinel_set_too() {
    let set = Sentinels::start_with(Options::new().tls().user("relay", "open-sesame", "~* +@all"));
    assert!(set.master().url().starts_with("rediss://relay:open-sesame@127.0.0.1:"));
    assert!(set.sentinels()[0].url().starts_with("rediss://127.0.0.1:"));
    let new = set.replica();
    assert!(same(set.failover(), new));
}
