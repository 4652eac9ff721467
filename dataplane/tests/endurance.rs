//! What hostile or broken peers cannot do, and what an operator sees of it.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use support::{
    client::Ask,
    relay::TestRelay,
    tables::Tables,
    upstream::{Act, Script, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;

#[tokio::test]
async fn a_preamble_without_end_is_not_held_but_replaced() {
    let upstream = Upstream::start(|request| match request.key() {
        "bad" => {
            Script::stream().then(Act::Repeat(support::upstream::chunk(&b": still thinking\n\n".repeat(4096)), 1 << 20))
        }
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "good"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    let answer = relay.ask(&Ask::openai("m").streamed()).await;
    assert_eq!((answer.status, wire::text_of(OpenaiChat, true, &answer).as_str()), (200, "hi"));
    assert_eq!(upstream.keys(), ["bad", "good"]);
}

#[tokio::test]
async fn connections_and_breakers_are_shown_as_they_are() {
    let upstream = Upstream::start(|request| match request.key() {
        "bad" => Script::json(401, &wire::error(OpenaiChat, "invalid_request_error", "no")),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "good"]).model("m", &["h"]);
    let relay = TestRelay::start(tables).await;
    let mut connection = relay.connect().await;
    connection.ask(&Ask::openai("m")).await.expect("an answer");
    assert_eq!(relay.metric("relay_connections_open").await, Some(1.0));
    assert_eq!(relay.metric("relay_breaker_state{host_key=\"team/bad\"").await, Some(2.0));
    assert_eq!(relay.metric("relay_breaker_state{host_key=\"team/good\"").await, Some(0.0));
}
