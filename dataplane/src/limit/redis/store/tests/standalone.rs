use std::collections::HashMap;

use futures::FutureExt;
use servers::{Options, Redis};
use tokio::time::timeout;

use super::{path::Path, *};
use crate::limit::redis::store::{
    greeting::{Credentials, Greeting},
    line::Seat,
    opener::Opener,
};

const KEY: &str = "relay:{team}:words";

#[tokio::test]
async fn a_script_gets_its_keys_and_its_argument_and_its_answer_comes_back_byte_for_byte() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(store.eval(&echo(), &["relay:{team}:x".to_owned()], &bytes).await, Ok(bytes));
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    assert_eq!(say(&store, KEY, "b").await, Ok("a b".to_owned()));
    assert_eq!(redis.cli(&["LLEN", KEY]), "2");
}

#[tokio::test]
async fn before_the_first_revival_calls_fail_at_once() {
    let redis = Redis::start();
    let store = store(target(redis.address()));
    assert!(matches!(say(&store, KEY, "a").await, Err(StoreError::Lost(_))));
    assert!(!store.is_open(KEY));
    store.revive().await.expect("the server answers");
    assert!(store.is_open(KEY));
}

#[tokio::test]
async fn scripts_are_loaded_before_the_first_call() {
    let redis = Redis::start();
    let _store = revived(target(redis.address())).await;
    let known = redis.cli(&["SCRIPT", "EXISTS", &append().sha, &echo().sha, &append().text]);
    assert_eq!(known.split_whitespace().collect::<Vec<_>>(), ["1", "1", "0"]);
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_spelled_out_once() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    redis.flush_scripts();
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    redis.cli(&["CONFIG", "RESETSTAT"]);
    assert_eq!(say(&store, KEY, "b").await, Ok("a b".to_owned()));
    let stats = redis.cli(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_evalsha:calls=1,") && !stats.contains("cmdstat_eval:"), "{stats}");
}

#[tokio::test]
async fn an_error_of_the_script_is_said_in_its_words_and_leaves_the_connection_alone() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    let faulty = Script::new("faulty", "return redis.error_reply('WRONG on purpose')".to_owned());
    let refused = store.eval(&faulty, &[KEY.to_owned()], b"").await;
    assert_eq!(refused, Err(StoreError::Refused("WRONG on purpose".to_owned())));
    let number = Script::new("number", "return 1".to_owned());
    let refused = store.eval(&number, &[KEY.to_owned()], b"").await;
    assert_eq!(refused, Err(StoreError::Refused("the reply is a number and not a string".to_owned())));
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
}

#[tokio::test]
async fn keys_are_set_once_and_for_a_while() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    let ttl = Duration::from_secs(60);
    assert_eq!(store.set_if_absent(KEY, "a", ttl).await, Ok(true));
    assert_eq!(store.set_if_absent(KEY, "b", ttl).await, Ok(false));
    assert_eq!(redis.cli(&["GET", KEY]), "a");
    let left: u64 = redis.cli(&["PTTL", KEY]).parse().expect("a number");
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn hashes_are_read_whole_and_a_missing_one_is_empty() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    assert_eq!(store.read_hash(KEY).await, Ok(HashMap::new()));
    redis.cli(&["HSET", KEY, "a", "1", "b", "2"]);
    let expected = HashMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
    assert_eq!(store.read_hash(KEY).await, Ok(expected));
}

#[tokio::test]
async fn the_database_is_the_chosen_one() {
    let redis = Redis::start();
    let store = revived(Target { database: 3, ..target(redis.address()) }).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    assert_eq!(redis.cli(&["EXISTS", KEY]), "0");
    let error = super::store(Target { database: 99, ..target(redis.address()) }).revive().await;
    assert_eq!(error, Err(StoreError::Refused("SELECT: ERR DB index is out of range".to_owned())));
}

#[tokio::test]
async fn after_a_timeout_later_calls_are_executed_after_the_one_that_timed_out() {
    let redis = Redis::start();
    let store = revived(Target { timeout: HASTY, ..target(redis.address()) }).await;
    redis.stop();
    let begun = Instant::now();
    assert_eq!(say(&store, KEY, "reserve").await, Err(StoreError::Timeout));
    assert!(begun.elapsed() >= HASTY, "{:?}", begun.elapsed());
    assert_eq!(say(&store, KEY, "release").await, Err(StoreError::Timeout));
    redis.cont();
    let (words, _) = until_ok(|| say(&store, KEY, "next")).await;
    assert!(words.starts_with("reserve release next"), "{words}");
}

#[tokio::test]
async fn a_stopped_server_is_back_when_it_goes_on_with_the_same_connection() {
    let redis = Redis::start();
    let store = revived(Target { timeout: HASTY, ..target(redis.address()) }).await;
    let before = connection(&redis);
    redis.stop();
    assert_eq!(store.revive().await, Err(StoreError::Timeout));
    redis.cont();
    until_ok(|| store.revive()).await;
    assert_eq!(connection(&redis), before);
}

#[tokio::test]
async fn a_server_that_was_stopped_for_long_is_back_for_good_and_nothing_comes_late() {
    let redis = Redis::start();
    let store = revived(Target { timeout: HASTY, ..target(redis.address()) }).await;
    redis.stop();
    assert_eq!(say(&store, KEY, "reserve").await, Err(StoreError::Timeout));
    for _ in 0..6 {
        assert_eq!(store.revive().await, Err(StoreError::Timeout));
    }
    redis.cont();
    until_ok(|| store.revive()).await;
    let mut words = String::new();
    for _ in 0..50 {
        (words, _) = until_ok(|| say(&store, KEY, "later")).await;
    }
    assert!(words.find("reserve").is_none_or(|at| at == 0), "{words}");
}

