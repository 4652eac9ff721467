//! No field is lost in silence: every request field of both published APIs is put into a request, translated for models
//! of the other shape, and has to be carried, warned of, or refused; or it stands in `silent.json` with its reason.
//!
//! The fields are listed from the official SDKs by `fields/list_fields.py`. The silent list is exact: a field that is
//! lost in silence without standing there fails, and so does one that stands there and is not. What becomes of each
//! field for each model stands in `fates/`, so that a warning that goes missing is seen too; `UPDATE_GOLDEN=1` writes it.

#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use protocol::{Loss, Refusal, WireShape, codec, translate::Encoded};
use serde::Deserialize;
use serde_json::{Map, Value};
use support::TargetModel;

const CHAT_FIELDS: &str = include_str!("fields/openai-chat.json");
const MESSAGES_FIELDS: &str = include_str!("fields/anthropic-messages.json");
const SILENT: &str = include_str!("silent.json");

/// Models that differ in what they take.
const CHAT_MODELS: [&str; 3] = ["gpt-4o", "gpt-5.2", "gpt-5.6-sol"];
const MESSAGES_MODELS: [&str; 3] = ["claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5"];

#[derive(Deserialize)]
struct Listing {
    bases: Vec<Value>,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    path: String,
    base: usize,
    at: String,
    sample: Value,
}

/// Why a field may be lost in silence, and for which models; for all where none is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Silent {
    reason: String,
    #[serde(default)]
    models: Vec<String>,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Carried,
    Warned,
    Refused,
    Silent,
}

#[test]
fn every_field_of_chat_completions_is_carried_warned_refused_or_listed() {
    check(WireShape::OpenaiChat, CHAT_FIELDS, WireShape::AnthropicMessages, &MESSAGES_MODELS);
}

#[test]
fn every_field_of_messages_is_carried_warned_refused_or_listed() {
    check(WireShape::AnthropicMessages, MESSAGES_FIELDS, WireShape::OpenaiChat, &CHAT_MODELS);
}

fn check(from: WireShape, listing: &str, to: WireShape, models: &[&'static str]) {
    let listing: Listing = serde_json::from_str(listing).unwrap();
    let mut faults = Vec::new();
    let mut silent = BTreeMap::<String, BTreeSet<String>>::new();
    let mut table = format!("{:100} {}\n", "field", models.join(" "));
    let models: Vec<TargetModel> = models.iter().map(|name| TargetModel::new(to, name)).collect();
    for field in &listing.fields {
        let mut fates = Vec::new();
        for model in &models {
            let fate = fate(from, &listing.bases[field.base], field, model).unwrap_or_else(|fault| {
                faults.push(format!("{} for {}: {fault}", field.path, model.name()));
                Fate::Silent
            });
            if fate == Fate::Silent {
                silent.entry(field.path.clone()).or_default().insert(model.name().to_owned());
            }
            fates.push(format!("{fate:?}").to_lowercase());
        }
        table.push_str(&format!("{:100} {}\n", field.label(), fates.join(" ")));
    }
    let names: Vec<&str> = models.iter().map(TargetModel::name).collect();
    faults.extend(compare(&silent, &listed(from, &listing.fields, &names)));
    faults.extend(differing(from, &table));
    summary(from, &table);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn summary(from: WireShape, table: &str) {
    let count = |fate: &str| table.split_whitespace().filter(|word| *word == fate).count();
    let fates = ["carried", "warned", "refused", "silent"].map(|fate| format!("{} {fate}", count(fate)));
    println!("no silent loss from {from}: {} fields for three models: {}", table.lines().count() - 1, fates.join(", "));
}

/// The lines in which what was found differs from what stands in `fates/`.
fn differing(from: WireShape, found: &str) -> Vec<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fates/{from}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, found).unwrap();
        return Vec::new();
    }
    let known = fs::read_to_string(&file).unwrap();
    let (known, found): (BTreeSet<&str>, BTreeSet<&str>) = (known.lines().collect(), found.lines().collect());
    let lines = |sign: char, set: BTreeSet<&str>| set.iter().map(|line| format!("{sign} {line}")).collect::<Vec<_>>();
    let (gone, new) = (known.difference(&found).copied().collect(), found.difference(&known).copied().collect());
    [lines('-', gone), lines('+', new)].concat()
}

impl Field {
    /// Tells fields of one path apart by the kind of their sample.
    fn label(&self) -> String {
        let kind = match &self.sample {
            Value::Object(_) => " {}",
            Value::Array(_) => " []",
            _ => "",
        };
        format!("{}{kind}", self.path)
    }
}

