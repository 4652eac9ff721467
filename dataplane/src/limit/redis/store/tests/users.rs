use servers::{Options, Redis};
use table::Secret;

use super::*;
use crate::limit::redis::store::target::Password;

const DOCUMENT: &str = include_str!("../../../../../../docs/limits.md");
const KEY: &str = "relay:{team}:words";

/// The documented rights, and those that the scripts of these tests need.
fn rules() -> String {
    let (_, rest) = DOCUMENT.split_once("user relay on >PASSWORD ").expect("the page has the rule");
    format!("{} +rpush +lrange", rest.lines().next().expect("the rule is one line"))
}

pub(super) fn as_user(redis: &Redis, name: &str, password: &str) -> Target {
    Target {
        username: Some(name.to_owned()),
        password: Some(Password::Fixed(Secret::new(password.to_owned()))),
        ..target(redis.address())
    }
}

#[tokio::test]
async fn a_user_of_the_acl_needs_no_more_than_the_documented_rights() {
    let redis = Redis::start_with(Options::new().user("relay", "secret-canary", &rules()));
    let store = revived(as_user(&redis, "relay", "secret-canary")).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    redis.flush_scripts();
    assert_eq!(say(&store, KEY, "b").await, Ok("a b".to_owned()));
    assert_eq!(store.set_if_absent("relay:{team}:x", "a", PATIENT).await, Ok(true));
    store.revive().await.expect("the server answers");
}

#[tokio::test]
async fn a_password_alone_is_that_of_the_default_user() {
    let redis = Redis::start_with(Options::new().password("secret-canary"));
    let password = Some(Password::Fixed(Secret::new("secret-canary".to_owned())));
    let store = revived(Target { password, ..target(redis.address()) }).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
}

#[tokio::test]
async fn a_wrong_password_is_refused_without_being_named() {
    let redis = Redis::start_with(Options::new().user("relay", "right", &rules()));
    let store = store(as_user(&redis, "relay", "wrong-canary"));
    let refused = store.revive().await.expect_err("the password is wrong");
    assert!(matches!(&refused, StoreError::Refused(words) if words.starts_with("AUTH: WRONGPASS")), "{refused:?}");
    for said in [refused.to_string(), format!("{refused:?}"), format!("{store:?}")] {
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn a_missing_password_is_refused_in_the_servers_words() {
    let redis = Redis::start_with(Options::new().password("secret-canary"));
    let refused = store(target(redis.address())).revive().await.expect_err("there is no password");
    assert!(matches!(&refused, StoreError::Refused(words) if words.starts_with("PING: NOAUTH")), "{refused:?}");
}

#[tokio::test]
async fn a_password_file_is_read_anew_for_each_connection() {
    let redis = Redis::start_with(Options::new().user("relay", "first", &rules()));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "first\n").expect("the file is written");
    let password = Some(Password::File(path.clone()));
    let store = revived(Target { password, ..as_user(&redis, "relay", "unused") }).await;

    redis.cli(&["ACL", "SETUSER", "relay", ">second", "<first"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let (_, _) = until_ok(|| async { if store.is_open(KEY) { Err(StoreError::Timeout) } else { Ok(()) } }).await;
    assert!(matches!(store.revive().await, Err(StoreError::Refused(_))));
    std::fs::write(&path, "second\r\n").expect("the file is written");
    store.revive().await.expect("the new password is right");
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));

    std::fs::remove_file(&path).expect("the file is removed");
    let gone = super::store(Target { password: Some(Password::File(path.clone())), ..target(redis.address()) });
    let refused = gone.revive().await.expect_err("there is no file").to_string();
    assert!(refused.contains("password file") && refused.contains(&path.display().to_string()), "{refused}");
}
