//! `relay check`: every way in which manifests can be wrong is said with file, line, field, value and remedy.
//!
//! Each `bad/NAME.yaml` (or directory `bad/NAME`) has what is said of it in `bad/NAME.txt`. After a change that is meant,
//! write them anew with `RELAY_BLESS=1` and read every line.

use std::{collections::BTreeSet, fs};

use crate::support::{directory, examples, path, run, tests};
use serde_json::Value;

/// The cases: names of files and directories.
fn cases() -> BTreeSet<String> {
    let entries = fs::read_dir(tests().join("bad")).expect("there are cases").map(|entry| entry.expect("readable"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("names are UTF-8"));
    names.filter(|name| !name.ends_with(".txt")).collect()
}

#[test]
fn every_fault_is_named_with_its_place_and_its_remedy() {
    let bless = std::env::var_os("RELAY_BLESS").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let said = run(&["check", &format!("bad/{case}")]);
        assert_eq!(said.stderr, "", "{case}");
        let golden = tests().join("bad").join(case.trim_end_matches(".yaml")).with_extension("txt");
        let text = format!("{}exit {}\n", said.stdout, said.code);
        if bless {
            fs::write(&golden, &text).expect("golden files are writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if text != expected {
            differing.push(format!("{case}\nexpected:\n{expected}\nsaid:\n{text}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
    assert!(cases().len() > 30);
}

#[test]
fn no_finding_quotes_a_secret() {
    for case in cases() {
        for output in ["human", "json"] {
            let said = run(&["check", &format!("bad/{case}"), "--output", output]);
            assert!(!said.stdout.contains("sk-canary") && !said.stdout.contains("hunter2"), "{case}: {}", said.stdout);
        }
    }
}

#[test]
fn every_example_passes_without_any_variable_set() {
    let mut checked = 0;
    for entry in fs::read_dir(examples()).expect("there are examples") {
        let dir = entry.expect("readable").path();
        // The Secrets of two are made in the cluster. The third is a repository with overlays: what they render to is checked
        // where kubectl is.
        if ["kubernetes", "sidecar", "gitops"].iter().any(|name| dir.ends_with(name)) {
            continue;
        }
        let said = run(&["check", dir.to_str().expect("UTF-8")]);
        assert_eq!((said.code, said.stdout.lines().count()), (0, 1), "{}: {}", dir.display(), said.stdout);
        checked += 1;
    }
    assert!(checked >= 6);
}

#[test]
fn secrets_that_are_in_the_cluster_alone_are_supposed_where_that_is_asked_for() {
    let example = examples().join("kubernetes");
    let said = run(&["check", example.to_str().expect("UTF-8")]);
    assert_eq!(said.code, 1, "{}", said.stdout);
    assert!(said.stdout.contains("names no Secret"), "{}", said.stdout);
    let said = run(&["check", example.to_str().expect("UTF-8"), "--secrets-elsewhere"]);
    assert_eq!(said.code, 0, "{}", said.stdout);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let supposed = |name| format!("Secret default/{name} is taken as being in the cluster");
    assert_eq!(lines[..2], [supposed("my-app-token"), supposed("providers")]);
    assert!(lines.len() == 3 && lines[2].ends_with("nothing refused, 0 warnings, 0 notes"), "{lines:?}");
    // Its applications are not Relay's to check.
    let said = run(&["check", examples().join("sidecar").to_str().expect("UTF-8"), "--secrets-elsewhere"]);
    assert!(said.code == 0 && said.stdout.ends_with("nothing refused, 0 warnings, 2 notes\n"), "{}", said.stdout);
}

#[test]
fn the_same_findings_are_printed_as_json() {
    let said = run(&["check", "bad/unknown-field.yaml", "--output", "json"]);
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(said.code, 1);
    assert_eq!(found["objects"]["Host"], 1);
    let first = &found["findings"][0];
    assert_eq!(
        (&first["file"], &first["line"], &first["severity"], &first["object"]),
        (&"bad/unknown-field.yaml".into(), &5.into(), &"refused".into(), &"Host default/openai".into())
    );
}

#[test]
fn a_broken_object_costs_only_itself() {
    let host = |name: &str, field: &str| {
        format!(
            "apiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata:\n  name: {name}\nspec:\n  protocol: OpenAI\n  \
             {field}: https://api.example.com\n---\n"
        )
    };
    let text = [host("good", "baseURL"), host("bad", "basURL"), "a: [\n---\n".to_owned(), host("fine", "baseURL")];
    let dir = directory(&[("all.yaml", &text.concat())]);
    let compiled = run(&["compile", path(&dir), "--output", "json"]);
    let table: Value = serde_json::from_str(&compiled.stdout).expect("JSON");
    let hosts = table["table"]["hosts"].as_object().expect("hosts");
    let usable: Vec<_> =
        hosts.iter().filter(|(_, row)| row.get("usable").is_some()).map(|(id, _)| id.as_str()).collect();
    assert_eq!((compiled.code, usable), (1, vec!["default/fine", "default/good"]));
    assert!(hosts["default/bad"]["invalid"]["reason"].as_str().expect("a reason").contains("did you mean `baseURL`?"));
    assert_eq!(compiled.stderr.lines().count(), 3, "{}", compiled.stderr);
}

#[test]
fn objects_live_in_the_namespace_that_is_asked_for() {
    let dir = examples().join("quickstart");
    let compiled = run(&["compile", dir.to_str().expect("UTF-8"), "--namespace", "team-a", "--output", "json"]);
    let table: Value = serde_json::from_str(&compiled.stdout).expect("JSON");
    assert_eq!(table["table"]["settings"]["catalogNamespace"], "team-a");
    let names: Vec<_> = table["table"]["models"].as_object().expect("models").keys().collect();
    assert_eq!(names, ["team-a/demo-chat", "team-a/demo-messages"]);
}

#[test]
fn a_directory_that_does_not_exist_is_an_error_of_the_command() {
    let said = run(&["check", "nowhere"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.starts_with("relay: reading manifests from `nowhere`: "), "{}", said.stderr);
}

#[test]
fn the_manifests_of_the_documentation_pass() {
    let page = fs::read_to_string(tests().join("../../docs/resources.md")).expect("the page is checked in");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let text: Vec<&str> = blocks.collect();
    let dir = directory(&[("page.yaml", &text.join("---\n"))]);
    let said = run(&["check", path(&dir), "--catalog-namespace", "platform"]);
    assert_eq!((said.code, said.stdout.lines().count()), (0, 1), "{}", said.stdout);
    assert!(
        said.stdout.starts_with("1 Host, 2 Models, 1 HostKey, 1 RelayKey, 1 Policy: nothing refused"),
        "{}",
        said.stdout
    );
}
