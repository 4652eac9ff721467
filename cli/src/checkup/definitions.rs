//! Whether the cluster has the definitions of Relay's kinds, and whether they are those of this program.

use std::collections::{BTreeMap, BTreeSet};

use crds::{GROUP, Kind, VERSION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::finding::Finding;
use crate::cluster::{Cluster, Doing, Fault, Trouble};

const INSTALL: &str = "relay crds | kubectl apply --server-side -f -";
/// Whoever made the definition that is there would else be told of as a conflict.
const REPLACE: &str = "relay crds | kubectl apply --server-side --force-conflicts -f -";
const PAGE: &str = "docs/kubectl.md#check---cluster";

/// What there is to say of them, and whether all kinds can be asked for.
pub(super) async fn findings(cluster: &Cluster) -> (Vec<Finding>, bool) {
    let mut findings = Vec::new();
    let mut same = Vec::new();
    for kind in Kind::ALL {
        match installed(cluster, kind).await {
            Ok(Some(found)) => match judged(kind, &found) {
                Some(finding) => findings.push(finding),
                None => same.push(kind.plural()),
            },
            Ok(None) => findings.push(missing(kind)),
            Err(fault) if fault.trouble == Trouble::Forbidden => return by_discovery(cluster, &fault).await,
            Err(fault) => findings.push(Finding::failed("definitions", fault.to_string())),
        }
    }
    if same.len() == Kind::ALL.len() {
        let said = format!("the definitions of {} are those of this program ({VERSION})", same.join(", "));
        findings.push(Finding::fine("definitions", said));
    } else if !same.is_empty() {
        findings.push(Finding::fine("definitions", format!("those of {} are of this program", same.join(", "))));
    }
    let are_served = findings.iter().all(|finding| finding.check != "definitions-served");
    (findings, are_served)
}

async fn installed(cluster: &Cluster, kind: Kind) -> Result<Option<Definition>, Fault> {
    let api: Api<Definition> = Api::all(cluster.client.clone());
    let name = name(kind);
    let (group, plural) = ("apiextensions.k8s.io", "customresourcedefinitions");
    let doing = Doing { verb: "get", group, plural, namespace: None, name: Some(&name) };
    cluster.ask(doing, api.get_opt(&name)).await
}

fn name(kind: Kind) -> String {
    format!("{}.{GROUP}", kind.plural())
}

fn missing(kind: Kind) -> Finding {
    let said = format!("the cluster does not know {kind}: definition `{}` is not installed", name(kind));
    Finding::failed("definitions-served", said).remedy(INSTALL).see(PAGE)
}

/// What is wrong with a definition; absent: nothing.
fn judged(kind: Kind, found: &Definition) -> Option<Finding> {
    let name = found.name_any();
    let version = found.spec.versions.iter().find(|version| version.name == VERSION);
    let Some(version) = version.filter(|version| version.served) else {
        let served = found.spec.versions.iter().filter(|version| version.served).map(|version| version.name.as_str());
        let served: Vec<&str> = served.collect();
        let said = format!("`{name}` serves {} and not {VERSION}, which this program reads", served.join(", "));
        return Some(Finding::failed("definitions-served", said).remedy(replacement(found)).see(PAGE));
    };
    let status = found.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    if let Some(refused) = conditions.into_iter().find(|one| one.type_ != "Terminating" && one.status == "False") {
        let why = refused.message.as_deref().unwrap_or_default();
        let said = format!("`{name}` is not in effect: {}=False {why}", refused.type_);
        return Some(
            Finding::failed("definitions-served", said).remedy(format!("kubectl describe crd {name}")).see(PAGE),
        );
    }
    let stored: BTreeSet<&str> =
        status.and_then(|status| status.stored_versions.as_ref()).into_iter().flatten().map(String::as_str).collect();
    if !version.storage || stored.iter().any(|stored| *stored != VERSION) {
        let stored: Vec<&str> = stored.into_iter().collect();
        let said = format!("objects of `{name}` are stored as {}, and {VERSION} is meant", stored.join(", "));
        let rewrite = format!("kubectl get {name} -A -o yaml | kubectl replace -f -");
        return Some(Finding::warning("definitions-stored", said).remedy(replacement(found)).remedy(rewrite).see(PAGE));
    }
    different(kind, &name, found)
}

/// In what an installed definition differs from this program's.
fn different(kind: Kind, name: &str, found: &Definition) -> Option<Finding> {
    let [ours, theirs] = [&crds::definition(kind), found].map(leaves);
    let lacks: Vec<&String> = ours.keys().filter(|path| is_field(path) && !theirs.contains_key(*path)).collect();
    let more: Vec<&String> = theirs.keys().filter(|path| is_field(path) && !ours.contains_key(*path)).collect();
    let differ = |path: &&String| !is_text(path) && ours.get(*path) != theirs.get(*path);
    let check = "definitions-current";
    let finding = match (fields(&lacks), fields(&more)) {
        (None, None) => {
            let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            match paths.into_iter().find(differ) {
                Some(path) => Finding::failed(
                    check,
                    format!("`{name}` has the fields of this program, but other rules, first at `{path}`"),
                ),
                None if ours != theirs => {
                    Finding::warning(check, format!("`{name}` differs from this program's in its descriptions alone"))
                }
                None => return None,
            }
        }
        (Some(lacks), None) => Finding::failed(check, format!("`{name}` is older than this program: it lacks {lacks}")),
        (None, Some(more)) => {
            let said = format!("`{name}` is newer than this program ({}): it has {more}", env!("CARGO_PKG_VERSION"));
            return Some(
                Finding::warning(check, said).hint("install the `relay` of the version that the cluster has").see(PAGE),
            );
        }
        (Some(lacks), Some(more)) => Finding::failed(
            check,
            format!("`{name}` is of another line than this program: it lacks {lacks} and has {more}"),
        ),
    };
    Some(finding.remedy(replacement(found)).see(PAGE))
}

/// How a definition is replaced: by Helm where Helm made it.
fn replacement(found: &Definition) -> String {
    let of = |name: &str| found.annotations().get(&format!("meta.helm.sh/release-{name}"));
    match (of("name"), of("namespace")) {
        (Some(release), Some(namespace)) => format!("helm upgrade {release} charts/relay-crds -n {namespace}"),
        _ => REPLACE.to_owned(),
    }
}

/// The first few fields, as a person writes them.
fn fields(paths: &[&String]) -> Option<String> {
    let mut names: Vec<String> = paths.iter().filter_map(|path| field(path)).collect();
    names.sort();
    names.dedup();
    let first: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => None,
        1..=3 => Some(first.join(", ")),
        more => Some(format!("{} and {} more", first.join(", "), more - 3)),
    }
}

