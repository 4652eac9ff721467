//! Names and ids that this shape's patterns do not take, and arguments that are no object: how each goes out, and how
//! it comes back. Nothing is stored: what comes back carries what it stands for.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::json::{Json, Object, json};

/// The key under which arguments stand that a model of another provider wrote and that are no JSON object. An `input`
/// with this key alone goes back to that provider as the text that it wrote.
pub const RAW_ARGUMENTS: &str = "_raw_arguments";

/// What begins an id that stands for another.
const ID_PREFIX: &str = "relay1_";

/// The longest tool name.
const LONGEST_NAME: usize = 128;

/// An id of a tool call that fits `^[a-zA-Z0-9_-]+$`: itself, or one that carries it.
pub(super) fn wire_id(id: &str) -> Cow<'_, str> {
    if is_legal(id) && !id.starts_with(ID_PREFIX) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{ID_PREFIX}{}", URL_SAFE_NO_PAD.encode(id)))
}

/// The id that [`wire_id`] was given.
pub(super) fn caller_id(wire: &str) -> String {
    let carried = wire.strip_prefix(ID_PREFIX).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    carried.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| wire.to_owned())
}

/// A tool name that fits: itself, or its legal letters and a hash of it.
pub(super) fn wire_name(name: &str) -> Cow<'_, str> {
    if is_legal(name) && name.len() <= LONGEST_NAME {
        return Cow::Borrowed(name);
    }
    let hash = hex::encode(&Sha256::digest(name)[..4]);
    let letters = name.chars().map(|letter| if is_legal_letter(letter) { letter } else { '_' });
    let stem: String = letters.take(LONGEST_NAME - 1 - hash.len()).collect();
    Cow::Owned(format!("{stem}_{hash}"))
}

fn is_legal(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_legal_letter)
}

fn is_legal_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

/// The arguments of a call as raw JSON text.
pub(super) fn arguments(input: &Object<'_>) -> String {
    match input.get(RAW_ARGUMENTS) {
        Some(Json::String(raw)) if input.len() == 1 => raw.clone().into_owned(),
        _ => input.to_string(),
    }
}

/// The object that raw argument text holds; none where it holds anything else. No text is an empty object.
pub(super) fn input(arguments: &str) -> Option<Json<'_>> {
    if arguments.trim().is_empty() {
        return Some(json!({}));
    }
    Json::parse_str(arguments).ok().filter(Json::is_object)
}

/// An object that carries argument text that holds none.
pub(super) fn raw_input(arguments: &str) -> Json<'_> {
    json!({ RAW_ARGUMENTS: arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_reaches_its_upstream_again() {
        for id in ["toolu_01A", "0", "functions.get_temperature:0", "", "relay1_x", "call-1-0", "ü"] {
            let wire = wire_id(id);
            assert!(is_legal(&wire) || id.is_empty(), "{wire}");
            assert_eq!(caller_id(&wire), id);
        }
        assert_eq!(wire_id("toolu_01A"), "toolu_01A");
    }

    #[test]
    fn names_that_do_not_fit_are_told_apart_by_a_hash() {
        assert_eq!(wire_name("get_weather"), "get_weather");
        let (one, other) = (wire_name("a.b"), wire_name("a:b"));
        assert!(is_legal(&one) && one.starts_with("a_b_"));
        assert_ne!(one, other);
        assert_eq!(wire_name(&"x".repeat(200)).len(), LONGEST_NAME);
    }

    #[test]
    fn arguments_that_are_no_object_go_there_and_back_as_text() {
        assert!(input("[1]").is_none());
        let Json::Object(carried) = raw_input(r#"{"cut": "#) else { panic!("an object") };
        assert_eq!(arguments(&carried), r#"{"cut": "#);
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        assert_eq!(input("").expect("an object").to_string(), "{}");
        assert_eq!(arguments(&Object::default()), "{}");
    }
}
