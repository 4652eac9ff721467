//! The structural half of validation: types, bounds, words, unknown fields, keys of list maps. Reads our own schemas only,
//! so it knows the keywords that these use and no others.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::definition::schema;
use crate::kind::Kind;
use crate::metadata;
use crate::patterns;
use crate::suggest;
use crate::text::Instant;
use crate::validate::Violation;

/// What is wrong with the shape of a whole manifest.
pub(crate) fn violations(kind: Kind, object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let Value::Object(fields) = object else {
        report(&mut found, "", wrong_type("object", object));
        return found;
    };
    metadata::check(kind, fields, &mut found);
    let schema = schema(kind);
    for (name, value) in fields {
        match schema["properties"].get(name) {
            Some(below) if !value.is_null() => check(below, value, name, &mut found),
            Some(_) => {}
            None if metadata::OWN.contains(&name.as_str()) => {}
            None => report(&mut found, name, unknown(name, schema, &metadata::OWN)),
        }
    }
    check_required(schema, fields, "", &mut found);
    found
}

/// The object without fields that are null: what the API server stores, and what the types are read from.
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect::<Vec<_>>().into(),
        scalar => scalar.clone(),
    }
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let expected = schema["type"].as_str().unwrap_or("object");
    match (expected, value) {
        ("object", Value::Object(fields)) => check_object(schema, fields, path, found),
        ("array", Value::Array(items)) => check_array(schema, items, path, found),
        ("string", Value::String(text)) => check_string(schema, text, path, found),
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
            check_integer(schema, value, path, found);
        }
        ("boolean", Value::Bool(_)) => {}
        _ => report(found, path, wrong_type(expected, value)),
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<Violation>) {
    for (name, value) in fields {
        let below = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let path = format!("{path}.{name}");
        match below {
            Some(below) if !value.is_null() => check(below, value, &path, found),
            Some(_) => {}
            None => report(found, &path, unknown(name, schema, &[])),
        }
    }
    if let Some(most) = bound(schema, "maxProperties").filter(|most| fields.len() as u64 > *most) {
        report(found, path, format!("has {} entries, {most} at most are allowed", fields.len()));
    }
    check_required(schema, fields, path, found);
}

fn check_required(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<Violation>) {
    let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in names.filter(|name| fields.get(*name).is_none_or(Value::is_null)) {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        report(found, &path, "is required".to_owned());
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Violation>) {
    if let Some(most) = bound(schema, "maxItems").filter(|most| items.len() as u64 > *most) {
        report(found, path, format!("has {} entries, {most} at most are allowed", items.len()));
        return;
    }
    if let Some(least) = bound(schema, "minItems").filter(|least| (items.len() as u64) < *least) {
        report(found, path, format!("has {} entries, {least} at least are needed", items.len()));
    }
    for (position, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{position}]"), found);
    }
    check_unique(schema, items, path, found);
}

/// Sets hold no entry twice, list maps no key twice.
fn check_unique(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Violation>) {
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => report_repeats(items.iter().map(|item| vec![item]), path, "", found),
        Some("map") => {
            let named = items.iter().map(|item| keys.iter().map(|key| &item[*key]).collect());
            report_repeats(named, path, &keys.join(", "), found);
        }
        _ => {}
    }
}

fn report_repeats<'a>(
    entries: impl Iterator<Item = Vec<&'a Value>>,
    path: &str,
    key: &str,
    found: &mut Vec<Violation>,
) {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (position, entry) in entries.enumerate() {
        let text = entry.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
        if let Some(earlier) = first.get(&text) {
            let what = if key.is_empty() { text } else { format!("{key} {text}") };
            report(found, &format!("{path}[{position}]"), format!("repeats {what} of {path}[{earlier}]"));
        } else {
            first.insert(text, position);
        }
    }
}

fn check_string(schema: &Value, text: &str, path: &str, found: &mut Vec<Violation>) {
    let length = text.chars().count() as u64;
    if let Some(words) = schema["enum"].as_array() {
        if !words.iter().any(|word| word == text) {
            report(found, path, not_among(words, text));
        }
    } else if let Some(most) = bound(schema, "maxLength").filter(|most| length > *most) {
        report(found, path, format!("has {length} characters, {most} at most are allowed"));
    } else if let Some(least) = bound(schema, "minLength").filter(|least| length < *least) {
        let message = if length == 0 {
            "must not be empty".to_owned()
        } else {
            format!("has {length} characters, {least} at least are needed")
        };
        report(found, path, message);
    } else if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !matches(pattern, text)) {
        let expected = patterns::in_words(pattern).map_or_else(|| format!("match {pattern}"), |w| format!("be {w}"));
        report(found, path, format!("{} must {expected}", quoted(path, text)));
    } else if schema["format"] == "date-time" && Instant::from(text).timestamp().is_none() {
        let example = "must be an instant such as `2030-01-31T00:00:00Z`";
        report(found, path, format!("{} {example}", quoted(path, text)));
    }
}

