//! The API server and this process (`relay check`, the operator) judge every object alike.

#[path = "../../../crds/tests/cases/rules.rs"]
mod rules;
mod shapes;
#[path = "../../../crds/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crds::{Kind, Violation};
use http::{Method, Request};
use kube::{Client, Error, core::Status};
use plane::Plane;
use rules::{CREATED, FULL, UPDATED};
use serde_json::Value;
use shapes::SHAPES;
use support::{least, with, yaml};

/// Where objects are judged by a real API server.
struct Court {
    client: Client,
    namespace: String,
}

impl Court {
    async fn convene() -> Option<Self> {
        let plane = Plane::shared()?;
        plane.install_crds();
        Some(Self { client: plane.client().await, namespace: plane.namespace() })
    }

    /// Whether the object would be created.
    async fn judge(&self, kind: Kind, object: &Value) -> Result<(), Box<Status>> {
        self.send(Method::POST, kind, "", "&dryRun=All", object).await.map(drop)
    }

    /// Whether the object would be put in the place of another, which is created for it.
    async fn judge_update(&self, kind: Kind, name: &str, old: &Value, new: &Value) -> Result<(), Box<Status>> {
        let named = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["name"] = name.into();
            object
        };
        let created = self.send(Method::POST, kind, "", "", &named(old)).await.expect("what was there is right");
        let mut new = named(new);
        new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
        self.send(Method::PUT, kind, &format!("/{name}"), "&dryRun=All", &new).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        kind: Kind,
        name: &str,
        options: &str,
        object: &Value,
    ) -> Result<Value, Box<Status>> {
        let (group, version, plural) = (crds::GROUP, crds::VERSION, kind.plural());
        let collection = format!("/apis/{group}/{version}/namespaces/{}/{plural}", self.namespace);
        let request =
            Request::builder().method(method).uri(format!("{collection}{name}?fieldValidation=Strict{options}"));
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("namespace".to_owned(), self.namespace.clone().into());
        }
        let request = request.header("content-type", "application/json").body(object.to_string().into_bytes());
        match self.client.request(request.expect("the request is whole")).await {
            Ok(answer) => Ok(answer),
            Err(Error::Api(status)) => Err(status),
            Err(error) => panic!("the API server does not answer: {error}"),
        }
    }
}

/// Both name the same fields and give the same reasons.
#[track_caller]
fn assert_same_faults(here: &[Violation], there: &Result<(), Box<Status>>, what: &str) {
    let details = there.as_ref().err().and_then(|status| status.details.as_ref());
    let causes = details.map_or(&[][..], |details| &details.causes);
    let named = |fault: &Violation| {
        let path = if fault.path == "metadata.name" { "<nil>" } else { &fault.path };
        causes.iter().any(|cause| cause.field == path && cause.message.ends_with(&fault.message))
    };
    let same = here.len() == causes.len() && here.is_empty() == there.is_ok() && here.iter().all(named);
    assert!(same, "{what}\nhere: {here:#?}\nthe API server: {there:#?}");
}

#[tokio::test]
async fn new_objects_break_the_same_rules() {
    let Some(court) = Court::convene().await else { return };
    for (kind, patch, refusals) in CREATED {
        let object = with(*kind, patch);
        let there = court.judge(*kind, &object).await;
        assert_eq!(there.is_ok(), refusals.is_empty(), "{kind} {patch}: {there:?}");
        assert_same_faults(&crds::validate_schema(*kind, &object), &there, &format!("{kind} {patch}"));
    }
    for (kind, text) in FULL {
        assert_same_faults(&[], &court.judge(*kind, &yaml(text)).await, kind.as_str());
    }
}

#[tokio::test]
async fn changed_objects_break_the_same_rules() {
    let Some(court) = Court::convene().await else { return };
    for (number, (kind, before, after, refusals)) in UPDATED.iter().enumerate() {
        let (old, new) = (with(*kind, before), with(*kind, after));
        let there = court.judge_update(*kind, &format!("case-{number}"), &old, &new).await;
        assert_eq!(there.is_ok(), refusals.is_empty(), "{kind} {before} -> {after}: {there:?}");
        let here = crds::validate_update(*kind, &new, &old);
        assert_same_faults(&here, &there, &format!("{kind} {before} -> {after}"));
    }
}

#[tokio::test]
async fn names_have_the_same_bound() {
    let Some(court) = Court::convene().await else { return };
    for kind in Kind::ALL {
        for (length, refused) in [(63, false), (64, true)] {
            let mut object = least(kind);
            object["metadata"]["name"] = "a".repeat(length).into();
            let there = court.judge(kind, &object).await;
            assert_eq!(there.is_err(), refused, "{there:?}");
            assert_same_faults(&crds::validate_schema(kind, &object), &there, kind.as_str());
        }
    }
}

#[tokio::test]
async fn shapes_get_the_same_verdict() {
    let Some(court) = Court::convene().await else { return };
    for (kind, patch, right) in SHAPES {
        let object = with(*kind, patch);
        let here = crds::validate_schema(*kind, &object);
        assert_eq!(here.is_empty(), *right, "{kind} {patch}: {here:?}");
        let there = court.judge(*kind, &object).await;
        assert_eq!(there.is_ok(), *right, "{kind} {patch}: {there:?}");
    }
}

#[tokio::test]
async fn every_object_in_the_repository_gets_the_same_verdict() {
    let Some(court) = Court::convene().await else { return };
    let (mut taken, mut refused) = (0, 0);
    for folder in ["compiler/tests/cases", "cli/tests/bad", "examples"] {
        for file in yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)) {
            for (kind, object) in objects(&fs::read_to_string(&file).expect("a file is read")) {
                let here = crds::validate_schema(kind, &object);
                let there = court.judge(kind, &object).await;
                assert_eq!(here.is_empty(), there.is_ok(), "{}: {here:?} {there:?} {object}", file.display());
                *if here.is_empty() { &mut taken } else { &mut refused } += 1;
            }
        }
    }
    assert!(taken > 200 && refused > 40, "{taken} objects are right, {refused} are not");
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry is read").path())
    {
        match entry.is_dir() {
            true => found.extend(yaml_files(&entry)),
            // What a golden case gives holds no manifests.
            false if entry.to_string_lossy().ends_with(".out.yaml") => {}
            false if entry.extension().is_some_and(|extension| extension == "yaml") => found.push(entry),
            false => {}
        }
    }
    found.sort();
    found
}

/// Relay's objects in a file; none where it is not YAML.
fn objects(text: &str) -> Vec<(Kind, Value)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let with_kind =
        documents.into_iter().filter_map(|object| Some((Kind::from_name(object["kind"].as_str()?)?, object)));
    with_kind.collect()
}
