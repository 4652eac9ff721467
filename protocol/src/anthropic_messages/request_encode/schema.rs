//! Rewrites a JSON Schema into the subset that structured output is compiled from: what cannot be enforced is moved
//! into the description, where the model at least reads it.

use serde_json::{Map, Value, json};

/// String formats that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Keywords that are no constraint and may go silently.
const NOTES: [&str; 4] = ["$schema", "$id", "$comment", "additionalProperties"];

/// The schema in that subset, and the keywords that were moved into descriptions, sorted.
pub(super) fn supported(schema: &Value) -> (Value, Vec<String>) {
    let mut moved = Vec::new();
    let schema = rewrite(schema, &mut moved);
    moved.sort();
    moved.dedup();
    (schema, moved)
}

fn rewrite(schema: &Value, moved: &mut Vec<String>) -> Value {
    let Value::Object(source) = schema else { return schema.clone() };
    let (mut kept, mut extra) = (Map::new(), Map::new());
    for (key, value) in source {
        match key.as_str() {
            "$defs" | "definitions" | "properties" => drop(kept.insert(key.clone(), each_value(value, moved))),
            "anyOf" | "allOf" => drop(kept.insert(key.clone(), each(value, moved))),
            "oneOf" if !source.contains_key("anyOf") => drop(kept.insert("anyOf".to_owned(), each(value, moved))),
            "items" if value.is_object() => drop(kept.insert(key.clone(), rewrite(value, moved))),
            "type" | "required" | "enum" | "const" | "$ref" | "title" | "description" | "default" => {
                kept.insert(key.clone(), value.clone());
            }
            "format" if value.as_str().is_some_and(|format| FORMATS.contains(&format)) => {
                kept.insert(key.clone(), value.clone());
            }
            "minItems" if matches!(value.as_u64(), Some(0 | 1)) => drop(kept.insert(key.clone(), value.clone())),
            _ if NOTES.contains(&key.as_str()) => {}
            _ => drop(extra.insert(key.clone(), value.clone())),
        }
    }
    close(source, &mut kept, &mut extra);
    describe(&mut kept, extra, moved);
    Value::Object(kept)
}

/// Objects take no properties beyond theirs. Where the source said what others must look like, that is a constraint.
fn close(source: &Map<String, Value>, kept: &mut Map<String, Value>, extra: &mut Map<String, Value>) {
    let is_object =
        |kind: &Value| kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")));
    if !source.get("type").is_some_and(is_object) && !source.contains_key("properties") {
        return;
    }
    kept.insert("additionalProperties".to_owned(), json!(false));
    match source.get("additionalProperties") {
        Some(others) if others != &json!(false) => {
            drop(extra.insert("additionalProperties".to_owned(), others.clone()))
        }
        _ => {}
    }
}

fn describe(kept: &mut Map<String, Value>, extra: Map<String, Value>, moved: &mut Vec<String>) {
    if extra.is_empty() {
        return;
    }
    let words: Vec<_> = extra.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    let words = format!("{{{}}}", words.join(", "));
    let described = match kept.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description}\n\n{words}"),
        None => words,
    };
    kept.insert("description".to_owned(), json!(described));
    moved.extend(extra.into_iter().map(|(key, _)| key));
}

fn each(list: &Value, moved: &mut Vec<String>) -> Value {
    match list {
        Value::Array(schemas) => schemas.iter().map(|schema| rewrite(schema, moved)).collect(),
        other => other.clone(),
    }
}

fn each_value(map: &Value, moved: &mut Vec<String>) -> Value {
    match map {
        Value::Object(schemas) => {
            schemas.iter().map(|(name, schema)| (name.clone(), rewrite(schema, moved))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moves_what_is_not_enforced_into_the_description() {
        let (schema, moved) =
            supported(&json!({"type": "integer", "minimum": 1, "maximum": 9, "description": "A size"}));
        assert_eq!(schema, json!({"type": "integer", "description": "A size\n\n{minimum: 1, maximum: 9}"}));
        assert_eq!(moved, ["maximum", "minimum"]);
    }

    #[test]
    fn closes_every_object() {
        let (schema, moved) = supported(&json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "required": ["a"],
            "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {}}}},
        }));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["a"]["items"]["additionalProperties"], json!(false));
        assert_eq!(schema["required"], json!(["a"]));
        assert!(moved.is_empty());
    }

    #[test]
    fn one_of_becomes_any_of_and_references_stay() {
        let (schema, moved) = supported(&json!({
            "$defs": {"n": {"type": "string", "maxLength": 3}},
            "oneOf": [{"$ref": "#/$defs/n"}, {"type": "null"}],
        }));
        assert_eq!(schema["anyOf"], json!([{"$ref": "#/$defs/n"}, {"type": "null"}]));
        assert_eq!(schema["$defs"]["n"], json!({"type": "string", "description": "{maxLength: 3}"}));
        assert_eq!(moved, ["maxLength"]);
    }

    #[test]
    fn a_property_may_be_called_like_a_keyword() {
        let (schema, moved) = supported(&json!({"type": "object", "properties": {"pattern": {"type": "string"}}}));
        assert_eq!(schema["properties"]["pattern"], json!({"type": "string"}));
        assert!(moved.is_empty());
    }

    #[test]
    fn known_formats_and_small_minimums_are_enforced() {
        let source = json!({"type": "array", "minItems": 1, "items": {"type": "string", "format": "uuid"}});
        assert_eq!(supported(&source), (source.clone(), Vec::new()));
        let (_, moved) =
            supported(&json!({"type": "array", "minItems": 2, "items": {"type": "string", "format": "x"}}));
        assert_eq!(moved, ["format", "minItems"]);
    }
}
