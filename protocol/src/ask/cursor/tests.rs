//! Holds the cursor to serde_json, on bodies that make sense, on bodies that were damaged, and on scraps of JSON.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    super::{
        Ask,
        reader::{Body, Reader},
        worded,
    },
    *,
};
use crate::WireShape;

const READINGS: [(WireShape, Body); 3] = [
    (WireShape::OpenaiChat, Body::Conversation),
    (WireShape::AnthropicMessages, Body::Conversation),
    (WireShape::OpenaiChat, Body::Embeddings),
];

fn by_cursor((shape, kind): (WireShape, Body), text: &str) -> Option<Ask> {
    let mut reader = Reader::new(shape, kind, text);
    read(text, &mut reader).ok().map(|()| reader.into_ask())
}

fn by_serde_json((shape, kind): (WireShape, Body), text: &str) -> Option<Ask> {
    let mut reader = Reader::new(shape, kind, text);
    worded::read(text, &mut reader).ok().map(|()| reader.into_ask())
}

/// Whether serde_json takes a text that the cursor leaves to it: it is nested deeply, or a string of it that is not
/// passed over holds a control character.
fn is_left(text: &str) -> bool {
    text.matches(['[', '{']).count() >= MAX_DEPTH as usize || text.bytes().any(|byte| byte < b' ')
}

fn agree(text: &str) {
    for reading in READINGS {
        let (fast, slow) = (by_cursor(reading, text), by_serde_json(reading, text));
        if fast.is_some() || !is_left(text) {
            assert_eq!(fast, slow, "{reading:?} of {text:?}");
        }
    }
}

/// What JSON is made of, and what it is not made of.
fn scrap() -> impl Strategy<Value = String> {
    let written = "\\[|\\]|\\{|\\}|,|:|\"|\\\\|\\\\u|\\\\\"|\\\\n|\\\\x|\\\\ud8[0-9a-f]{2}|\\\\uDC[0-9A-F]{2}|\\\\u00[0-9a-f]{2}|\\\\u[0-9a-g]{3}";
    let words = "true|false|null|nul|truer| |\t|\n|\r|\u{0}|\u{1f}|\u{7f}|\u{a0}|é|\u{1F600}|[a-z]{1,3}";
    let numbers = "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,3})?|[0-9.eE+-]{1,4}";
    let fields = "\"(model|messages|content|role|text|type|source|data|tools|functions|input|system|metadata|user_id|stream|n|stream_options|include_usage)\":?";
    prop_oneof![3 => written, 2 => words, 1 => numbers, 2 => fields]
}

/// A string as it may stand in JSON, quotes included.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -!#-\\[\\]-~]{0,24}",
        1 => "[é世\u{7f}\u{1F600}]{1,2}",
        2 => "\\\\[\"\\\\/bfnrt]",
        2 => "\\\\u[0-9a-fA-F]{4}",
        1 => "\\\\u[dD][89abAB][0-9a-f]{2}(\\\\u[dD][c-fC-F][0-9a-f]{2})?",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n ")]
}

fn key() -> impl Strategy<Value = String> {
    let known = "model|messages|content|role|text|thinking|type|source|data|tools|functions|tool_calls|input|system|metadata|user_id|stream|max_tokens|n|stream_options|include_usage|response_format|output_config|format|effort|modalities|user|prompt_cache_key";
    prop_oneof![6 => known.prop_map(|name| format!("\"{name}\"")), 1 => string(), 1 => Just("\"mo\\u0064el\"".to_owned())]
}

/// JSON of every form, with fields that are looked for in places where they are not.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => string(),
        1 => "true|false|null",
        1 => "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        1 => "\"(user|system|text|image|image_url|document|input_audio|file|audio|json_schema|none|disabled)\"",
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let list = prop::collection::vec((space(), inner.clone(), space()), 0..5).prop_map(|all| {
            format!("[{}]", all.iter().map(|(a, v, b)| format!("{a}{v}{b}")).collect::<Vec<_>>().join(","))
        });
        let field = (space(), key(), space(), space(), inner, space());
        let object = prop::collection::vec(field, 0..6).prop_map(|all| {
            let fields = all.iter().map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        });
        prop_oneof![list, object]
    })
}

