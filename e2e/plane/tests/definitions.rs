//! The API server takes Relay's definitions, what their rules may cost included, and tells users what the types say.

use std::{
    thread,
    time::{Duration, Instant},
};

use crds::Kind;
use plane::Plane;
use serde_json::Value;

#[test]
fn the_definitions_are_accepted_twice() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    plane.install_crds();
    for kind in Kind::ALL {
        let name = format!("{}.{}", kind.plural(), crds::GROUP);
        let of = |path: &str| plane.kubectl(&["get", "crd", &name, "-o", &format!("jsonpath={path}")]);
        let conditions = "{range .status.conditions[*]}{.type}={.status} {end}";
        let conditions = of(conditions);
        for expected in ["NamesAccepted=True", "Established=True"] {
            assert!(conditions.contains(expected), "{name}: {conditions}");
        }
        // The condition under which the API server lists what it dislikes in a schema.
        assert!(!conditions.contains("NonStructuralSchema=True"), "{name}: {conditions}");
        assert_eq!(of("{.metadata.generation}"), "1", "{name}");
    }
}

#[test]
fn kubectl_explains_every_field_in_the_words_of_the_types() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    for kind in Kind::ALL {
        let deadline = Instant::now() + Duration::from_secs(60);
        // What kubectl explains is published some time after the definition.
        while plane.try_kubectl(plane.kubeconfig(), &["explain", kind.plural()], "").is_err() {
            assert!(Instant::now() < deadline, "{kind} is not published");
            thread::sleep(Duration::from_millis(50));
        }
        let explained = explain_all(plane, kind.plural(), crds::schema(kind));
        assert!(explained > 20, "{kind} has {explained} fields");
    }
}

/// Asks about every object in the schema, and counts the fields.
fn explain_all(plane: &Plane, path: &str, schema: &Value) -> usize {
    let Some(fields) = schema["properties"].as_object() else { return 0 };
    let text = on_one_line(&plane.kubectl(&["explain", path]));
    let mut count = fields.len();
    for (name, field) in fields {
        let description = on_one_line(field["description"].as_str().expect("every field is described"));
        assert!(text.contains(&description), "{path}.{name} should say: {description}\nsays: {text}");
        let object = field.get("items").unwrap_or(field);
        count += explain_all(plane, &format!("{path}.{name}"), object);
    }
    count
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
