//! The definitions are current, and such as an API server takes: bounded, described, without defaults and nulls.

use std::fs;
use std::path::Path;

use crds::Kind;
use kube::core::cel::{ScopeContext, WarningKind, analyze_rule, compile_schema};
use serde_json::Value;

/// Every schema of a kind with its path, the root included.
fn schemas(kind: Kind) -> Vec<(String, &'static Value)> {
    fn walk(path: String, schema: &'static Value, into: &mut Vec<(String, &'static Value)>) {
        into.push((path.clone(), schema));
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(format!("{path}.{name}"), inner, into);
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(keyword) {
                walk(format!("{path}[]"), inner, into);
            }
        }
    }
    let mut found = Vec::new();
    walk(kind.to_string(), crds::schema(kind), &mut found);
    assert!(found.len() > 20, "{kind} has a schema");
    found
}

fn every_schema() -> impl Iterator<Item = (String, &'static Value)> {
    Kind::ALL.into_iter().flat_map(schemas)
}

#[test]
fn the_checked_in_files_are_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    for kind in Kind::ALL {
        let file = crds::file_name(kind);
        let checked_in = fs::read_to_string(dir.join(&file)).unwrap_or_default();
        assert!(
            checked_in == crds::yaml(kind),
            "crds/yaml/{file} does not say what the types say; regenerate it with \
             `cargo run -p relay-cli -- crds --dir crds/yaml`"
        );
    }
    let count = fs::read_dir(dir).expect("the directory is checked in").count();
    assert_eq!(count, Kind::ALL.len(), "crds/yaml holds a file that no kind has");
}

#[test]
fn the_yaml_says_what_the_definitions_say() {
    for kind in Kind::ALL {
        let read: Value = serde_saphyr::from_str(&crds::yaml(kind)).expect("it is YAML");
        let typed: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(read).expect("it is a definition");
        assert_eq!(typed, crds::definition(kind));
    }
    assert_eq!(crds::all().len(), Kind::ALL.len());
}

#[test]
fn group_version_and_names_are_the_constants() {
    for kind in Kind::ALL {
        let spec = crds::definition(kind).spec;
        assert_eq!(spec.group, crds::GROUP);
        assert_eq!(spec.versions.len(), 1);
        assert_eq!(spec.versions[0].name, crds::VERSION);
        assert_eq!(spec.names.kind, kind.as_str());
        assert_eq!(spec.names.plural, kind.plural());
        assert_eq!(spec.names.categories, Some(vec!["relay".to_owned()]));
        assert_eq!(spec.scope, "Namespaced");
        assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
    }
    let short: Vec<_> = crds::all().into_iter().flat_map(|crd| crd.spec.names.short_names.unwrap()).collect();
    assert_eq!(short, ["rhost", "rmodel", "hkey", "rkey", "rpol", "rdp"]);
    assert_eq!(Kind::from_name("host"), None);
}

#[test]
fn nothing_has_a_default_or_may_be_null() {
    for (path, schema) in every_schema() {
        for keyword in ["default", "nullable", "title", "anyOf", "oneOf", "allOf", "$ref", "uniqueItems"] {
            assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
        }
        let words = schema["enum"].as_array().into_iter().flatten();
        assert!(words.into_iter().all(Value::is_string), "{path} has a word that is none");
    }
}

#[test]
fn every_schema_has_one_type() {
    for (path, schema) in every_schema() {
        let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
        assert!(["object", "array", "string", "integer", "boolean"].contains(&kind), "{path} is a {kind}");
    }
}

