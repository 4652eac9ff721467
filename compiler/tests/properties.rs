//! What holds for all resources: order means nothing, compiling twice gives the same bytes, a bad object costs only
//! itself and what depends on it, the table survives JSON, and no secret gets into table or reports.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use compiler::{Compilation, Malformed, Resources, compile};
use crds::Kind;
use proptest::prelude::*;
use serde_json::json;
use table::{ObjectRef, RoutingTable, Secret};

/// What no text that is shown may contain.
const CANARY: &str = "canary";

/// A document of one of a few names per kind, so that references hit, miss, cross namespaces and collide.
fn document() -> impl Strategy<Value = String> {
    let namespace = prop_oneof![3 => Just("team-a"), 1 => Just("team-b"), 1 => Just("catalog")];
    (0..7_usize, namespace, 0..4_usize, 0..4_usize, 0..3_usize, 0..6_usize).prop_map(
        |(kind, namespace, own, named, elsewhere, fault)| {
            let reference = match elsewhere {
                0 => "namespace: catalog, ",
                1 => "namespace: team-b, ",
                _ => "",
            };
            let grant = if fault % 2 == 0 { "All" } else { "Same" };
            let head = format!("metadata: {{name: n{own}, namespace: {namespace}}}");
            let spec = spec(kind, reference, named, fault, grant);
            let (version, kind) = match kind {
                0 => ("v1", "Secret"),
                1 => ("llmrelay.io/v1alpha1", "Host"),
                2 => ("llmrelay.io/v1alpha1", "HostKey"),
                3 | 4 => ("llmrelay.io/v1alpha1", "Model"),
                5 => ("llmrelay.io/v1alpha1", "Policy"),
                _ => ("llmrelay.io/v1alpha1", "RelayKey"),
            };
            format!("apiVersion: {version}\nkind: {kind}\n{head}\n{spec}\n")
        },
    )
}

fn spec(kind: usize, reference: &str, named: usize, fault: usize, grant: &str) -> String {
    let to = format!("{{{reference}name: n{named}}}");
    let allowed = format!("allowedNamespaces: {{from: {grant}}}");
    match (kind, fault) {
        (0, 0) => r#"stringData: {k: "  "}"#.to_owned(),
        (0, _) => format!("stringData: {{k: \"canary-of-thirty-two-characters-{named}\\n\"}}"),
        (1, 0) => format!("spec: {{protocol: OpenAI, baseURL: \"https://127.0.0.1\", {allowed}}}"),
        (1, 1) => "spec: {protocol: OpenAI}".to_owned(),
        (1, _) => format!("spec: {{protocol: OpenAI, baseURL: \"https://h{named}.example\", {allowed}}}"),
        (2, 0) => format!("spec: {{hostRef: {to}, source: {{env: {{name: RELAY_KEY_X}}}}, {allowed}}}"),
        (2, _) => format!("spec: {{hostRef: {to}, source: {{secretKeyRef: {{name: n{named}, key: k}}}}}}"),
        (3, 0) => format!("spec: {{modelName: m{named}, hosts: [{{name: b, hostRef: {to}}}], pricing: {{}}}}"),
        (3, _) => format!("spec: {{modelName: m{named}, hosts: [{{name: b, hostRef: {to}}}], {allowed}}}"),
        (4, _) => format!("spec: {{virtual: {{strategy: Weighted, targets: [{{modelRef: {to}}}]}}, {allowed}}}"),
        (5, 0) => "spec: {hosts: {}}".to_owned(),
        (5, _) => format!("spec: {{models: {{allow: [\"m{named}\"], refs: [{to}]}}, {allowed}}}"),
        (_, 0) => format!("spec: {{policyRefs: [{to}]}}"),
        (_, _) => format!("spec: {{policyRefs: [{to}], tokenSecretRef: {{name: n{named}, key: k}}}}"),
    }
}

/// Documents of which no two are the same object.
fn documents() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(document(), 0..24).prop_map(|documents| {
        let mut seen = BTreeSet::new();
        let head = |document: &str| document.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
        documents.into_iter().filter(|document| seen.insert(head(document))).collect()
    })
}

