//! Whether a JSON Schema keeps to the rules of OpenAI's strict mode.

use serde_json::Value;

/// Keywords that strict mode refuses.
const REFUSED: &[&str] = &[
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "unevaluatedProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "contains",
    "uniqueItems",
];

/// Whether the schema is an object that may be sent with `strict: true`: every object closed, every property required.
pub(super) fn is_strict(schema: &Value) -> bool {
    schema["type"] == "object" && keeps_rules(schema)
}

fn keeps_rules(schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    if fields.keys().any(|key| REFUSED.contains(&key.as_str())) || (is_object(schema) && !is_closed(schema)) {
        return false;
    }
    let maps = ["properties", "$defs", "definitions"].iter().filter_map(|key| fields.get(*key)?.as_object());
    let lists = fields.get("anyOf").and_then(Value::as_array);
    maps.flat_map(|map| map.values()).chain(lists.into_iter().flatten()).chain(fields.get("items")).all(keeps_rules)
}

fn is_object(schema: &Value) -> bool {
    let object = |value: &Value| value == "object";
    object(&schema["type"]) || schema["type"].as_array().is_some_and(|types| types.iter().any(object))
}

fn is_closed(schema: &Value) -> bool {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let names = schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys());
    schema["additionalProperties"] == false && names.into_iter().all(|name| required.iter().any(|one| one == name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_needs_every_object_closed_and_every_property_required() {
        let closed = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        assert!(is_strict(&closed(json!({"a": {"type": "string"}}), json!(["a"]))));
        assert!(!is_strict(&closed(json!({"a": {"type": "string"}}), json!([]))));
        assert!(!is_strict(&json!({"type": "object", "properties": {}})));
        assert!(!is_strict(&closed(json!({"a": {"type": "object"}}), json!(["a"]))));
        assert!(is_strict(&closed(
            json!({"a": {"type": "array", "items": closed(json!({}), json!([]))}}),
            json!(["a"])
        )));
        assert!(!is_strict(&closed(json!({"a": {"oneOf": []}}), json!(["a"]))));
        assert!(!is_strict(&json!({"type": "array"})));
    }
}