/// A request with values of every form where they belong.
fn body() -> impl Strategy<Value = String> {
    let message = ("user|system|assistant|tool", value(), string()).prop_map(|(role, any, text)| {
        format!(r#"{{"role":"{role}","content":[{{"type":"text","text":{text}}},{{"x":{any}}}]}},{{"content":{text}}}"#)
    });
    (prop::collection::vec(message, 0..4), value(), value(), prop::collection::vec((key(), value()), 0..4)).prop_map(
        |(messages, tool, input, others)| {
            let others = others.iter().map(|(key, value)| format!(",{key}:{value}")).collect::<String>();
            let messages = messages.join(",");
            format!(r#" {{"model":"m","tools":[{tool}, 1],"messages":[{messages}],"input":{input}{others}}}"#)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn takes_what_serde_json_takes_and_finds_the_same_in_it(text in prop_oneof![value(), body()]) {
        agree(&text);
        agree(&format!("{{\"model\":\"m\",\"messages\":{text}}}"));
    }

    #[test]
    fn takes_nothing_that_serde_json_refuses(
        text in body(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, scrap()), 1..3),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        for (place, length, scrap) in cuts {
            let start = place.index(chars.len());
            let end = (start + length).min(chars.len());
            chars.splice(start..end, scrap.chars());
        }
        agree(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn takes_no_scraps(scraps in prop::collection::vec(scrap(), 0..12)) {
        let text = scraps.concat();
        agree(&text);
        for around in [format!("{{\"messages\":[{{\"content\":{text}}}]}}"), format!("{{\"tools\":{text}}}"), format!("{{\"model\":\"{text}\"}}")] {
            agree(&around);
        }
    }
}

#[test]
fn a_request_of_an_sdk_is_not_left_to_serde_json() {
    let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": [
        {"role": "user", "content": "line\n\t\"quoted\" \u{1} \\ é \u{1F600}"},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "assistant", "content": Json::Null, "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]},
    ], "tools": [{"type": "function"}, {}], "temperature": 0.5, "metadata": {"a": [[], {}, -1.5e-3]}});
    for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
        assert!(by_cursor(READINGS[0], &text).is_some(), "{text}");
        agree(&text);
    }
}

#[test]
fn every_beginning_of_a_body_is_refused_as_serde_json_refuses_it() {
    let body =
        r#"{"model":"m","messages":[{"role":"user","content":"a\ud83d\ude00b\\"}],"tools":[{"a":[1.5e-3,true,null]}]}"#;
    for end in 0..=body.len() {
        agree(&body[..end]);
    }
}

#[test]
fn a_control_character_in_a_string_is_found_wherever_space_has_some() {
    for text in ["{\n\"model\":\"m\",\"x\":\"a\nb\"}", "{\"model\":\"m\",\"x\":\"\u{1f}\"}", "{\"model\":\"m\r\"}\n"] {
        assert!(by_cursor(READINGS[0], text).is_none(), "{text:?}");
    }
    let many = format!("{{\"model\":\"m\",{}\"x\":1}}", "\n".repeat(1000));
    assert!(by_cursor(READINGS[0], &many).is_some());
}

#[test]
fn a_body_too_deep_for_the_cursor_is_read_all_the_same() {
    let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let body = |depth: usize| format!(r#"{{"model":"m","messages":[{{}}],"x":{}}}"#, lists(depth));
    for (depth, by_it) in [(MAX_DEPTH as usize, true), (MAX_DEPTH as usize + 1, false), (100_000, false)] {
        assert_eq!(by_cursor(READINGS[0], &body(depth)).is_some(), by_it, "{depth}");
        assert_eq!(crate::ask::read(WireShape::OpenaiChat, body(depth).as_bytes()).unwrap().model, "m");
    }
}