fn meaning(documents: &[String]) -> Compilation {
    compile(&support::resources(&documents.join("---\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn order_means_nothing((documents, shuffled) in documents().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))) {
        prop_assert_eq!(meaning(&documents), meaning(&shuffled));
    }

    #[test]
    fn compiling_twice_gives_the_same_bytes(documents in documents()) {
        let (one, other) = (meaning(&documents), meaning(&documents));
        prop_assert_eq!(serde_json::to_vec(&one.table).unwrap(), serde_json::to_vec(&other.table).unwrap());
        prop_assert_eq!(one.table.digest(), other.table.digest());
        prop_assert_eq!(one.credentials.digest(), other.credentials.digest());
        prop_assert_eq!(one.reports, other.reports);
    }

    #[test]
    fn the_table_survives_json(documents in documents()) {
        let table = meaning(&documents).table;
        let json = serde_json::to_string(&table).unwrap();
        prop_assert_eq!(serde_json::from_str::<RoutingTable>(&json).unwrap(), table);
    }

    #[test]
    fn every_object_has_one_report_and_one_row(documents in documents()) {
        let resources = support::resources(&documents.join("---\n"));
        let compilation = compile(&resources);
        let objects = documents.iter().filter(|document| !document.contains("kind: Secret")).count();
        prop_assert_eq!(compilation.reports.len(), objects);
        let table = &compilation.table;
        let rows = table.hosts.len() + table.models.len() + table.host_keys.len();
        prop_assert_eq!(rows + table.relay_keys.len() + table.policies.len(), objects);
    }

    #[test]
    fn no_secret_is_in_table_or_reports(documents in documents()) {
        let compilation = meaning(&documents);
        for shown in [
            serde_json::to_string(&compilation.table).unwrap(),
            serde_json::to_string(&compilation.reports).unwrap(),
            format!("{compilation:?}"),
        ] {
            prop_assert!(!shown.contains(CANARY), "{}", shown);
        }
    }

    #[test]
    fn a_bad_object_that_nothing_names_costs_only_itself(documents in documents(), kind in 0..5_usize) {
        let resources = support::resources(&documents.join("---\n"));
        let id = ObjectRef::new("team-a", "zzzzzzzzzzzz-stranger");
        let mut worse = resources.clone();
        worse.malformed.push(Malformed { kind: Kind::ALL[kind], id: id.clone(), reason: "is wrong".to_owned() });
        prop_assert_eq!(compile(&resources), without(compile(&worse), &id));
        let mut worse = resources.clone();
        add_bad(&mut worse, &id, kind);
        prop_assert_eq!(compile(&resources), without(compile(&worse), &id));
    }

    #[test]
    fn an_object_of_another_namespace_that_is_not_open_changes_nothing_elsewhere(documents in documents()) {
        let is_theirs = |document: &String| document.contains("namespace: team-b}");
        let hidden = documents.iter().filter(|document| is_theirs(document) && document.contains("from: Same")).cloned();
        // Their open objects are left out: what they name is part of how they are, and that is seen.
        let rest: Vec<String> = documents.iter().filter(|document| !is_theirs(document)).cloned().collect();
        let all: Vec<String> = rest.iter().cloned().chain(hidden).collect();
        prop_assume!(all.len() > rest.len());
        let elsewhere = |compilation: Compilation| {
            let reports = compilation.reports.into_iter().filter(|report| report.id.namespace != "team-b");
            // A token means one RelayKey in all namespaces; who loses one is told no more than that.
            let is_conflict = |report: &compiler::Report| format!("{report:?}").contains("Conflicted");
            reports.map(|report| if is_conflict(&report) { None } else { Some(report) }).collect::<Vec<_>>()
        };
        prop_assert_eq!(elsewhere(meaning(&all)), elsewhere(meaning(&rest)));
    }
}

/// An object that could be read but makes no sense.
fn add_bad(resources: &mut Resources, id: &ObjectRef, kind: usize) {
    let mut bad = support::resources(BAD);
    fn moved<T>(to: &mut BTreeMap<ObjectRef, T>, id: &ObjectRef, from: &mut BTreeMap<ObjectRef, T>) {
        to.extend(from.pop_first().map(|(_, object)| (id.clone(), object)));
    }
    match Kind::ALL[kind] {
        Kind::Host => moved(&mut resources.hosts, id, &mut bad.hosts),
        Kind::Model => moved(&mut resources.models, id, &mut bad.models),
        Kind::HostKey => moved(&mut resources.host_keys, id, &mut bad.host_keys),
        Kind::RelayKey => moved(&mut resources.relay_keys, id, &mut bad.relay_keys),
        Kind::Policy => moved(&mut resources.policies, id, &mut bad.policies),
        Kind::DataPlane => unreachable!("it is not compiled"),
    }
}

/// One bad object of each kind; the Model claims a name that others have.
const BAD: &str = "# unchecked
kind: Host
metadata: {name: bad}
spec: {protocol: OpenAI, baseURL: 'https://10.0.0.1'}
---
kind: Model
metadata: {name: bad}
spec: {modelName: m1, aliases: [m0, m2, m3], virtual: {strategy: Weighted, targets: [{modelRef: {name: zzzzzzzzzzzz-stranger}}]}}
---
kind: HostKey
metadata: {name: bad}
spec: {hostRef: {name: zzzzzzzz}, source: {}}
---
kind: RelayKey
metadata: {name: bad}
spec: {policyRefs: [], tokenHash: canary}
---
kind: Policy
metadata: {name: bad}
spec: {hosts: {}}
";

fn without(mut compilation: Compilation, id: &ObjectRef) -> Compilation {
    compilation.reports.retain(|report| report.id != *id);
    compilation.table.hosts.remove(id);
    compilation.table.models.remove(id);
    compilation.table.host_keys.remove(id);
    compilation.table.relay_keys.remove(id);
    compilation.table.policies.remove(id);
    compilation
}

/// Virtual models of which each has the next as its target, and the last the one given.
fn chain(length: usize, last: usize) -> Resources {
    let mut resources = Resources::default();
    for n in 0..length {
        let target = if n + 1 == length { last } else { n + 1 };
        let targets = json!([{"modelRef": {"name": format!("m{target}")}}]);
        let model = json!({
            "apiVersion": "llmrelay.io/v1alpha1",
            "kind": "Model",
            "metadata": {"name": format!("m{n}")},
            "spec": {"virtual": {"strategy": "Weighted", "targets": targets}},
        });
        resources.models.insert(ObjectRef::new("team-a", format!("m{n}")), serde_json::from_value(model).unwrap());
    }
    resources
}

#[test]
fn virtual_models_may_be_nested_deeper_than_a_stack_and_go_round_in_any_circle() {
    let length = 20_000;
    let open = compile(&chain(length, length));
    assert_eq!(open.table.models.values().filter_map(table::Row::usable).count(), length);
    let closed = compile(&chain(length, 0));
    assert_eq!(closed.table.models.values().filter_map(table::Row::usable).count(), 0);
    let message = &closed.reports[0].conditions[0].message;
    assert_eq!(
        message,
        "spec.virtual.targets: the Model leads back to itself (`m0` -> `m1` -> `m2` -> `m3` -> ... -> `m19997` -> \
         `m19998` -> `m19999` -> `m0`): take out one of these targets"
    );
    let late = compile(&chain(length, length / 2));
    assert_eq!(late.table.models.values().filter_map(table::Row::usable).count(), length / 2);
}

#[test]
fn white_space_around_a_credential_is_not_part_of_it() {
    let mut resources = support::resources(
        "apiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata: {name: h}\n\
         spec: {protocol: OpenAI, baseURL: 'https://h.example'}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {name: k}\n\
         spec: {hostRef: {name: h}, source: {secretKeyRef: {name: s, key: k}}}\n",
    );
    let value = Secret::new(b" canary\r\n".to_vec());
    resources.secrets.insert(ObjectRef::new("team-a", "s"), Arc::new([("k".to_owned(), value)].into()));
    let credential = compile(&resources).credentials.host_keys.remove(&ObjectRef::new("team-a", "k"));
    assert_eq!(credential, Some(table::Credential::Value(Secret::new("canary".to_owned()))));
}
