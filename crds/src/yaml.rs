//! JSON values as YAML text, in the few forms that a definition needs. Written here so that the checked-in files do not
//! change with somebody else's idea of layout.

use serde_json::Value;

/// A YAML document.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&" ".repeat(indent));
                entry(key, value, indent, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                out.push_str(&" ".repeat(indent));
                out.push_str("- ");
                self::item(item, indent + 2, out);
            }
        }
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

fn entry(key: &str, value: &Value, indent: usize, out: &mut String) {
    out.push_str(&text(key));
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

/// What follows a dash: the first entry of a map stands on the same line.
fn item(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (position, (key, value)) in map.iter().enumerate() {
                if position > 0 {
                    out.push_str(&" ".repeat(indent));
                }
                entry(key, value, indent, out);
            }
        }
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

/// Scalars, and whatever is empty or nested where a definition never nests, in JSON's form, which YAML reads.
fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

fn text(string: &str) -> String {
    if is_plain(string) { string.to_owned() } else { Value::from(string).to_string() }
}

/// Whether every YAML reader takes the string as a string without quotes.
fn is_plain(string: &str) -> bool {
    let begins = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.');
    let safe = string.bytes().all(|b| b.is_ascii_alphanumeric() || b" ,.;=()/_-$<>'\"".contains(&b));
    let word = !["true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"]
        .contains(&string.to_ascii_lowercase().as_str());
    begins && safe && word && !string.ends_with(' ') && string.bytes().any(|b| b.is_ascii_alphabetic())
}
