//! A request for an upstream of the caller's own shape: the caller's bytes with another model name.
//!
//! Nothing is re-serialised: key order, number spelling, escapes and unknown fields stay as they came.

use std::ops::Range;

use bytes::Bytes;

use crate::ask::{Ask, UsagePlace};

const STREAM_OPTIONS: &str = r#","stream_options":{"include_usage":true}"#;

/// Bodies up to so many bytes are copied: one piece costs whoever sends it less than three.
const SMALL: usize = 16 << 10;

/// A body in pieces that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The first piece.
    pub first: Bytes,
    /// The others, in their order.
    pub rest: Vec<Bytes>,
}

impl Spliced {
    /// All of it in one piece. Copies where there is more than one.
    pub fn joined(mut self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        self.rest.insert(0, self.first);
        self.rest.concat().into()
    }
}

/// The body with the model's name replaced by the upstream's. `ask_for_usage` also asks for the usage of a stream where
/// the caller did not; Chat alone has that. What stays is shared, not copied, except in a body that is small.
pub fn same_shape(body: &Bytes, ask: &Ask, upstream_model: &str, ask_for_usage: bool) -> Spliced {
    let mut edits: Vec<(Range<usize>, Bytes)> = Vec::new();
    let quoted = Bytes::from(serde_json::to_vec(upstream_model).expect("a text can be written as JSON"));
    for span in &ask.model_spans {
        if body[span.clone()] != quoted {
            edits.push((span.clone(), quoted.clone()));
        }
    }
    if ask_for_usage && ask.include_usage != Some(true) {
        let (span, text) = usage_edit(ask);
        edits.push((span, Bytes::from_static(text.as_bytes())));
    }
    // Stable: what is put in behind the model's name comes after the name itself.
    edits.sort_by_key(|(span, _)| span.start);
    match edits.is_empty() {
        true => Spliced { first: body.clone(), rest: Vec::new() },
        false if body.len() <= SMALL => Spliced { first: copied(body, &edits), rest: Vec::new() },
        false => shared(body, edits),
    }
}