#[test]
fn everything_is_bounded() {
    for (path, schema) in every_schema() {
        let has = |keyword| schema.get(keyword).is_some();
        match schema["type"].as_str() {
            Some("array") => assert!(has("maxItems"), "{path} has no maxItems"),
            Some("string") => assert!(has("maxLength") || has("enum"), "{path} has no maxLength"),
            Some("object") if has("additionalProperties") => {
                assert!(has("maxProperties"), "{path} has no maxProperties");
            }
            Some("integer") if !path.ends_with("observedGeneration") => {
                assert!(has("minimum") && has("maximum"), "{path} has no range");
                assert!(
                    ["int32", "int64"].iter().any(|known| schema["format"] == *known),
                    "{path} has a strange format"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn every_field_is_described() {
    for (path, schema) in every_schema() {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let description = field["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{path}.{name} is not described: {description:?}");
            assert!(!description.contains('\n'), "{path}.{name} is broken into lines");
        }
    }
}

#[test]
fn optional_fields_say_what_their_absence_means() {
    for (path, schema) in every_schema().filter(|(path, _)| path.contains(".spec")) {
        let required = |name: &str| schema["required"].as_array().into_iter().flatten().any(|known| known == name);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let scalar = field["type"] != "object" && field["type"] != "array";
            let said = ["Absent", "One of", "Either", "Needed", "whatever", "your"];
            let description = field["description"].as_str().unwrap_or_default();
            let exempt = required(name) || !scalar || path.contains("elector") || name == "tokenHash";
            assert!(exempt || said.iter().any(|word| description.contains(word)), "{path}.{name}: {description}");
        }
    }
}

#[test]
fn keys_of_list_maps_are_required() {
    for (path, schema) in every_schema() {
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
            let required = schema["items"]["required"].as_array().expect("something is required");
            assert!(required.contains(key), "{path} does not require its key {key}");
        }
    }
}

#[test]
fn every_list_says_how_it_merges() {
    for (path, schema) in every_schema().filter(|(_, schema)| schema["type"] == "array") {
        assert!(schema.get("x-kubernetes-list-type").is_some(), "{path} does not say how it merges");
    }
}

#[test]
fn rules_are_cheap_and_see_only_their_scope() {
    for (path, schema) in every_schema() {
        let compiled = compile_schema(schema);
        assert!(!compiled.has_errors(), "{path}: {:?}", compiled.compilation_errors());
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = rule["rule"].as_str().expect("a rule is text");
            let warnings = analyze_rule(rule, &compiled, ScopeContext::CrdValidation);
            let serious: Vec<_> = warnings.iter().filter(|warning| warning.kind == WarningKind::CostExceeded).collect();
            assert!(serious.is_empty(), "{path}: {serious:?}");
            // The API server takes the length of what such a function gives for unbounded and refuses the definition.
            let unbounded = ["getHost", "getPath", "split(", "join("].iter().find(|part| rule.contains(**part));
            assert_eq!(unbounded, None, "{path}: {rule}");
        }
    }
}

#[test]
fn paths_of_rules_and_columns_exist() {
    for (path, schema) in every_schema() {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let Some(field) = rule["fieldPath"].as_str() else { continue };
            let name = field.strip_prefix('.').expect("paths of rules begin with a dot");
            assert!(schema["properties"].get(name).is_some(), "{path} has no field {name}");
        }
    }
    for kind in Kind::ALL {
        let version = &crds::definition(kind).spec.versions[0];
        for column in version.additional_printer_columns.iter().flatten() {
            assert!(column_exists(kind, &column.json_path), "{kind} has no {}", column.json_path);
        }
        for field in version.selectable_fields.iter().flatten() {
            assert!(column_exists(kind, &field.json_path), "{kind} has no {}", field.json_path);
        }
    }
}

fn column_exists(kind: Kind, path: &str) -> bool {
    if path.starts_with(".metadata.") {
        return true;
    }
    let (path, _) = path.split_once("[?").unwrap_or((path, ""));
    let mut schema = crds::schema(kind);
    for step in path.split('.').skip(1) {
        let (name, index) = step.split_once('[').map_or((step, false), |(name, _)| (name, true));
        let Some(below) = schema["properties"].get(name) else { return false };
        schema = if index { &below["items"] } else { below };
    }
    true
}
