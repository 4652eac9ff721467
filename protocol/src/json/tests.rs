use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
use serde_json::Value;

use super::Json;

fn both(text: &str) -> (Option<Value>, Option<Value>) {
    let ours = Json::parse(text.as_bytes()).ok();
    assert_eq!(ours.is_some(), Json::parse_str(text).is_ok(), "{text}");
    (ours.map(|json| json.to_value()), serde_json::from_str(text).ok())
}

#[test]
fn reads_what_serde_json_reads_and_nothing_else() {
    let texts = [
        r#"{"a":1,"b":[true,false,null,{}],"c":"\u00e4\n\"","\u0061":2}"#,
        r#"{"a":1,"b":2,"a":{"a":3,"a":4}}"#,
        "12345678901234567890123.000e+7",
        "-0.0",
        "1e400",
        " [ 1 , 2 ] ",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "{\"a\":1,}",
        "[1,]",
        "01",
        "-",
        "nul",
        "{} {}",
        "",
        "\"\n\"",
    ];
    for text in texts {
        let (ours, theirs) = both(text);
        assert_eq!(ours, theirs, "{text}");
    }
    let (ours, theirs) = both(&format!("{}{}", "[".repeat(200), "]".repeat(200)));
    assert_eq!((ours, theirs), (None, None));
    assert!(Json::parse(b"\"\xff\"").is_err());
}

#[test]
fn a_name_that_serde_json_keeps_for_itself_is_a_name() {
    let fake = r#"{"$serde_json::private::Number":"x"}"#;
    assert_eq!(Json::parse_str(fake).expect("an object").to_string(), fake);
}

#[test]
fn of_several_fields_of_one_name_the_last_counts_in_the_place_of_the_first() {
    let many: String = (0..40).map(|n| format!("\"k{}\":{n},", n % 20)).collect();
    for text in [r#"{"a":1,"b":2,"a":3}"#.to_owned(), format!("{{{}}}", many.trim_end_matches(','))] {
        let theirs: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(Json::parse_str(&text).expect("JSON").to_string(), theirs.to_string());
    }
}

/// JSON text of every form, with names that come twice, escapes, white space and numbers in strange spellings.
fn text() -> impl Strategy<Value = String> {
    let number = prop_oneof!["-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?", Just("1.0".to_owned())];
    let string = prop_oneof![
        "[a-c]{0,2}".prop_map(|text| format!("\"{text}\"")),
        prop::string::string_regex(".{0,8}").expect("a pattern").prop_map(|text| Value::String(text).to_string()),
        Just("\"\\u00e4\\/\\t\"".to_owned()),
        Just("\"\\ud83d\\ude00\"".to_owned()),
    ];
    let scalar = prop_oneof![number, string.clone(), Just("true".to_owned()), Just(" null ".to_owned())];
    scalar.prop_recursive(4, 40, 6, move |inner| {
        let field = (string.clone(), inner.clone()).prop_map(|(name, value)| format!("{name} : {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}\n", fields.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_and_written_as_serde_json_does(text in text()) {
        let theirs: Value = serde_json::from_str(&text).expect("it was made as JSON");
        let ours = Json::parse(text.as_bytes()).expect("it was made as JSON");
        assert_eq!(ours.to_string(), theirs.to_string());
        assert_eq!(Json::from(&theirs).to_string(), theirs.to_string());
        assert_eq!(ours.to_value(), theirs);
    }

    #[test]
    fn any_text_is_json_to_both_or_to_none(text in "[\\[\\]{}\",:0-9eE.+\\-tfn\\\\u ]{0,12}") {
        let (ours, theirs) = both(&text);
        assert_eq!(ours, theirs);
    }
}
