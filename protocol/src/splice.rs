//! A request for an upstream of the caller's own shape: the caller's bytes with another model name.
//!
//! Nothing is re-serialised: key order, number spelling, escapes and unknown fields stay as they came.

use std::ops::Range;

use bytes::Bytes;

use crate::ask::{Ask, UsagePlace};

const STREAM_OPTIONS: &str = r#","stream_options":{"include_usage":true}"#;

/// The body with the model's name replaced by the upstream's. `ask_for_usage` also asks for the usage of a stream where
/// the caller did not; Chat alone has that. A body that needs no change is shared, not copied.
pub fn same_shape(body: &Bytes, ask: &Ask, upstream_model: &str, ask_for_usage: bool) -> Bytes {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let quoted = serde_json::Value::from(upstream_model).to_string();
    for span in &ask.model_spans {
        if body[span.clone()] != *quoted.as_bytes() {
            edits.push((span.clone(), quoted.clone()));
        }
    }
    if ask_for_usage && ask.include_usage != Some(true) {
        edits.push(usage_edit(ask));
    }
    // Stable: what is put in behind the model's name comes after the name itself.
    edits.sort_by_key(|(span, _)| span.start);
    apply(body, &edits)
}

fn usage_edit(ask: &Ask) -> (Range<usize>, String) {
    match &ask.usage_place {
        UsagePlace::Absent => {
            let after = ask.model_spans.last().expect("an Ask has a model").end;
            (after..after, STREAM_OPTIONS.to_owned())
        }
        UsagePlace::Null(span) => (span.clone(), r#"{"include_usage":true}"#.to_owned()),
        UsagePlace::Object { inside, empty: true } => (*inside..*inside, r#""include_usage":true"#.to_owned()),
        UsagePlace::Object { inside, empty: false } => (*inside..*inside, r#""include_usage":true,"#.to_owned()),
        UsagePlace::Value(span) => (span.clone(), "true".to_owned()),
    }
}

fn apply(body: &Bytes, edits: &[(Range<usize>, String)]) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut copied = 0;
    for (span, text) in edits {
        out.extend_from_slice(&body[copied..span.start]);
        out.extend_from_slice(text.as_bytes());
        copied = span.end;
    }
    out.extend_from_slice(&body[copied..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WireShape, ask};

    fn spliced(body: &'static str, model: &str, ask_for_usage: bool) -> String {
        let ask = ask::read(WireShape::OpenaiChat, body.as_bytes()).unwrap();
        let out = same_shape(&Bytes::from_static(body.as_bytes()), &ask, model, ask_for_usage);
        String::from_utf8(out.to_vec()).unwrap()
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
        assert_eq!(out.as_ptr(), body.as_ptr());
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
