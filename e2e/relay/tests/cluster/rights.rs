//! What the service accounts may do: the operator what `relay-operator rbac` says and nothing else, data planes nothing.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;
use site::{Programs, Site};

/// One right that `kubectl auth can-i --list` shows: resources, URLs, names and verbs.
type Right = [String; 4];

/// The rights of whoever has this kubeconfig in a namespace, and the list as kubectl prints it.
fn rights(site: &Site<'_>, kubeconfig: &Path, namespace: &str) -> (BTreeSet<Right>, String) {
    let list = ["auth", "can-i", "--list", "--namespace", namespace];
    let printed = site.plane.try_kubectl(kubeconfig, &list, "").expect("everybody may ask for their rights");
    let mut lines = printed.lines();
    let header = lines.next().expect("a table has a header");
    let columns = ["Non-Resource URLs", "Resource Names", "Verbs"].map(|name| header.find(name).expect("a column"));
    let cell = |line: &str, from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or("").trim().to_owned();
    let [urls, names, verbs] = columns;
    let rows = lines.map(|line| {
        [cell(line, 0, urls), cell(line, urls, names), cell(line, names, verbs), cell(line, verbs, line.len())]
    });
    // One rule may be there twice, once by each binding.
    (rows.collect(), printed)
}

/// The rights that the rules of the printed roles of this kind give, one resource and verbs a row as kubectl has it.
fn printed(site: &Site<'_>, kinds: &[&str]) -> BTreeSet<(String, String, String)> {
    let mut command = Command::new(&Programs::built().operator);
    let output =
        command.args(["rbac", "--namespace", &site.namespace]).output().expect("the operator's program starts");
    let text = String::from_utf8(output.stdout).expect("manifests are UTF-8");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("manifests are YAML");
    let is_ours = |document: &&Value| document["metadata"]["name"] == "relay-operator";
    let is_kind = |document: &&Value| kinds.iter().any(|kind| document["kind"] == *kind);
    let rules = documents.iter().filter(is_ours).filter(is_kind);
    let rules = rules.flat_map(|role| role["rules"].as_array().expect("a role has rules"));
    let mut all = BTreeSet::new();
    for rule in rules {
        let words = |field: &str| -> Vec<String> {
            let words = rule[field].as_array().into_iter().flatten();
            words.map(|word| word.as_str().expect("a rule holds words").to_owned()).collect()
        };
        let names = words("resourceNames");
        for (group, resource) in words("apiGroups")
            .iter()
            .flat_map(|group| words("resources").into_iter().map(move |resource| (group.clone(), resource)))
        {
            for verb in words("verbs") {
                for name in names.iter().map(String::as_str).chain(names.is_empty().then_some("")) {
                    let full = match (group.as_str(), resource.split_once('/')) {
                        ("", _) => resource.clone(),
                        (group, None) => format!("{resource}.{group}"),
                        (group, Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
                    };
                    all.insert((full, name.to_owned(), verb.clone()));
                }
            }
        }
    }
    all
}

/// The same, a verb a row.
fn by_verb(rights: &BTreeSet<Right>) -> BTreeSet<(String, String, String)> {
    let words =
        |cell: &str| -> Vec<String> { cell.trim_matches(['[', ']']).split_whitespace().map(str::to_owned).collect() };
    let mut all = BTreeSet::new();
    for [resource, _, names, verbs] in rights {
        let names = words(names);
        for verb in words(verbs) {
            for name in names.iter().map(String::as_str).chain(names.is_empty().then_some("")) {
                all.insert((resource.clone(), name.to_owned(), verb.clone()));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_do_what_its_roles_say_and_data_planes_nothing() {
    let Some(site) = Site::shared().await else { return };
    let nobody = site.plane.service_account(&site.namespace, "nobody").await.kubeconfig().await;
    let data_plane = site.plane.service_account(&site.namespace, "relay-dataplane").await.kubeconfig().await;
    let operator = site.kubeconfig_of_operators();
    let elsewhere = site.plane.namespace();
    let own = &site.namespace;

    let (of_nobody, _) = rights(&site, &nobody, own);
    let (of_data_plane, shown) = rights(&site, &data_plane, own);
    println!("data plane:\n{shown}");
    assert_eq!(of_data_plane, of_nobody, "a data plane has no right of its own");
    assert!(
        of_nobody.iter().all(|[resource, ..]| resource.is_empty() || resource.starts_with("self")),
        "{of_nobody:?}"
    );

    let (of_operator, shown) = rights(&site, operator, own);
    println!("operator, in its own namespace:\n{shown}");
    let more = &by_verb(&of_operator) - &by_verb(&of_nobody);
    assert_eq!(more, printed(&site, &["ClusterRole", "Role"]));
    let (of_operator, shown) = rights(&site, operator, &elsewhere);
    println!("operator, in a namespace that it does not watch:\n{shown}");
    let more = &by_verb(&of_operator) - &by_verb(&of_nobody);
    assert_eq!(more, printed(&site, &["ClusterRole"]));
    assert!(!more.iter().any(|(resource, ..)| resource == "secrets"));
}