/// The id of our connection, of which there is one.
fn connection(redis: &Redis) -> String {
    let clients = redis.cli(&["CLIENT", "LIST"]);
    let ours: Vec<_> = clients.lines().filter(|line| line.contains("name=relay")).collect();
    let [ours] = ours.as_slice() else { panic!("{clients}") };
    ours.split(' ').next().expect("a line begins with the id").to_owned()
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_replaced() {
    let redis = Redis::start();
    let path = Path::to(redis.address()).await;
    let store = revived(Target { timeout: HASTY, ..target(path.address) }).await;
    path.silence_what_is_open();
    assert_eq!(say(&store, KEY, "lost").await, Err(StoreError::Timeout));
    let (attempts, mut failed) = (10, 0);
    while store.revive().await.is_err() && failed < attempts {
        failed += 1;
    }
    assert_eq!(failed, 2, "two probes without an answer are forgiven, and the third is the last");
    assert_eq!(say(&store, KEY, "found").await, Ok("found".to_owned()));
}

#[tokio::test]
async fn what_a_replaced_connection_was_sent_is_not_executed_after_what_the_new_one_is() {
    let redis = Redis::start();
    let opener = Opener::new(target(redis.address()), vec![append()]).expect("the target is whole");
    let old = opener.open(&address(redis.address()), None).await.expect("the server answers");
    let new = opener.open(&address(redis.address()), Some(old.seat())).await.expect("the server answers");
    let (_, _) = until_ok(|| async { if old.is_alive() { Err(StoreError::Timeout) } else { Ok(()) } }).await;
    assert!(new.is_alive());
    // Another server that counts its connections from one again: the same id from elsewhere is somebody else.
    let elsewhere = Seat { local: SocketAddr::from(([127, 0, 0, 1], 1)), ..new.seat() };
    let third = opener.open(&address(redis.address()), Some(elsewhere)).await.expect("the server answers");
    // Were one of the two closed, the server would have said so before it answered.
    assert!(new.send_all(Greeting::introduction(&Credentials::default()).ready(&[]).pipeline()).await.is_ok());
    assert!(third.is_alive() && new.seat().id.is_some());
}

#[tokio::test]
async fn a_dead_server_fails_calls_at_once_and_is_back_after_its_restart() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    redis.kill();
    until_ok(|| async {
        let lost = matches!(say(&store, KEY, "a").await, Err(StoreError::Lost(_)));
        if lost { Ok(()) } else { Err(StoreError::Timeout) }
    })
    .await;
    assert!(!store.is_open(KEY));
    for _ in 0..100 {
        // What waits for nothing is there when it is asked for the first time.
        let at_once = say(&store, KEY, "a").now_or_never();
        assert!(matches!(at_once, Some(Err(StoreError::Lost(_)))), "{at_once:?}");
    }
    assert!(matches!(store.revive().await, Err(StoreError::Lost(_))));
    redis.restart_empty();
    until_ok(|| store.revive()).await;
    assert_eq!(say(&store, KEY, "b").await, Ok("b".to_owned()));
}

#[tokio::test]
async fn a_replica_takes_no_writes_and_is_not_called_alive() {
    let (redis, master) = (Redis::start(), Redis::start());
    let store = revived(target(redis.address())).await;
    let (host, port) = (master.address().ip().to_string(), master.address().port().to_string());
    redis.cli(&["REPLICAOF", &host, &port]);
    assert_eq!(say(&store, KEY, "a").await, Err(StoreError::ReadOnly));
    assert!(matches!(say(&store, KEY, "a").await, Err(StoreError::Lost(_))));
    let refused = store.revive().await;
    assert!(matches!(refused, Err(StoreError::ReadOnly | StoreError::Busy(_))), "{refused:?}");
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    until_ok(|| store.revive()).await;
    assert_eq!(say(&store, KEY, "b").await, Ok("b".to_owned()));
}

#[tokio::test]
async fn many_revivals_at_once_are_one() {
    let redis = Redis::start();
    let store = store(target(redis.address()));
    let revivals = futures::future::join_all((0..50).map(|_| store.revive())).await;
    assert!(revivals.iter().all(Result::is_ok), "{revivals:?}");
    let clients = redis.cli(&["CLIENT", "LIST"]);
    assert_eq!(clients.matches("name=relay").count(), 1, "{clients}");
}

#[tokio::test]
async fn calls_of_many_tasks_share_one_connection_and_keep_their_answers_apart() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    let calls = (0..1_000).map(|number: u32| {
        let store = store.clone();
        tokio::spawn(async move {
            let sent = number.to_string().into_bytes();
            (store.eval(&echo(), &["relay:{team}:x".to_owned()], &sent).await, sent)
        })
    });
    for call in futures::future::join_all(calls).await {
        let (answer, sent) = call.expect("the task ends");
        assert_eq!(answer, Ok(sent));
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_the_answers_of_others_in_order() {
    let redis = Redis::start();
    let store = revived(target(redis.address())).await;
    redis.stop();
    assert!(timeout(Duration::from_millis(20), say(&store, KEY, "gone")).await.is_err());
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { say(&store, KEY, "here").await }
    });
    redis.cont();
    assert_eq!(waiting.await.expect("the task ends"), Ok("gone here".to_owned()));
}

#[tokio::test]
async fn a_server_that_loads_no_scripts_for_us_is_named_with_what_it_refused() {
    let redis = Redis::start_with(Options::new().user("relay", "secret-canary", "~* +@all -script"));
    let target = super::users::as_user(&redis, "relay", "secret-canary");
    let refused = store(target).revive().await;
    let Err(StoreError::Refused(words)) = refused else { panic!("{refused:?}") };
    assert!(words.starts_with("SCRIPT LOAD: NOPERM"), "{words}");
}
