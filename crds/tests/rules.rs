//! Every CEL rule has an object that it lets through and one that it refuses, judged both by the types' own
//! `validate_cel` and by `validate_schema`.

#[path = "cases/rules.rs"]
mod cases;
mod support;

use std::collections::BTreeSet;

use cases::{CREATED, FULL, UPDATED};
use crds::{DataPlane, Host, HostKey, Kind, Model, Policy, RelayKey, Violation};
use kube::core::cel::ValidationErrors;
use serde_json::Value;
use support::{least, with, yaml};

const LONG_NAME: &str = "a123456789012345678901234567890123456789012345678901234567890123";

/// What the type's own evaluation says.
fn by_type(kind: Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }
    macro_rules! judge {
        ($kind:ty) => {{
            let object: $kind = read(object);
            match old {
                Some(old) => object.validate_cel_update(&read(old)),
                None => object.validate_cel(),
            }
        }};
    }
    let verdict: Result<(), ValidationErrors> = match kind {
        Kind::Host => judge!(Host),
        Kind::Model => judge!(Model),
        Kind::HostKey => judge!(HostKey),
        Kind::RelayKey => judge!(RelayKey),
        Kind::Policy => judge!(Policy),
        Kind::DataPlane => judge!(DataPlane),
    };
    verdict.err().into_iter().flat_map(ValidationErrors::into_vec).map(|error| error.message).collect()
}

fn messages(violations: Vec<Violation>) -> Vec<String> {
    violations.into_iter().map(|violation| violation.message).collect()
}

fn assert_refusals(found: Vec<String>, expected: &[&str], what: &str) {
    let right = found.len() == expected.len()
        && expected.iter().all(|start| found.iter().any(|message| message.starts_with(start)));
    assert!(right, "{what}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn new_objects_are_judged_by_every_rule() {
    for (kind, patch, expected) in CREATED {
        let object = with(*kind, patch);
        let what = format!("{kind} {patch}");
        assert_refusals(by_type(*kind, &object, None), expected, &what);
        assert_refusals(messages(crds::validate_schema(*kind, &object)), expected, &what);
    }
}

#[test]
fn changed_objects_are_judged_by_what_they_were() {
    for (kind, before, after, expected) in UPDATED {
        let (old, new) = (with(*kind, before), with(*kind, after));
        let what = format!("{kind} {before} -> {after}");
        assert_refusals(by_type(*kind, &new, Some(&old)), expected, &what);
        assert_refusals(messages(crds::validate_update(*kind, &new, &old)), expected, &what);
    }
}

#[test]
fn names_of_more_than_63_characters_are_refused() {
    for kind in Kind::ALL {
        let mut object = least(kind);
        object["metadata"]["name"] = LONG_NAME[..63].into();
        assert_eq!(crds::validate_schema(kind, &object), []);
        object["metadata"]["name"] = LONG_NAME.into();
        let expected = Violation {
            path: "metadata.name".to_owned(),
            message: "metadata.name must have at most 63 characters".to_owned(),
        };
        assert_eq!(crds::validate_schema(kind, &object), [expected]);
        assert_eq!(by_type(kind, &object, None).len(), 1);
    }
}

#[test]
fn no_rule_is_without_a_case_that_it_refuses() {
    let refusals = CREATED.iter().flat_map(|(_, _, refusals)| refusals.iter());
    let refusals: Vec<_> = refusals.chain(UPDATED.iter().flat_map(|(_, _, _, refusals)| refusals.iter())).collect();
    let mut rules = BTreeSet::new();
    Kind::ALL.iter().for_each(|kind| collect_messages(crds::schema(*kind), &mut rules));
    rules.remove("metadata.name must have at most 63 characters");
    assert!(rules.len() > 25, "{rules:?}");
    for rule in rules {
        assert!(refusals.iter().any(|start| rule.starts_with(**start)), "no case is refused with: {rule}");
    }
}

#[test]
fn no_rule_is_without_a_case_that_it_lets_through() {
    let mut passed = BTreeSet::new();
    for (kind, patch, _) in CREATED.iter().filter(|(_, _, refusals)| refusals.is_empty()) {
        rules_that_judge(crds::schema(*kind), &with(*kind, patch), None, &format!("{kind}"), &mut passed);
    }
    for (kind, before, after, _) in UPDATED.iter().filter(|(_, _, _, refusals)| refusals.is_empty()) {
        let (old, new) = (with(*kind, before), with(*kind, after));
        rules_that_judge(crds::schema(*kind), &new, Some(&old), &format!("{kind}"), &mut passed);
    }
    for (kind, text) in FULL {
        assert_eq!(crds::validate_schema(*kind, &yaml(text)), []);
        rules_that_judge(crds::schema(*kind), &yaml(text), None, &format!("{kind}"), &mut passed);
    }
    for kind in Kind::ALL {
        let all = format!("{kind}");
        each_rule(crds::schema(kind), &all, &mut |rule| assert!(passed.contains(&rule), "nothing passes: {rule}"));
    }
}

/// The rules that had a say when an object was created or changed: those on fields that it has, and those on a change only
/// where it had the field before.
fn rules_that_judge(schema: &Value, value: &Value, old: Option<&Value>, path: &str, into: &mut BTreeSet<String>) {
    for rule in own_rules(schema) {
        if old.is_some() || !is_on_change(rule) {
            into.insert(named(path, rule));
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            rules_that_judge(inner, value, old.and_then(|old| old.get(name)), &format!("{path}.{name}"), into);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        rules_that_judge(&schema["items"], item, None, &format!("{path}[]"), into);
    }
}

fn each_rule(schema: &Value, path: &str, act: &mut dyn FnMut(String)) {
    own_rules(schema).for_each(|rule| act(named(path, rule)));
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        each_rule(inner, &format!("{path}.{name}"), act);
    }
    if let Some(items) = schema.get("items") {
        each_rule(items, &format!("{path}[]"), act);
    }
    assert_eq!(
        own_rules(&schema["additionalProperties"]).count(),
        0,
        "{path}: rules on a map's values are not looked at"
    );
}

fn own_rules(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten()
}

fn is_on_change(rule: &Value) -> bool {
    rule["rule"].as_str().expect("every rule has a text").contains("oldSelf")
}

fn named(path: &str, rule: &Value) -> String {
    format!("{path}: {}", rule["message"].as_str().expect("every rule has a message"))
}

fn collect_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        messages.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
    }
    let properties = schema["properties"].as_object().into_iter().flat_map(|map| map.values());
    let below = ["items", "additionalProperties"].into_iter().filter_map(|keyword| schema.get(keyword));
    properties.chain(below).for_each(|inner| collect_messages(inner, messages));
}

#[test]
fn the_path_of_a_broken_rule_is_the_field() {
    let path = |kind, patch| {
        let found = crds::validate_schema(kind, &with(kind, patch));
        found.into_iter().map(|violation| violation.path).collect::<Vec<_>>()
    };
    assert_eq!(path(Kind::Host, "baseURL: http://a.example"), ["spec.baseURL"]);
    assert_eq!(path(Kind::Host, "timeouts: {connect: 0s}"), ["spec.timeouts.connect"]);
    assert_eq!(path(Kind::HostKey, "source: {secretKeyRef: null}"), ["spec.source"]);
}
