//! What one file says: its objects, each judged by itself, and what is wrong with the others.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crds::{DataPlane, GROUP, Host, HostKey, Kind, Model, Policy, RelayKey, VERSION, Violation};
use serde::de::DeserializeOwned;
use serde_json::Value;
use table::{ObjectRef, Secret};

use super::{
    Place, Scope, core_kinds,
    finding::{Finding, Severity},
    located,
};

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(super) objects: Vec<(Place, Object)>,
    /// What is wrong with the rest, or was left out.
    pub(crate) findings: Vec<Finding>,
}

impl Manifests {
    /// Whether nothing of it is refused.
    pub(crate) fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Refused)
    }
}

/// An object that was read.
#[derive(Debug)]
pub(super) enum Object {
    /// One of ours.
    Host(ObjectRef, Arc<Host>),
    /// One of ours.
    Model(ObjectRef, Arc<Model>),
    /// One of ours.
    HostKey(ObjectRef, Arc<HostKey>),
    /// One of ours.
    RelayKey(ObjectRef, Arc<RelayKey>),
    /// One of ours.
    Policy(ObjectRef, Arc<Policy>),
    /// One of ours that says nothing to a process without a cluster.
    DataPlane(ObjectRef),
    /// One of ours that its schema refuses.
    Malformed(compiler::Malformed),
    /// `v1/Secret`.
    Secret(ObjectRef, BTreeMap<String, Secret<Vec<u8>>>),
    /// `v1/ConfigMap`.
    ConfigMap(ObjectRef, BTreeMap<String, String>),
    /// `v1/Namespace` with its labels.
    Namespace(String, BTreeMap<String, String>),
}

/// Reads one file.
pub(crate) fn read(path: &Path, text: Result<&str, &String>, scope: &Scope) -> Manifests {
    let mut reader = Reader { scope, out: Manifests::default() };
    let file: Arc<Path> = path.into();
    match text {
        Err(reason) => reader.out.findings.push(Finding::of_file(path, 1, Severity::Refused, reason)),
        Ok(text) => {
            for document in located::documents(text) {
                reader.document(&file, document);
            }
        }
    }
    reader.out
}

pub(super) struct Reader<'a> {
    scope: &'a Scope,
    out: Manifests,
}

