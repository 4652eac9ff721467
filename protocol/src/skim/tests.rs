//! What is walked over is what `serde_json` reads.

use proptest::prelude::*;
use serde_json::Value;

use super::{Reader, is_plain, plain_run};

fn is_walked_over(text: &str) -> bool {
    let mut reader = Reader::new(text);
    reader.skip().is_some() && reader.end().is_some()
}

/// The length of what a string says, which is also read.
fn length(text: &str) -> Option<usize> {
    let mut reader = Reader::new(text);
    let read = reader.text()?;
    assert_eq!(read.read().map(|text| text.len()), Some(read.bytes), "{text}");
    reader.end().map(|()| read.bytes)
}

#[test]
fn every_plain_form_is_walked_over() {
    let texts = [
        r#"{}"#,
        r#" { "a" : [ 1 , -0 , 0.5 , 1e5 , 1E+5 , -12.25e-3 ] , "b" : { } , "c" : [ ] } "#,
        r#"[true,false,null,"",{"a":"\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"}]"#,
        "\"\u{fffd}\"",
        "1e999",
    ];
    for text in texts {
        assert!(is_walked_over(text), "{text}");
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn what_is_no_json_is_not() {
    let texts = [
        "",
        "{",
        "}",
        "{]",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "nul",
        "nulll",
        "tru",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ude00\"",
        "\"\\ud800\\u0041\"",
        "\"\n\"",
        "\"a",
        "[1 2]",
        "1 1",
        "\"\\ud800\\",
        "\"\\u\"",
        "\u{a0}1",
        "{\"$serde_json::private::Number\":\"x\"}",
    ];
    for text in texts {
        assert!(!is_walked_over(text), "{text}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    assert!(!is_walked_over(&"[".repeat(1 << 20)));
    assert!(!is_walked_over(&format!("{}1{}", "[".repeat(127), "]".repeat(127))));
}

/// Pieces that JSON is made of, and some that it is not.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\\"",
        "\\u",
        "\\u00e4",
        "\\ud83d",
        "\\ude00",
        "\"a\"",
        "\"\"",
        "null",
        "true",
        "false",
        "0",
        "-",
        "1",
        ".",
        "e",
        "E",
        "+",
        "12",
        " ",
        "\n",
        "\t",
        "\u{1}",
        "\u{7f}",
        "\u{e4}",
        "\u{1f600}",
        "\u{a0}",
        "\"$serde_json::private::Number\"",
        "\"$serde_json::private::RawValue\"",
        "{\"a\":",
        "[1]",
        "/",
    ];
    prop_oneof![8 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => ".{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_walked_over_that_cannot_be_read(pieces in prop::collection::vec(piece(), 0..14)) {
        let text = pieces.concat();
        if is_walked_over(&text) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_string_has_the_length_that_it_is_read_with(pieces in prop::collection::vec(piece(), 0..8)) {
        let text = format!("\"{}\"", pieces.concat());
        if let Some(length) = length(&text) {
            prop_assert_eq!(serde_json::from_str::<String>(&text).ok().map(|read| read.len()), Some(length), "{}", text);
        }
    }

    #[test]
    fn a_plain_run_ends_where_a_string_may(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1e..0x24_u8, 0x5b..0x5e_u8, 0x9e..0xa4_u8], 0..40)) {
        let expected = bytes.iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count();
        prop_assert_eq!(plain_run(&bytes), expected);
        prop_assert_eq!(is_plain(&bytes), expected == bytes.len());
        prop_assert!(is_plain(&bytes[..expected]));
    }

    #[test]
    fn a_count_is_the_number_that_is_read(text in "-?[0-9]{1,18}(\\.[0-9]{0,2})?([eE][0-9]?)?") {
        let mut reader = Reader::new(&text);
        if let (Some(count), Some(())) = (reader.count(), reader.end()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).ok().and_then(|read| read.as_u64()), Some(count));
        }
    }
}
