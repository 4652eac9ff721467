//! A compilation as a golden file shows it: the table without what a default would say, where credentials are, reports.

use compiler::{Compilation, Report, compile};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use table::{Credential, Sealed, Traits};

use crate::support;

/// Objects that say as little as possible. What a row has in common with theirs is not shown.
const PLAIN: &str = include_str!("plain.yaml");

/// The whole file. `everything` shows defaults too.
pub(crate) fn render(compilation: &Compilation, everything: bool) -> String {
    let mut document = Map::new();
    let mut table = serde_json::to_value(&compilation.table).expect("tables are JSON");
    let table = table.as_object_mut().expect("a table is an object");
    table.shift_remove("settings");
    let plain = serde_json::to_value(compile(&support::resources(PLAIN)).table).expect("tables are JSON");
    for (kind, rows) in table.iter_mut() {
        let rows = rows.as_object_mut().expect("rows are an object");
        for row in rows.values_mut() {
            *row = shown(row, plain_row(&plain[kind], row), everything);
        }
    }
    table.retain(|_, rows| !is_empty(rows));
    document.insert("table".to_owned(), Value::Object(table.clone()));
    let credentials = credentials(compilation);
    if !credentials.is_empty() {
        document.insert("credentials".to_owned(), Value::Object(credentials));
    }
    document.insert("reports".to_owned(), Value::Object(compilation.reports.iter().map(report).collect()));
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 10_000 };
    let written = serde_saphyr::to_string_with_options(&Plain(&Value::Object(document)), options);
    written.expect("JSON can be written as YAML")
}

/// A value whose numbers are plain numbers to every serializer.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, Plain(value)))),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
            Value::Number(number) => serializer.serialize_u64(number.as_u64().expect("tables hold whole numbers")),
            scalar => scalar.serialize(serializer),
        }
    }
}

/// The plain row of the same kind; of Models there are two, one with bindings and a virtual one.
fn plain_row<'a>(rows: &'a Value, row: &Value) -> &'a Value {
    let rows = rows.as_object().expect("rows are an object");
    let is_virtual = row["usable"]["route"].get("virtual").is_some();
    let same = |other: &&Value| other["usable"]["route"].get("virtual").is_some() == is_virtual;
    rows.values().find(same).map_or(&Value::Null, |row| &row["usable"])
}

fn shown(row: &Value, plain: &Value, everything: bool) -> Value {
    match row.get("usable") {
        Some(usable) if everything => usable.clone(),
        Some(usable) => {
            let mut usable = usable.clone();
            drop_known_traits(&mut usable);
            without(&usable, plain)
        }
        None => row.clone(),
    }
}

/// Traits of a binding are shown where they differ from what is known of the upstream model.
fn drop_known_traits(model: &mut Value) {
    let bindings = model.pointer_mut("/route/bindings").and_then(Value::as_array_mut);
    for binding in bindings.into_iter().flatten() {
        let known = Traits::for_model(binding["upstreamModel"].as_str().unwrap_or_default());
        binding["traits"] = without(&binding["traits"], &serde_json::to_value(known).expect("traits are JSON"));
    }
}

/// The value without fields that are empty or as in `plain`. Elements of lists are compared with the first of `plain`.
fn without(value: &Value, plain: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, field)| plain.get(name) != Some(*field));
            let trimmed = kept.map(|(name, field)| (name.clone(), without(field, &plain[name])));
            Value::Object(trimmed.filter(|(_, field)| !is_empty(field)).collect())
        }
        Value::Array(items) => items.iter().map(|item| without(item, &plain[0])).collect(),
        scalar => scalar.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn credentials(compilation: &Compilation) -> Map<String, Value> {
    let credentials = &compilation.credentials;
    let place = |credential: &Credential| match credential {
        Credential::Value(value) => json!(format!("a value of {} characters", value.expose().chars().count())),
        Credential::File(path) => json!(format!("file {path}")),
        Credential::Env(name) => json!(format!("variable {name}")),
        Credential::Sealed(Sealed { host, key_id, wrapped_key, nonce, ciphertext }) => json!({
            "sealedFor": host, "keyID": key_id, "wrappedKey": wrapped_key, "nonce": nonce, "ciphertext": ciphertext,
        }),
    };
    let keys = credentials.host_keys.iter().map(|(id, credential)| (format!("HostKey/{id}"), place(credential)));
    let certificates = credentials.client_certificates.iter();
    let certificates = certificates.map(|(id, own)| (format!("Host/{id}"), json!({"certificate": own.chain_pem})));
    keys.chain(certificates).collect()
}

/// One line says how all conditions stand, and one more says each new why.
fn report(report: &Report) -> (String, Value) {
    let name = format!("{}/{}", report.kind, report.id);
    let stands = report.conditions.iter().map(|of| format!("{:?}={}", of.r#type, word(of.status)));
    let mut lines = vec![json!(stands.collect::<Vec<_>>().join(" "))];
    let generation = report.observed_generation.map(|generation| json!(format!("generation {generation}")));
    lines.extend(generation);
    let mut said: Vec<&str> = vec![""];
    for condition in &report.conditions {
        if !said.contains(&condition.message.as_str()) {
            lines.push(json!(format!("{:?} {:?}: {}", condition.r#type, condition.reason, condition.message)));
            said.push(&condition.message);
        }
    }
    lines.extend(report.unmatched_globs.iter().map(|glob| json!(format!("unmatched {glob}"))));
    (name, Value::Array(lines))
}

fn word(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}