impl Reader<'_> {
    fn document(&mut self, file: &Arc<Path>, document: Result<located::Document, located::SyntaxError>) {
        match document {
            Ok(document) => {
                let document = Arc::new(document);
                self.object(Place::new(file.clone(), document.clone()), &document.value);
            }
            Err(error) => {
                let message = format!("is not valid YAML: {}", error.message);
                self.out.findings.push(Finding::of_file(file, error.line, Severity::Refused, message));
            }
        }
    }

    fn object(&mut self, place: Place, value: &Value) {
        let Some(fields) = value.as_object() else {
            let message = "is not a manifest: a map of fields with `apiVersion` and `kind` is needed";
            return self.say(&place, "", Severity::Refused, "", message);
        };
        let word = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (word("apiVersion"), word("kind"));
        match (version, kind) {
            ("v1", "List") => self.list(&place, &value["items"]),
            ("v1", "Secret" | "ConfigMap" | "Namespace") => self.core(place, kind, value),
            _ if is_ours(version) => self.ours(place, version, kind, value),
            ("", _) if Kind::from_name(kind).is_some() => {
                let message = format!("apiVersion: is required: write `{GROUP}/{VERSION}`");
                self.say(&place, "", Severity::Refused, self.shown(kind, value), message);
            }
            _ => self.foreign(&place, version, kind, value),
        }
    }

    fn list(&mut self, place: &Place, items: &Value) {
        for (at, item) in items.as_array().into_iter().flatten().enumerate() {
            self.object(place.item(at), item);
        }
    }

    fn ours(&mut self, place: Place, version: &str, kind: &str, value: &Value) {
        let expected = format!("{GROUP}/{VERSION}");
        let Some(known) = Kind::from_name(kind) else {
            let hint = did_you_mean(kind, Kind::ALL.iter().map(|kind| kind.as_str()));
            let known = Kind::ALL.map(Kind::as_str).join(", ");
            let message = format!("kind: `{kind}` is none of Relay's kinds ({known}){hint}");
            return self.say(&place, "kind", Severity::Refused, "", message);
        };
        let (id, object) = (self.id(value), self.shown(kind, value));
        if version != expected {
            let message = format!("apiVersion: `{version}` is not known; it must be `{expected}`");
            self.say(&place, "apiVersion", Severity::Refused, &object, &message);
            return self.keep_malformed(place, known, id, message);
        }
        let violations = self.violations(known, value);
        if !violations.is_empty() {
            for violation in &violations {
                self.say(&place, &violation.path, Severity::Refused, &object, violation.to_string());
            }
            return self.keep_malformed(place, known, id, joined(&violations));
        }
        let id = id.expect("the schema asks for a name, or else there is a violation");
        match typed(known, id.clone(), crds::without_nulls(value)) {
            Ok(read) => self.out.objects.push((place, read)),
            Err(message) => {
                self.say(&place, "", Severity::Refused, &object, &message);
                self.keep_malformed(place, known, Some(id), message);
            }
        }
    }

    /// What the schema says; and a name that the API server would make up is missing here.
    fn violations(&self, kind: Kind, value: &Value) -> Vec<Violation> {
        let mut violations = crds::validate_schema(kind, value);
        violations.iter_mut().for_each(|violation| add_value(violation, value));
        if violations.is_empty() && value["metadata"]["name"].as_str().is_none() {
            let message = "is required: only an API server makes names out of `generateName`".to_owned();
            return vec![Violation { path: "metadata.name".to_owned(), message }];
        }
        violations
    }

    /// A refused object stays known, so that what refers to it is told the truth.
    fn keep_malformed(&mut self, place: Place, kind: Kind, id: Option<ObjectRef>, reason: String) {
        if let Some(id) = id {
            self.out.objects.push((place, Object::Malformed(compiler::Malformed { kind, id, reason })));
        }
    }

    fn core(&mut self, place: Place, kind: &str, value: &Value) {
        let Some(id) = self.id(value) else {
            return self.say(&place, "metadata", Severity::Refused, kind, "metadata.name: is required");
        };
        let shown = if kind == "Namespace" { id.name.clone() } else { id.to_string() };
        let mut problems = Vec::new();
        let object = match kind {
            "Secret" => Object::Secret(id, core_kinds::secret(value, &mut problems)),
            "ConfigMap" => Object::ConfigMap(id, core_kinds::config_map(value, &mut problems)),
            _ => Object::Namespace(id.name, core_kinds::labels(value)),
        };
        for (path, message) in problems {
            let message = format!("{path}: {message}");
            self.say(&place, &path, Severity::Refused, format!("{kind} {shown}"), message);
        }
        self.out.objects.push((place, object));
    }

    /// The namespace and name of an object; absent where it has no name.
    fn id(&self, value: &Value) -> Option<ObjectRef> {
        let text = |field: &str| value["metadata"][field].as_str().filter(|text| !text.is_empty());
        Some(ObjectRef::new(text("namespace").unwrap_or(&self.scope.namespace), text("name")?))
    }

    /// `Kind namespace/name`, as far as known.
    fn shown(&self, kind: &str, value: &Value) -> String {
        self.id(value).map_or(kind.to_owned(), |id| format!("{kind} {id}"))
    }

    /// Manifests of others are left alone, unless they look like ours misspelt.
    fn foreign(&mut self, place: &Place, version: &str, kind: &str, value: &Value) {
        let expected = format!("{GROUP}/{VERSION}");
        let group = version.split('/').next().unwrap_or_default();
        if Kind::from_name(kind).is_some() && crds::nearest(group, std::iter::once(GROUP)).is_some() {
            let message = format!("apiVersion: `{version}` is not known; did you mean `{expected}`?");
            return self.say(place, "apiVersion", Severity::Refused, self.shown(kind, value), message);
        }
        let message = match (version, kind) {
            ("", "") => "ignored: it has neither `apiVersion` nor `kind`".to_owned(),
            (_, kind) => format!("ignored: `{kind}` of `{version}` means nothing to Relay"),
        };
        self.say(place, "", Severity::Note, "", message);
    }

    fn say(
        &mut self,
        place: &Place,
        path: &str,
        severity: Severity,
        object: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.out.findings.push(Finding::of_field(place, path, severity, object, message));
    }
}

/// Rules over these fields do not quote what is written there.
const QUOTED: [&str; 2] = ["spec.baseURL", "spec.allowedCIDRs"];

fn add_value(violation: &mut Violation, object: &Value) {
    let written = match &object["spec"][violation.path.trim_start_matches("spec.")] {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => return,
    };
    // What stands before an `@` may be a password.
    if QUOTED.contains(&violation.path.as_str()) && !violation.message.contains('`') && !written.contains('@') {
        violation.message = format!("{} (it is `{written}`)", violation.message);
    }
}

fn is_ours(version: &str) -> bool {
    version.split('/').next() == Some(GROUP)
}

fn typed(kind: Kind, id: ObjectRef, value: Value) -> Result<Object, String> {
    fn read<T: DeserializeOwned>(value: Value) -> Result<Arc<T>, String> {
        serde_json::from_value(value).map(Arc::new).map_err(|error| error.to_string())
    }
    Ok(match kind {
        Kind::Host => Object::Host(id, read(value)?),
        Kind::Model => Object::Model(id, read(value)?),
        Kind::HostKey => Object::HostKey(id, read(value)?),
        Kind::RelayKey => Object::RelayKey(id, read(value)?),
        Kind::Policy => Object::Policy(id, read(value)?),
        Kind::DataPlane => {
            read::<DataPlane>(value)?;
            Object::DataPlane(id)
        }
    })
}

fn joined(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

/// `; did you mean ...?`, or nothing.
pub(super) fn did_you_mean<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    crds::nearest(written, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