fn check_integer(schema: &Value, number: &Value, path: &str, found: &mut Vec<Violation>) {
    let value = number.as_i64().map_or(i128::MAX, i128::from);
    let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
    let outside =
        least.is_some_and(|least| value < i128::from(least)) || value > most.map_or(i128::from(i64::MAX), i128::from);
    if outside {
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            (Some(least), None) => format!("{least} or more"),
            (None, Some(most)) => format!("{most} or less"),
            (None, None) => "within 64 bits".to_owned(),
        };
        report(found, path, format!("{number} is out of range: it must be {range}"));
    }
}

fn not_among(words: &[Value], text: &str) -> String {
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let hint = suggest::nearest(text, words.iter().copied());
    let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
    format!("`{}` is not one of {}{hint}", shortened(text), words.join(", "))
}

fn unknown(name: &str, schema: &Value, further: &[&str]) -> String {
    let known: Vec<&str> =
        schema["properties"].as_object().into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
    let all = known.iter().copied().chain(further.iter().copied());
    match suggest::nearest(name, all.clone()) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None => format!("unknown field; fields here are {}", all.collect::<Vec<_>>().join(", ")),
    }
}

/// Words for a value of the wrong type. The value itself is shown only where it cannot be a credential.
fn wrong_type(expected: &str, value: &Value) -> String {
    let expected = match expected {
        "integer" => "a whole number",
        "array" => "a list",
        "boolean" => "true or false",
        "string" => "text",
        _ => "a map of fields",
    };
    match value {
        Value::Number(number) if expected == "text" => {
            format!("must be text, not the number {number}: put it in quotes")
        }
        Value::Bool(flag) if expected == "text" => format!("must be text, not {flag}: put it in quotes"),
        Value::String(_) if expected == "a whole number" => {
            format!("must be {expected}, not text: write it without quotes")
        }
        Value::String(_) if expected == "true or false" => {
            format!("must be {expected}, not text: write it without quotes")
        }
        Value::Null => format!("must be {expected}, not empty"),
        Value::Bool(flag) => format!("must be {expected}, not {flag}"),
        Value::Number(number) => format!("must be {expected}, not the number {number}"),
        Value::String(_) => format!("must be {expected}, not text"),
        Value::Array(_) => format!("must be {expected}, not a list"),
        Value::Object(_) => format!("must be {expected}, not a map of fields"),
    }
}

/// The value for a message, except where somebody may have pasted a credential.
fn quoted(path: &str, text: &str) -> String {
    let field = path.rsplit('.').next().unwrap_or(path);
    let is_open = !["tokenHash", "value", "wrappedKey", "nonce", "ciphertext"].contains(&field);
    if is_open { format!("`{}`", shortened(text)) } else { "the value".to_owned() }
}

pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn bound(schema: &Value, keyword: &str) -> Option<u64> {
    schema[keyword].as_u64()
}

pub(crate) fn report(found: &mut Vec<Violation>, path: &str, message: String) {
    found.push(Violation { path: path.to_owned(), message });
}

/// Whether the text matches one of the patterns of our schemas.
fn matches(pattern: &str, text: &str) -> bool {
    PATTERNS.get(pattern).is_some_and(|regex| regex.is_match(text))
}

static PATTERNS: LazyLock<HashMap<&'static str, Regex>> = LazyLock::new(|| {
    let mut patterns = Vec::new();
    Kind::ALL.into_iter().for_each(|kind| collect_patterns(schema(kind), &mut patterns));
    patterns.into_iter().map(|text| (text, Regex::new(text).expect("patterns of our schemas are valid"))).collect()
});

fn collect_patterns(schema: &'static Value, patterns: &mut Vec<&'static str>) {
    patterns.extend(schema["pattern"].as_str());
    let properties = schema["properties"].as_object().into_iter().flat_map(Map::values);
    let below = ["items", "additionalProperties"].into_iter().filter_map(|keyword| schema.get(keyword));
    properties.chain(below).for_each(|inner| collect_patterns(inner, patterns));
    patterns.sort_unstable();
    patterns.dedup();
}
