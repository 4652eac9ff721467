use std::collections::BTreeSet;

use servers::{Cluster, Layout, Options, Redis};

use super::*;
use crate::limit::redis::store::target::{Mode, Tls};

/// Domains that three masters share: with so many each gets some.
const DOMAINS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn key(domain: &str) -> String {
    format!("relay:{{{domain}}}:words")
}

fn nodes(addresses: &[SocketAddr]) -> Target {
    Target {
        nodes: addresses.iter().copied().map(address).collect(),
        mode: Mode::Cluster,
        timeout: PATIENT,
        ..Target::standalone(Address::new("unused", 1))
    }
}

fn knows_scripts(node: &Redis) -> bool {
    node.cli(&["SCRIPT", "EXISTS", &append().sha, &echo().sha]).split_whitespace().all(|known| known == "1")
}

/// A key of another master than that of `one`.
fn elsewhere(cluster: &Cluster, one: &str) -> String {
    let owner = cluster.owner_of(one).address();
    let other = DOMAINS.iter().map(|domain| key(domain)).find(|key| cluster.owner_of(key).address() != owner);
    other.expect("the domains are spread")
}

#[tokio::test]
async fn each_call_goes_to_the_master_of_its_hash_tag_and_one_node_is_enough_to_find_all() {
    let cluster = Cluster::start_with(Layout { proxies: true, ..Layout::default() });
    let store = revived(nodes(&cluster.addresses()[..1])).await;
    assert!(cluster.nodes().iter().all(|node| knows_scripts(node)));
    cluster.proxies().iter().for_each(|proxy| proxy.forget());
    for domain in DOMAINS {
        assert_eq!(say(&store, &key(domain), domain).await, Ok(domain.to_owned()));
        assert_eq!(cluster.owner_of(&key(domain)).cli(&["LLEN", &key(domain)]), "1");
        assert!(store.is_open(&key(domain)));
    }
    let owners: BTreeSet<_> = DOMAINS.iter().map(|domain| cluster.owner_of(&key(domain)).address()).collect();
    assert_eq!(owners.len(), 3, "the domains are spread");
    let counts: Vec<_> = cluster.proxies().iter().map(|proxy| proxy.counts()).collect();
    let calls: u64 = counts.iter().flat_map(|counts| counts.values()).sum();
    assert_eq!(calls, DOMAINS.len() as u64, "no call was sent twice: {counts:?}");
}

#[tokio::test]
async fn nodes_that_are_gone_do_not_matter_where_another_is_named() {
    let cluster = Cluster::start();
    let gone = SocketAddr::from(([127, 0, 0, 1], 1));
    revived(nodes(&[gone, cluster.addresses()[2]])).await;
    assert!(matches!(store(nodes(&[gone])).revive().await, Err(StoreError::Lost(_))));
}

#[tokio::test]
async fn a_slot_that_moved_is_followed_at_once_and_found_directly_from_then_on() {
    let cluster = Cluster::start_with(Layout { proxies: true, ..Layout::default() });
    let store = revived(nodes(&cluster.addresses())).await;
    let key = key("a");
    assert_eq!(say(&store, &key, "before").await, Ok("before".to_owned()));
    let new = cluster.move_slot_of(&key);
    cluster.proxies().iter().for_each(|proxy| proxy.forget());
    assert_eq!(say(&store, &key, "after").await, Ok("before after".to_owned()));
    assert_eq!(say(&store, &key, "later").await, Ok("before after later".to_owned()));
    assert_eq!(new.cli(&["LLEN", &key]), "3");
    let calls: u64 = cluster.proxies().iter().flat_map(|proxy| proxy.counts().into_values()).sum();
    assert_eq!(calls, 3, "one redirection and then none");
}

#[tokio::test]
async fn a_slot_on_the_move_is_asked_for_where_the_key_is() {
    let cluster = Cluster::start();
    let store = revived(nodes(&cluster.addresses())).await;
    let key = key("a");
    assert_eq!(say(&store, &key, "1").await, Ok("1".to_owned()));
    let migration = cluster.begin_move_of(&key);
    assert_eq!(say(&store, &key, "2").await, Ok("1 2".to_owned()), "the key is still there");
    migration.migrate_keys();
    cluster.nodes().iter().for_each(|node| node.flush_scripts());
    assert_eq!(say(&store, &key, "3").await, Ok("1 2 3".to_owned()), "the key is at the new master");
    let new = migration.finish();
    assert_eq!(say(&store, &key, "4").await, Ok("1 2 3 4".to_owned()));
    assert_eq!(new.cli(&["LLEN", &key]), "4");
}

