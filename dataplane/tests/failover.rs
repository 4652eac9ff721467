//! What follows a failed attempt: which failures are tried elsewhere, which are the caller's own, and what it is told.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use support::{
    client::Ask,
    relay::TestRelay,
    tables::Tables,
    upstream::{Script, Upstream},
    wire,
};
use table::WireShape::OpenaiChat;

#[tokio::test]
async fn an_answer_comes_from_the_next_key_when_the_first_one_fails() {
    let upstream = Upstream::start(|request| match request.key() {
        "bad" => Script::json(500, &wire::error(OpenaiChat, "server_error", "boom")),
        _ => wire::good(OpenaiChat, request, "hi"),
    })
    .await;
    let relay =
        TestRelay::start(Tables::new().host("h", OpenaiChat, &upstream.url(), &["bad", "good"]).model("m", &["h"]))
            .await;

    let answer = relay.ask(&Ask::openai("m")).await;

    assert_eq!((answer.status, wire::text_of(OpenaiChat, false, &answer).as_str()), (200, "hi"));
    assert_eq!(answer.header("x-relay-attempts"), Some("2"));
    assert_eq!(upstream.keys(), ["bad", "good"]);
    let records = relay.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["usage"]["output"], 7);
}
