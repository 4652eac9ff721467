//! A whole answer that comes at once is read as one that comes in pieces.

use proptest::prelude::*;

use super::*;
use crate::skim::testing::{damages, spoilt, with_each_scrap};

const ANSWERS: [(WireShape, &str); 5] = [
    (
        WireShape::OpenaiChat,
        r#"{"id":"c1","object":"chat.completion","created":1700000000,"model":"m1","choices":[{"index":0,"message":{"role":"assistant","content":"a \"}] b é","tool_calls":[{"id":"t"}],"refusal":null},"logprobs":{"content":[1, 2.5e3]},"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":64,"total_tokens":85,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7},"cache_creation":null},"service_tier":"default","system_fingerprint":"fp"}"#,
    ),
    (
        WireShape::OpenaiChat,
        " {\n  \"choices\": [ {\"message\": { \"content\" : \"a  b\" },\t\"finish_reason\": null } ],\r\n \"x\" : [ 1 , { } ], \"usage\": {\"prompt_tokens\": 1, \"x\": [ ]} }\n ",
    ),
    (WireShape::OpenaiChat, r#"{"choices":[{"message":null,"error":{"a":1}}],"content":"more","message":"kept"}"#),
    (
        WireShape::AnthropicMessages,
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"m1","content":[{"type":"text","text":"hé\\\"]"},{"type":"tool_use","input":{"a":[1]}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":21,"output_tokens":64,"cache_read_input_tokens":4,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5},"server_tool_use":{"web_search_requests":1},"service_tier":"standard","output_tokens_details":{"thinking_tokens":2},"iterations":null},"container":{"id":"c"}}"#,
    ),
    (
        WireShape::AnthropicMessages,
        "{ \"content\" : [ ] , \"type\" : \"message\" , \"choices\" : [ {} ] , \"usage\":{ \"x\" : 1 , \"output_tokens\" : 2 }, \"stop_reason\":\"max_tokens\" }\n",
    ),
];

/// What is seen of an answer when all of its pieces have come, when it is over, and what was learnt then.
fn watched<'p>(shape: WireShape, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Seen, Seen, Facts) {
    let (mut watch, mut out, mut seen) = (WholeWatch::new(shape), Vec::new(), Seen::default());
    for piece in pieces {
        seen = watch.push(Bytes::copy_from_slice(piece), &mut out);
    }
    (seen, watch.end(), watch.facts())
}

fn agree(shape: WireShape, text: &str, cut: usize) {
    let bytes = text.as_bytes();
    let expected = watched(shape, [&bytes[..1.min(bytes.len())], &bytes[1.min(bytes.len())..]]);
    assert_eq!(watched(shape, [bytes]), expected, "{text}");
    let (before, after) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(watched(shape, [before, after]), expected, "{text} cut at {cut}");
}

#[test]
fn an_answer_of_plain_form_is_read_at_once() {
    for (shape, answer) in ANSWERS {
        let mut watch = WholeWatch::new(shape);
        watch.push(Bytes::from_static(answer.as_bytes()), &mut Vec::new());
        assert!(watch.whole.is_some(), "{answer}");
        for cut in 0..=answer.len() {
            agree(shape, answer, cut);
        }
    }
}

#[test]
fn what_follows_an_answer_spoils_it_as_if_it_had_come_with_it() {
    for (shape, answer) in ANSWERS {
        for more in [" ", "\n{}", "x", "}", "\"", ","] {
            agree(shape, &format!("{answer}{more}"), answer.len());
        }
    }
}

#[test]
fn no_field_is_overlooked() {
    for (shape, answer) in ANSWERS {
        with_each_scrap(answer).for_each(|text| agree(shape, &text, text.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_at_once_is_what_is_read_in_pieces(
        (shape, answer) in prop::sample::select(&ANSWERS[..]),
        damages in damages(),
        cut in 0..900_usize,
    ) {
        agree(shape, &spoilt(answer, &damages), cut);
    }
}