#[tokio::test]
async fn keys_that_a_move_has_parted_are_busy_until_they_are_together_again() {
    let cluster = Cluster::start();
    let store = revived(nodes(&cluster.addresses())).await;
    let both = [key("a"), "relay:{a}:more".to_owned()];
    let count = Script::new("count", "return tostring(redis.call('EXISTS', KEYS[1], KEYS[2]))".to_owned());
    say(&store, &both[0], "1").await.expect("the server answers");
    say(&store, &both[1], "1").await.expect("the server answers");
    let migration = cluster.begin_move_of(&both[0]);
    // One key goes, the other stays.
    cluster.owner_of(&both[1]).cli(&["DEL", &both[1]]);
    let parted = store.eval(&count, &both, b"").await;
    assert!(matches!(parted, Err(StoreError::Busy(_))), "{parted:?}");
    migration.migrate_keys();
    migration.finish();
    assert_eq!(store.eval(&count, &both, b"").await, Ok(b"1".to_vec()));
}

#[tokio::test]
async fn a_dead_master_takes_only_its_own_slots_along_and_its_replica_takes_over() {
    let cluster = Cluster::start_with(Layout { replicas: true, ..Layout::default() });
    let store = revived(nodes(&cluster.addresses())).await;
    let lost = key("a");
    let kept = elsewhere(&cluster, &lost);
    cluster.owner_of(&lost).kill();
    until_ok(|| async { if store.is_open(&lost) { Err(StoreError::Timeout) } else { Ok(()) } }).await;
    assert!(matches!(say(&store, &lost, "x").await, Err(StoreError::Lost(_))));
    assert_eq!(say(&store, &kept, "a").await, Ok("a".to_owned()));
    assert!(store.revive().await.is_err());
    assert_eq!(say(&store, &kept, "b").await, Ok("a b".to_owned()), "a revival that failed keeps what is open");

    let promoted = cluster.fail_over(&lost);
    until_ok(|| store.revive()).await;
    assert!(knows_scripts(promoted));
    assert_eq!(say(&store, &lost, "c").await, Ok("c".to_owned()));
}

#[tokio::test]
async fn a_master_that_became_a_replica_sends_on_to_the_new_one() {
    let cluster = Cluster::start_with(Layout { replicas: true, ..Layout::default() });
    let store = revived(nodes(&cluster.addresses())).await;
    let key = key("a");
    let promoted = cluster.fail_over(&key);
    assert_eq!(say(&store, &key, "a").await, Ok("a".to_owned()));
    assert_eq!(promoted.cli(&["LLEN", &key]), "1");
    assert!(knows_scripts(promoted), "scripts are loaded when a line is opened on the way");
}

#[tokio::test]
async fn a_master_that_forgot_its_scripts_is_told_them_again() {
    let cluster = Cluster::start();
    let store = revived(nodes(&cluster.addresses())).await;
    cluster.nodes().iter().for_each(|node| node.flush_scripts());
    for domain in DOMAINS {
        assert_eq!(say(&store, &key(domain), "a").await, Ok("a".to_owned()));
    }
    store.revive().await.expect("all masters answer");
    assert!(cluster.nodes().iter().all(|node| knows_scripts(node)));
}

#[tokio::test]
async fn a_stopped_master_costs_its_own_callers_one_timeout_and_others_nothing() {
    let cluster = Cluster::start();
    let store = revived(Target { timeout: HASTY, ..nodes(&cluster.addresses()) }).await;
    let stopped = key("a");
    let other = elsewhere(&cluster, &stopped);
    let owner = cluster.owner_of(&stopped);
    owner.stop();
    assert_eq!(say(&store, &stopped, "1").await, Err(StoreError::Timeout));
    assert_eq!(say(&store, &other, "1").await, Ok("1".to_owned()));
    assert_eq!(store.revive().await, Err(StoreError::Timeout));
    owner.cont();
    until_ok(|| store.revive()).await;
    assert_eq!(say(&store, &stopped, "2").await, Ok("1 2".to_owned()), "in order, over the same connection");
}

#[tokio::test]
async fn a_cluster_with_tls_is_followed_with_tls() {
    let cluster = Cluster::start_with(Layout { options: Options::new().tls(), ..Layout::default() });
    let ca = cluster.nodes()[0].options().authority().map(|pem| pem.as_bytes().to_vec());
    let store = revived(Target { tls: Some(Tls { ca }), ..nodes(&cluster.addresses()) }).await;
    let key = key("a");
    assert_eq!(say(&store, &key, "1").await, Ok("1".to_owned()));
    cluster.move_slot_of(&key);
    assert_eq!(say(&store, &key, "2").await, Ok("1 2".to_owned()));
}

#[tokio::test]
async fn a_cluster_that_is_called_standalone_says_what_it_is() {
    let cluster = Cluster::start();
    let store = revived(target(cluster.addresses()[0])).await;
    let mut refusals = Vec::new();
    for domain in DOMAINS {
        refusals.extend(say(&store, &key(domain), "a").await.err());
    }
    assert!(!refusals.is_empty(), "the domains are spread");
    let says_so =
        |error: &StoreError| matches!(error, StoreError::Refused(words) if words.contains("part of a cluster"));
    assert!(refusals.iter().all(says_so), "{refusals:?}");
}