/// The fields that may be silent, each with the models for which they are. A `*` in a listed path stands for anything.
fn listed(from: WireShape, fields: &[Field], models: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut lists: BTreeMap<String, BTreeMap<String, Silent>> = serde_json::from_str(SILENT).unwrap();
    let mut listed = BTreeMap::<String, BTreeSet<String>>::new();
    for (pattern, silent) in lists.remove(&from.to_string()).unwrap_or_default() {
        assert!(!silent.reason.is_empty(), "{pattern}: a silent field has a reason");
        let meant: Vec<&Field> = fields.iter().filter(|field| matches(&pattern, &field.path)).collect();
        assert!(!meant.is_empty(), "{pattern} names no field");
        let all = models.iter().map(|name| (*name).to_owned());
        let names = if silent.models.is_empty() { all.collect() } else { silent.models };
        for field in meant {
            listed.entry(field.path.clone()).or_default().extend(names.iter().cloned());
        }
    }
    listed
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| path.strip_prefix(first)) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    last.map_or(rest.is_empty(), |piece| path.ends_with(piece))
}

fn compare(found: &BTreeMap<String, BTreeSet<String>>, listed: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    for path in found.keys().chain(listed.keys()).collect::<BTreeSet<_>>() {
        let (found, listed) =
            (found.get(path).cloned().unwrap_or_default(), listed.get(path).cloned().unwrap_or_default());
        let (lost, stale) = (&found - &listed, &listed - &found);
        if !lost.is_empty() {
            faults.push(format!("{path}: lost in silence for {lost:?}"));
        }
        if !stale.is_empty() {
            faults.push(format!("{path}: listed as silent, but is not for {stale:?}"));
        }
    }
    faults
}

/// What becomes of a field, told from the translations with it and without it.
fn fate(from: WireShape, base: &Value, field: &Field, model: &TargetModel) -> Result<Fate, String> {
    let mut with = base.clone();
    put(&mut with, &field.at, field.sample.clone());
    let with = match translate(from, &with, model) {
        Ok(encoded) => encoded,
        Err(refusal) => return names_refusal(field, &refusal),
    };
    let without = without(base, field);
    let Ok(without) = translate(from, &without, model) else {
        return Ok(if holds(&with, &field.sample) { Fate::Carried } else { Fate::Silent });
    };
    let losses = |encoded: &Encoded| encoded.losses.iter().cloned().collect::<BTreeSet<Loss>>();
    let new: Vec<Loss> = losses(&with).difference(&losses(&without)).cloned().collect();
    if let Some(loss) = new.first() {
        let named = new.iter().any(|loss| names(field, &loss.field));
        return if named { Ok(Fate::Warned) } else { Err(format!("the warning names another field: {loss:?}")) };
    }
    let differs = with.body != without.body || with.headers != without.headers || with.back != without.back;
    Ok(if differs { Fate::Carried } else { Fate::Silent })
}

fn names_refusal(field: &Field, refusal: &Refusal) -> Result<Fate, String> {
    let named = refusal.param.as_deref().is_some_and(|param| names(field, param));
    if named { Ok(Fate::Refused) } else { Err(format!("the refusal names another field: {refusal:?}")) }
}

fn translate(from: WireShape, request: &Value, model: &TargetModel) -> Result<Encoded, Refusal> {
    let request = codec::decode_request(from, request.to_string().as_bytes())?;
    codec::encode_request(&request, &model.target())
}

/// The base, or where the base already holds the very sample, the base without the field.
fn without(base: &Value, field: &Field) -> Value {
    let mut without = base.clone();
    if base.pointer(&field.at) == Some(&field.sample) {
        let (parent, last) = field.at.rsplit_once('/').expect("a pointer begins with a slash");
        match without.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.shift_remove(last)),
            Some(Value::Array(list)) => drop(list.pop()),
            _ => {}
        }
    }
    without
}

/// Whether a word of a loss or refusal is a word of the field's path, or of what the sample holds.
fn names(field: &Field, named: &str) -> bool {
    let words = |text: &str| text.split(['.', '[', ']', '=', '_']).map(str::to_owned).collect::<BTreeSet<_>>();
    let meant = named.trim_end_matches(|c: char| c.is_ascii_digit() || c == '[' || c == ']');
    let last = meant.rsplit(['.', ']']).next().unwrap_or_default();
    let mut known = words(&field.path);
    known.extend(words(&field.sample.to_string().replace(['"', ':', ',', '{', '}'], ".")));
    words(last).is_subset(&known)
}

/// Whether the words of the sample are in the body.
fn holds(encoded: &Encoded, sample: &Value) -> bool {
    let body = String::from_utf8_lossy(&encoded.body).into_owned();
    let text = sample.to_string();
    let words: Vec<&str> =
        text.split('"').filter(|word| word.contains("_words") || word.starts_with("other_")).collect();
    if words.is_empty() { body.contains(text.trim_matches('"')) } else { words.iter().all(|word| body.contains(word)) }
}

/// Puts a value at a pointer. Objects on the way to it come into being, elements of lists do not.
fn put(request: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    if request.pointer(parent).is_none() {
        put(request, parent, Value::Object(Map::new()));
    }
    match request.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.insert(last.to_owned(), value)),
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(index) if index < list.len() => list[index] = value,
            _ => list.push(value),
        },
        _ => panic!("{pointer} leads nowhere in its base"),
    }
}
