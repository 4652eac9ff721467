//! Which fields of two rows differ. Entries of lists are matched by what names them, so that a new one is one change.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use serde_json::{Map, Value};
use table::NanoUsd;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Field {
    /// Where, as `budgets[Day].amount`.
    path: String,
    /// What it was; null: absent.
    before: Value,
    /// What it is; null: absent.
    after: Value,
}

/// Fields that name an entry of a list.
const NAMES: [&str; 5] = ["name", "period", "match", "model", "aboveInputTokens"];

/// What differs between two values, sorted by path.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    compare(String::new(), before, after, &mut fields);
    fields
}

fn compare(path: String, before: &Value, after: &Value, fields: &mut Vec<Field>) {
    if before == after {
        return;
    }
    let field = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        return compare_maps(old, new, |name| field(&path, name), fields);
    }
    if let (Some(old), Some(new)) = (named(before), named(after)) {
        return compare_maps(&old, &new, |name| format!("{path}[{name}]"), fields);
    }
    fields.push(Field { path, before: before.clone(), after: after.clone() });
}

fn compare_maps(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    path: impl Fn(&str) -> String,
    fields: &mut Vec<Field>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        compare(path(name), &of(before), &of(after), fields);
    }
}

/// A list whose entries have names, by them; absent: it is no such list.
fn named(list: &Value) -> Option<Map<String, Value>> {
    let mut entries = Map::new();
    for entry in list.as_array()? {
        let name = NAMES.iter().find_map(|name| entry.get(name))?;
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        if entries.insert(name, entry.clone()).is_some() {
            return None;
        }
    }
    Some(entries)
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        match last {
            // Long and of no use to a reader.
            "tokenSha256" => write!(f, "{} differs", self.path),
            _ => write!(f, "{}: {} -> {}", self.path, shown(last, &self.before), shown(last, &self.after)),
        }
    }
}

fn shown(field: &str, value: &Value) -> String {
    match (field, value) {
        (_, Value::Null) => "none".to_owned(),
        ("amount" | "perImage" | "perRequest", Value::Number(nano)) => {
            nano.as_u64().map_or_else(|| nano.to_string(), |nano| format!("{} USD", NanoUsd(nano)))
        }
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(before: Value, after: Value) -> Vec<String> {
        differences(&before, &after).iter().map(Field::to_string).collect()
    }

    #[test]
    fn a_field_is_shown_with_what_it_was_and_what_it_is() {
        let said = lines(json!({"limits": {"rpm": 60, "tpm": null}}), json!({"limits": {"rpm": 600, "tpm": 9}}));
        assert_eq!(said, ["limits.rpm: 60 -> 600", "limits.tpm: none -> 9"]);
    }

    #[test]
    fn entries_of_lists_are_matched_by_their_names() {
        let day = |amount: u64| json!({"period": "Day", "amount": amount});
        let month = json!({"period": "Month", "amount": 1});
        let said =
            lines(json!({"budgets": [month, day(5_000_000_000)]}), json!({"budgets": [day(7_500_000_000), month]}));
        assert_eq!(said, ["budgets[Day].amount: 5 USD -> 7.5 USD"]);
    }

    #[test]
    fn lists_without_names_are_shown_whole() {
        assert_eq!(lines(json!({"allow": ["a"]}), json!({"allow": ["a", "b"]})), [r#"allow: ["a"] -> ["a","b"]"#]);
    }

    #[test]
    fn equal_values_have_no_differences() {
        let value = json!({"a": [{"name": "x"}], "b": {"c": null}});
        assert_eq!(lines(value.clone(), value), Vec::<String>::new());
    }
}