/// `/properties/spec/properties/weight/type` is of `spec.weight`; what is no schema is of no field.
fn field(path: &str) -> Option<String> {
    let (_, schema) = path.split_once("openAPIV3Schema")?;
    let words: Vec<&str> = schema.split('/').collect();
    let names: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "properties").map(|pair| pair[1]).collect();
    Some(names.join(".")).filter(|name| !name.is_empty())
}

/// Whether a path is where a field says its type: each field has one.
fn is_field(path: &str) -> bool {
    path.ends_with("/type") && !path.ends_with("/properties/type") && field(path).is_some()
}

fn is_text(path: &str) -> bool {
    path.ends_with("/description")
}

/// What a definition says about its kind, flat: paths to words and numbers. What the API server adds by itself is left
/// out: other versions, names, metadata, status.
fn leaves(of: &Definition) -> BTreeMap<String, Value> {
    let version = of.spec.versions.iter().find(|version| version.name == VERSION);
    let mut all = BTreeMap::new();
    flatten("", &serde_json::to_value(version).unwrap_or_default(), &mut all);
    all.insert("scope".to_owned(), of.spec.scope.clone().into());
    all
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(inner) => {
            inner.iter().for_each(|(name, value)| flatten(&format!("{path}/{name}"), value, into));
        }
        Value::Array(inner) => {
            inner.iter().enumerate().for_each(|(at, value)| flatten(&format!("{path}/{at}"), value, into));
        }
        Value::Number(number) => _ = into.insert(path.to_owned(), number.as_f64().into()),
        // Absent and null are the same to the API server.
        Value::Null => {}
        Value::Bool(_) | Value::String(_) => _ = into.insert(path.to_owned(), value.clone()),
    }
}

