use servers::{Options, Redis};

use super::*;
use crate::limit::redis::store::target::Tls;

const KEY: &str = "relay:{team}:words";

fn trusting(redis: &Redis, ca: Option<&str>) -> Target {
    Target { tls: Some(Tls { ca: ca.map(|pem| pem.as_bytes().to_vec()) }), ..target(redis.address()) }
}

#[tokio::test]
async fn a_server_is_believed_whose_authority_is_the_given_one() {
    let redis = Redis::start_with(Options::new().tls());
    let store = revived(trusting(&redis, redis.options().authority())).await;
    assert_eq!(say(&store, KEY, "a").await, Ok("a".to_owned()));
    redis.restart_empty();
    let (_, _) = until_ok(|| store.revive()).await;
    assert_eq!(say(&store, KEY, "b").await, Ok("b".to_owned()));
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let (redis, other) = (Redis::start_with(Options::new().tls()), Options::new().tls());
    for ca in [other.authority(), None] {
        let refused = store(trusting(&redis, ca)).revive().await.expect_err("the authority is another");
        assert!(
            matches!(&refused, StoreError::Lost(words) if words.contains("invalid peer certificate")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_server_is_not_believed_under_another_name() {
    let redis = Redis::start_with(Options::new().tls());
    let mut target = trusting(&redis, redis.options().authority());
    target.nodes[0].host = "127.0.0.2".to_owned();
    let refused = store(target).revive().await.expect_err("the certificate names 127.0.0.1");
    assert!(matches!(&refused, StoreError::Lost(_)), "{refused:?}");
}

#[tokio::test]
async fn a_connection_in_the_clear_to_a_server_with_tls_and_the_other_way_round_are_lost() {
    let (encrypted, clear) = (Redis::start_with(Options::new().tls()), Redis::start());
    assert!(matches!(store(target(encrypted.address())).revive().await, Err(StoreError::Lost(_))));
    let target = Target { timeout: HASTY, ..trusting(&clear, encrypted.options().authority()) };
    assert!(matches!(store(target).revive().await, Err(StoreError::Lost(_) | StoreError::Timeout)));
}

#[test]
fn authorities_that_cannot_be_read_are_refused_before_anything_is_opened() {
    let redis = Address::new("127.0.0.1", 1);
    let of = |ca: &[u8]| Target { tls: Some(Tls { ca: Some(ca.to_vec()) }), ..Target::standalone(redis.clone()) };
    for ca in [b"".as_slice(), b"not PEM", b"\xff"] {
        let error = Store::new(of(ca), Vec::new()).expect_err("there is no certificate").to_string();
        assert!(error.contains("CA bundle"), "{error}");
    }
}
