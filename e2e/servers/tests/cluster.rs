//! A cluster does what the tests of others rely on.

use servers::{Cluster, Layout, Options, Redis, Reply, slot_of};

/// What `node` answers to a `GET`: the value or an error such as `MOVED 866 127.0.0.1:12345`.
fn get(node: &Redis, key: &str) -> String {
    node.call(&["GET", key]).to_string()
}

fn same(one: &Redis, other: &Redis) -> bool {
    one.address() == other.address()
}

#[test]
fn slots_are_computed_as_the_cluster_does() {
    let cluster = Cluster::start();
    let keys =
        ["", "a", "relay", "{tenant}:scope", "x{tenant}y{other}", "{}", "{}tag", "a{b", "a}b{c}", "{{a}}", "ключ{é}"];
    for key in keys {
        assert_eq!(cluster.nodes()[0].cli(&["CLUSTER", "KEYSLOT", key]), slot_of(key).to_string(), "{key}");
    }
    assert_eq!(slot_of("{tenant}:one"), slot_of("two:{tenant}"));
}

#[test]
fn three_masters_share_the_slots_and_say_where_each_key_is() {
    let cluster = Cluster::start();
    assert_eq!((cluster.nodes().len(), cluster.proxies().len()), (3, 0));
    let owners: Vec<_> = ["a", "b", "c", "d"].map(|key| cluster.owner_of(key).address()).into();
    for node in cluster.nodes() {
        assert!(owners.contains(&node.address()), "four neighbouring letters reach all three: {owners:?}");
        let moved = format!("MOVED {} {}", slot_of("a"), owners[0]);
        assert_eq!(get(node, "a"), if node.address() == owners[0] { String::new() } else { moved });
    }
}

#[test]
fn a_slot_moves_with_its_keys() {
    let cluster = Cluster::start();
    let from = cluster.owner_of("{tag}");
    let keys: Vec<_> = (0..250).map(|number| format!("{{tag}}:{number}")).collect();
    keys.iter().for_each(|key| drop(from.cli(&["SET", key, "kept"])));

    let to = cluster.move_slot_of("{tag}");

    assert!(!same(from, to));
    assert!(same(to, cluster.owner_of("{tag}")));
    assert!(keys.iter().all(|key| get(to, key) == "kept"));
    let moved = format!("MOVED {} {}", slot_of("{tag}"), to.address());
    let others = cluster.nodes().into_iter().filter(|node| !same(node, to));
    others.for_each(|node| assert_eq!(get(node, &keys[0]), moved));
}

#[test]
fn a_slot_on_its_way_is_asked_for_where_its_keys_are() {
    let cluster = Cluster::start();
    let from = cluster.owner_of("{tag}");
    from.cli(&["SET", "{tag}:old", "here"]);

    let migration = cluster.begin_move_of("{tag}");
    assert_eq!(get(from, "{tag}:old"), "here");
    assert!(get(from, "{tag}:new").starts_with("ASK "));
    assert!(
        matches!(from.call(&["MGET", "{tag}:old", "{tag}:new"]), Reply::Error(error) if error.starts_with("TRYAGAIN"))
    );
    migration.migrate_keys();
    let to = migration.finish();

    assert_eq!(get(to, "{tag}:old"), "here");
}

#[test]
fn a_node_that_was_killed_comes_back_with_its_slots_and_without_its_keys() {
    let cluster = Cluster::start();
    let owner = cluster.owner_of("a");
    owner.cli(&["SET", "a", "1"]);
    owner.kill();
    owner.restart_empty();
    cluster.wait_until_ok();
    assert_eq!(owner.call(&["GET", "a"]), Reply::Nil);
}

#[test]
fn a_replica_takes_over_from_a_master_that_runs_or_is_dead() {
    let cluster = Cluster::start_with(Layout { replicas: true, ..Layout::default() });
    assert_eq!(cluster.nodes().len(), 6);
    let first = cluster.owner_of("a");
    first.cli(&["SET", "a", "1"]);
    first.cli(&["WAIT", "1", "5000"]);

    let second = cluster.fail_over("a");
    assert!(!same(first, second));
    assert!(same(second, cluster.owner_of("a")));
    assert_eq!(get(second, "a"), "1");

    cluster.wait_until_ok();
    second.kill();
    let third = cluster.fail_over("a");
    assert!(same(first, third));
    assert_eq!(third.cli(&["SET", "a", "2"]), "OK");
}

#[test]
fn clients_are_sent_through_the_proxies() {
    let cluster = Cluster::start_with(Layout { proxies: true, ..Layout::default() });
    let owner = cluster.owner_of("a");
    let stranger = cluster.nodes().into_iter().find(|node| !same(node, owner)).unwrap();
    let index = cluster.nodes().iter().position(|node| same(node, owner)).unwrap();

    assert_eq!(get(stranger, "a"), format!("MOVED {} {}", slot_of("a"), cluster.addresses()[index]));
    assert_eq!(cluster.addresses()[index], cluster.proxies()[index].address());
}

#[test]
fn tls_passwords_and_users_hold_in_a_cluster_too() {
    let options = Options::new().tls().user("relay", "open-sesame", "~* +@all");
    let cluster = Cluster::start_with(Layout { options, replicas: true, proxies: false });
    assert!(cluster.urls().iter().all(|url| url.starts_with("rediss://relay:open-sesame@127.0.0.1:")));
    let from = cluster.owner_of("a");
    from.cli(&["SET", "a", "1"]);
    assert_eq!(get(cluster.move_slot_of("a"), "a"), "1");
}