/// Who may not read definitions still sees which kinds are served.
async fn by_discovery(cluster: &Cluster, forbidden: &Fault) -> (Vec<Finding>, bool) {
    let served = format!("{GROUP}/{VERSION}");
    let doing = Doing { verb: "get", group: "", plural: "/apis/llmrelay.io/v1alpha1", namespace: None, name: None };
    let resources = match cluster.ask(doing, cluster.client.list_api_group_resources(&served)).await {
        Ok(list) => list.resources,
        Err(fault) if fault.trouble == Trouble::Missing => Vec::new(),
        Err(fault) => return (vec![Finding::failed("definitions-served", fault.to_string())], false),
    };
    let is_served = |kind: &Kind| resources.iter().any(|resource| resource.name == kind.plural());
    let mut findings: Vec<Finding> =
        Kind::ALL.iter().filter(|kind| !is_served(kind)).map(|kind| missing(*kind)).collect();
    let are_served = findings.is_empty();
    if are_served {
        findings.push(Finding::fine("definitions", format!("the cluster serves all kinds of {served}")));
    }
    findings
        .push(Finding::unseen("definitions-current", format!("whether they are those of this program: {forbidden}")));
    (findings, are_served)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Mark, *};

    /// A definition of a cluster, with a change.
    fn installed(change: impl FnOnce(&mut Value)) -> Definition {
        let mut value = serde_json::to_value(crds::definition(Kind::HostKey)).unwrap();
        value["spec"]["names"]["listKind"] = "HostKeyList".into();
        value["spec"]["conversion"] = serde_json::json!({"strategy": "None"});
        value["status"] = serde_json::json!({
            "storedVersions": [VERSION], "acceptedNames": {"kind": "HostKey", "plural": "hostkeys"},
            "conditions": [{"type": "Established", "status": "True"}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn spec(value: &mut Value) -> &mut serde_json::Map<String, Value> {
        let schema = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"]["properties"].as_object_mut().unwrap()
    }

    fn told(change: impl FnOnce(&mut Value)) -> (Mark, String) {
        let finding = judged(Kind::HostKey, &installed(change)).expect("something is wrong");
        (finding.mark, finding.text().to_owned())
    }

    #[test]
    fn what_the_api_server_adds_makes_no_difference() {
        assert_eq!(judged(Kind::HostKey, &installed(|_| {})), None);
    }

    #[test]
    fn older_and_newer_definitions_are_told_apart_by_their_fields() {
        let (mark, older) = told(|value| _ = spec(value).remove("weight"));
        assert_eq!(mark, Mark::Failed);
        assert!(older.ends_with("is older than this program: it lacks `spec.weight`"), "{older}");
        let added = serde_json::json!({"type": "string"});
        let (mark, newer) = told(|value| _ = spec(value).insert("region".to_owned(), added));
        assert_eq!(mark, Mark::Warning);
        assert!(newer.ends_with("it has `spec.region`"), "{newer}");
    }

    #[test]
    fn other_rules_and_other_words_are_told() {
        let (mark, rules) = told(|value| spec(value)["weight"]["maximum"] = 5.into());
        assert_eq!(mark, Mark::Failed);
        assert!(rules.contains("other rules") && rules.contains("weight/maximum"), "{rules}");
        let (mark, words) = told(|value| spec(value)["weight"]["description"] = "x".into());
        assert_eq!(mark, Mark::Warning);
        assert!(words.contains("descriptions alone"), "{words}");
    }

    #[test]
    fn a_version_that_is_not_served_or_not_stored_is_told() {
        let (_, served) = told(|value| value["spec"]["versions"][0]["name"] = "v1".into());
        assert!(served.contains("serves v1 and not v1alpha1"), "{served}");
        let (_, stored) = told(|value| value["status"]["storedVersions"] = serde_json::json!(["v1alpha0", VERSION]));
        assert!(stored.contains("stored as v1alpha0, v1alpha1"), "{stored}");
    }
}
