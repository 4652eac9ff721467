//! Who may call: the places where a key is looked for, and every reason for which one is refused, in both shapes.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use serde_json::json;
use std::sync::Arc;
use support::{
    client::Ask,
    relay::{Loopback, TestRelay, config},
    tables::{TOKEN, Tables},
    upstream::Upstream,
    wire::{self, SHAPES},
};
use table::WireShape::{AnthropicMessages, OpenaiChat};

async fn tables() -> (Upstream, Tables) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    (upstream, tables)
}

#[tokio::test]
async fn a_key_is_found_in_every_header_that_sdks_use_and_goes_no_further() {
    let (upstream, tables) = tables().await;
    let relay = TestRelay::start(tables).await;
    let bearer = format!("bearer {TOKEN}");
    for (name, value) in
        [("authorization", bearer.as_str()), ("x-api-key", TOKEN), ("api-key", TOKEN), ("x-goog-api-key", TOKEN)]
    {
        for shape in SHAPES {
            let ask = Ask::of(shape, "m").without("authorization").header(name, value);
            assert_eq!(relay.ask(&ask).await.status, 200, "{name} {shape}");
        }
    }
    // Claude Code sends a placeholder beside its token.
    let both = Ask::anthropic("m").header("x-api-key", "placeholder");
    assert_eq!(relay.ask(&both).await.status, 200);
    for request in upstream.received() {
        assert_eq!(request.key(), "k");
        let told = format!("{:?}{}", request.headers, String::from_utf8_lossy(&request.body));
        assert!(!told.contains(TOKEN) && !told.contains("placeholder"), "{told}");
    }
}

#[tokio::test]
async fn each_key_that_is_no_good_is_refused_with_its_reason_in_shape() {
    let (upstream, tables) = tables().await;
    let past = jiff::Timestamp::UNIX_EPOCH;
    let tables = tables
        .relay_key("revoked", "revoked-token-0123456789", |key| key.revoked = true)
        .relay_key("expired", "expired-token-0123456789", |key| key.expires_at = Some(past))
        .relay_key("paused", "paused-token-0123456789", |key| key.suspended = true);
    let relay = TestRelay::start(tables).await;
    let cases = [
        (None, "no API key"),
        (Some("sk-relay-mistyped"), "mistyped"),
        (Some("nobody-knows-this-token"), "unknown"),
        (Some("revoked-token-0123456789"), "relay key `revoked` is revoked"),
        (Some("expired-token-0123456789"), "relay key `expired` has expired at 1970-01-01T00:00:00Z"),
        (Some("paused-token-0123456789"), "relay key `paused` is suspended"),
    ];
    for ((token, reason), shape) in cases.into_iter().flat_map(|case| SHAPES.map(|shape| (case, shape))) {
        let ask = Ask::of(shape, "m").without("authorization");
        let refused = relay.ask(&token.map_or(ask.clone(), |token| ask.token(token))).await;
        let body = refused.json();
        assert_eq!(refused.status, 401, "{reason}");
        assert_eq!(refused.header("x-should-retry"), Some("false"), "{reason}");
        assert!(wire::message_of(shape, &refused).contains(reason), "{reason}: {body}");
        assert!(token.is_none_or(|token| !refused.text().contains(token)), "{body}");
        match shape {
            OpenaiChat => assert_eq!(body["error"]["code"], "invalid_api_key"),
            AnthropicMessages => assert_eq!(body["error"]["type"], "authentication_error"),
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_network_that_is_not_allowed_is_refused_also_behind_a_proxy() {
    let (_upstream, tables) = tables().await;
    let inside = vec!["10.1.0.0/16".parse().expect("a network")];
    let tables = tables.relay_key("inside", "inside-token-0123456789", |key| key.allowed_cidrs = inside);
    let ask = Ask::openai("m").token("inside-token-0123456789");
    let forged = ask.clone().header("x-forwarded-for", "10.1.2.3");

    let direct = TestRelay::start(tables.clone()).await;
    for ask in [&ask, &forged] {
        let refused = direct.ask(ask).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("address_not_allowed")));
        assert!(refused.text().contains("127.0.0.1"), "{}", refused.text());
    }

    let mut trusting = config();
    trusting.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let behind = TestRelay::start_with(tables, trusting, Arc::new(Loopback)).await;
    assert_eq!(behind.ask(&forged).await.status, 200);
    let hop = ask.header("x-forwarded-for", "10.1.2.3, 203.0.113.9");
    assert_eq!(behind.ask(&hop).await.status, 403, "the last hop before the proxy counts");
}

#[tokio::test]
async fn a_key_that_a_new_table_revokes_is_refused_at_its_next_request() {
    let (_upstream, tables) = tables().await;
    let relay = TestRelay::start(tables.clone()).await;
    let mut connection = relay.connect().await;
    let ask = Ask::openai("m");
    assert_eq!(connection.ask(&ask).await.expect("an answer").status, 200);
    let revoked = tables.relay_key("key", TOKEN, |key| key.revoked = true);
    relay.installer.install(revoked.table, revoked.credentials);
    assert_eq!(connection.ask(&ask).await.expect("an answer").status, 401);
}