fn usage_edit(ask: &Ask) -> (Range<usize>, &'static str) {
    match &ask.usage_place {
        UsagePlace::Absent => {
            let after = ask.model_spans.last().expect("an Ask has a model").end;
            (after..after, STREAM_OPTIONS)
        }
        UsagePlace::Null(span) => (span.clone(), r#"{"include_usage":true}"#),
        UsagePlace::Object { inside, empty: true } => (*inside..*inside, r#""include_usage":true"#),
        UsagePlace::Object { inside, empty: false } => (*inside..*inside, r#""include_usage":true,"#),
        UsagePlace::Value(span) => (span.clone(), "true"),
    }
}

fn copied(body: &[u8], edits: &[(Range<usize>, Bytes)]) -> Bytes {
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut copied = 0;
    for (span, text) in edits {
        out.extend_from_slice(&body[copied..span.start]);
        out.extend_from_slice(text);
        copied = span.end;
    }
    out.extend_from_slice(&body[copied..]);
    out.into()
}

fn shared(body: &Bytes, edits: Vec<(Range<usize>, Bytes)>) -> Spliced {
    let (mut rest, mut taken) = (Vec::with_capacity(2 * edits.len()), 0);
    let mut first = Bytes::new();
    for (index, (span, text)) in edits.into_iter().enumerate() {
        let before = body.slice(taken..span.start);
        taken = span.end;
        match index {
            0 => first = before,
            _ => rest.push(before),
        }
        rest.push(text);
    }
    rest.push(body.slice(taken..));
    Spliced { first, rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WireShape, ask};

    fn spliced(body: &'static str, model: &str, ask_for_usage: bool) -> String {
        let ask = ask::read(WireShape::OpenaiChat, body.as_bytes()).unwrap();
        let body = Bytes::from_static(body.as_bytes());
        let out = same_shape(&body, &ask, model, ask_for_usage).joined();
        assert_eq!(large(&body, model, ask_for_usage), out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// The same of a body that is large, without what makes it so.
    fn large(body: &Bytes, model: &str, ask_for_usage: bool) -> Vec<u8> {
        let space = vec![b' '; SMALL];
        let body = Bytes::from([&space, &body[..]].concat());
        let ask = ask::read(WireShape::OpenaiChat, &body).unwrap();
        let out = same_shape(&body, &ask, model, ask_for_usage);
        assert!(body.as_ptr_range().contains(&out.first.as_ptr()), "its first piece is a copy");
        out.joined()[SMALL..].to_vec()
    }

    #[test]
    fn changes_the_model_and_nothing_else() {
        let body = r#"{ "x":1e400, "n":1.0,"model" : "gp\u0074-4" ,"messages":[{"role":"user","content":"\ud800"}] }"#;
        let expected =
            r#"{ "x":1e400, "n":1.0,"model" : "my \"q\"" ,"messages":[{"role":"user","content":"\ud800"}] }"#;
        assert_eq!(spliced(body, "my \"q\"", false), expected);
    }

    #[test]
    fn replaces_every_model_of_a_body_that_names_it_twice() {
        let body = r#"{"model":"a","messages":[{"role":"user"}],"model":"b"}"#;
        assert_eq!(spliced(body, "c", false), r#"{"model":"c","messages":[{"role":"user"}],"model":"c"}"#);
    }

    #[test]
    fn shares_a_body_that_already_says_what_it_should() {
        let body = Bytes::from_static(br#"{"model":"a","messages":[{"role":"user"}]}"#);
        let ask = ask::read(WireShape::OpenaiChat, &body).unwrap();
        let out = same_shape(&body, &ask, "a", false);
        assert_eq!((out.first.as_ptr(), out.rest), (body.as_ptr(), vec![]));
    }

    #[test]
    fn shares_what_stays_of_a_body_that_is_large() {
        let text = "x".repeat(SMALL);
        let body = Bytes::from(format!(r#"{{"model":"a","messages":[{{"role":"user","content":"{text}"}}]}}"#));
        let ask = ask::read(WireShape::OpenaiChat, &body).unwrap();
        let out = same_shape(&body, &ask, "b", true);
        let shared = |piece: &Bytes| body.as_ptr_range().contains(&piece.as_ptr());
        assert!(shared(&out.first) && shared(out.rest.last().unwrap()));
        assert_eq!(out.rest.len(), 4);
        let copied: usize = out.rest.iter().filter(|piece| !shared(piece)).map(Bytes::len).sum();
        assert_eq!(copied, "\"b\"".len() + STREAM_OPTIONS.len());
    }

    #[test]
    fn asks_for_usage_wherever_the_options_stand() {
        let cases = [
            (
                r#"{"model":"a","messages":[{}]}"#,
                r#"{"model":"b","stream_options":{"include_usage":true},"messages":[{}]}"#,
            ),
            (
                r#"{"messages":[{}],"stream_options":null,"model":"a"}"#,
                r#"{"messages":[{}],"stream_options":{"include_usage":true},"model":"b"}"#,
            ),
            (
                r#"{"messages":[{}],"stream_options":{ },"model":"a"}"#,
                r#"{"messages":[{}],"stream_options":{"include_usage":true },"model":"b"}"#,
            ),
            (
                r#"{"model":"a","messages":[{}],"stream_options":{"include_obfuscation":false}}"#,
                r#"{"model":"b","messages":[{}],"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            ),
            (
                r#"{"model":"a","messages":[{}],"stream_options":{"include_usage": false}}"#,
                r#"{"model":"b","messages":[{}],"stream_options":{"include_usage": true}}"#,
            ),
            (
                r#"{"model":"a","messages":[{}],"stream_options":{"include_usage":true}}"#,
                r#"{"model":"b","messages":[{}],"stream_options":{"include_usage":true}}"#,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(spliced(body, "b", true), expected);
        }
    }
}
