use servers::{Options, Sentinels};
use table::Secret;

use super::*;
use crate::limit::redis::store::target::{Mode, Password, Tls};

const KEY: &str = "relay:{team}:words";

fn watched(set: &Sentinels, timeout: Duration) -> Target {
    Target {
        nodes: set.addresses().into_iter().map(address).collect(),
        mode: Mode::Sentinel { master: set.name().to_owned() },
        timeout,
        ..Target::standalone(Address::new("unused", 1))
    }
}

#[tokio::test]
async fn the_sentinels_say_which_server_is_the_master() {
    let set = Sentinels::start();
    let store = revived(watched(&set, PATIENT)).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    assert_eq!(set.master().cli(&["LLEN", KEY]), "1");
}

#[tokio::test]
async fn a_master_that_died_is_followed_by_the_promoted_one() {
    let set = Sentinels::start();
    let store = revived(watched(&set, HASTY)).await;
    let replica = set.replica();
    set.kill_master();
    until_ok(|| store.revive()).await;
    assert_eq!(say(&store, KEY, "b").await, Ok("b".to_owned()));
    assert_eq!(replica.cli(&["LLEN", KEY]), "1");
}

#[tokio::test]
async fn a_master_that_was_demoted_in_good_order_is_left() {
    let set = Sentinels::start();
    let store = revived(watched(&set, PATIENT)).await;
    let promoted = set.failover();
    until_ok(|| store.revive()).await;
    let (words, _) = until_ok(|| say(&store, KEY, "a")).await;
    assert_eq!((words, promoted.cli(&["LLEN", KEY])), ("a".to_owned(), "1".to_owned()));
}

#[tokio::test]
async fn a_server_that_answers_is_kept_when_no_sentinel_does() {
    let set = Sentinels::start();
    let store = revived(watched(&set, PATIENT)).await;
    set.sentinels()[0].kill();
    store.revive().await.expect("two sentinels answer");
    set.sentinels().iter().for_each(servers::Redis::kill);
    store.revive().await.expect("the server answers");
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    let fresh = super::store(watched(&set, PATIENT));
    assert!(matches!(fresh.revive().await, Err(StoreError::Lost(_))));
}

#[tokio::test]
async fn a_name_that_the_sentinels_do_not_watch_is_named_in_the_error() {
    let set = Sentinels::start();
    let mode = Mode::Sentinel { master: "other".to_owned() };
    let refused = store(Target { mode, ..watched(&set, PATIENT) }).revive().await;
    let Err(StoreError::Refused(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("watches no master `other`"), "{words}");
}

#[tokio::test]
async fn the_user_is_that_of_the_server_and_tried_at_sentinels_that_want_one() {
    let set = Sentinels::start_with(Options::new().tls().password("secret-canary"));
    let ca = set.master().options().authority().map(|pem| pem.as_bytes().to_vec());
    let target = Target {
        tls: Some(Tls { ca }),
        password: Some(Password::Fixed(Secret::new("secret-canary".to_owned()))),
        ..watched(&set, PATIENT)
    };
    let store = revived(target.clone()).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    for sentinel in set.sentinels() {
        sentinel.cli(&["ACL", "SETUSER", "default", "resetpass", ">secret-canary"]);
    }
    let store = revived(target).await;
    assert_eq!(say(&store, KEY, "b").await, Ok("a b".to_owned()));
}
