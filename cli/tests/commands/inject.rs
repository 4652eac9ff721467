//! `relay inject`: every `inject/NAME.in.yaml` becomes `inject/NAME.out.yaml`, and what is said of it `inject/NAME.txt`. After
//! a change that is meant, write them anew with `RELAY_BLESS=1` and read every line.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::support::{directory, path, run, run_with, tests};

/// Names without their ends.
fn cases() -> BTreeSet<String> {
    let entries = fs::read_dir(tests().join("inject")).expect("there are cases").map(|entry| entry.expect("readable"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("names are UTF-8"));
    names.filter_map(|name| name.strip_suffix(".in.yaml").map(str::to_owned)).collect()
}

#[test]
fn manifests_become_what_their_golden_files_say() {
    let bless = std::env::var_os("RELAY_BLESS").is_some();
    for case in cases() {
        let said = run(&["inject", "-f", &format!("inject/{case}.in.yaml")]);
        assert_eq!(said.code, 0, "{case}: {}", said.stderr);
        for (end, text) in [("out.yaml", &said.stdout), ("txt", &said.stderr)] {
            let golden = tests().join(format!("inject/{case}.{end}"));
            if bless {
                fs::write(&golden, text).expect("golden files are writable");
            }
            assert_eq!(*text, fs::read_to_string(&golden).unwrap_or_default(), "{case}.{end}");
        }
    }
    assert!(cases().len() > 2);
}

#[test]
fn what_was_injected_stays_byte_for_byte() {
    for case in cases() {
        let once = run(&["inject", "-f", &format!("inject/{case}.in.yaml")]).stdout;
        let twice = run_with(&["inject", "-f", "-", "--image", "other:2"], &once);
        assert_eq!((twice.code, twice.stdout), (0, once), "{case}");
    }
}

#[test]
fn a_directory_is_one_text_in_the_order_of_its_files() {
    let (asking, other) = (pod("a", &json!({"llmrelay.io/inject": "true"})), "# nothing more\nkind: Other");
    let dir = directory(&[("b.yaml", other), ("a.json", &asking.to_string()), ("notes.txt", "kind: No")]);
    let said = run(&["inject", "-f", path(&dir)]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let (first, second) = said.stdout.split_once("---\n").expect("there are two documents");
    assert!(first.starts_with("apiVersion: v1\nkind: Pod\n") && first.contains("--sidecar"), "{first}");
    assert_eq!(second, other);
    assert_eq!(said.stderr, "Pod a: has Relay beside it\n");
}

#[test]
fn a_manifest_that_cannot_be_injected_is_named_and_nothing_is_printed() {
    let asks = json!({"llmrelay.io/inject": "true"});
    let mut taken = pod("a", &asks);
    taken["spec"]["volumes"] = json!([{"name": "relay", "emptyDir": {}}]);
    let unquoted = pod("a", &json!({"llmrelay.io/inject": true}));
    let fine = pod("fine", &asks);
    let wrong = [
        (format!("{fine}\n---\n{taken}"), "stdin:2: Pod a: spec.volumes[0].name is `relay`"),
        (unquoted.to_string(), "llmrelay.io/inject is true, which is no text: write \"true\" with quotes"),
        (format!("{fine}\n---\nkind: [\n"), "stdin:"),
    ];
    for (text, words) in wrong {
        let said = run_with(&["inject", "-f", "-"], &text);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{}", said.stderr);
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    let said = run(&["inject", "-f", "inject/there-is-none.yaml"]);
    assert!(said.code == 2 && said.stderr.contains("there-is-none.yaml"), "{}", said.stderr);
}

fn pod(name: &str, labels: &Value) -> Value {
    let spec = json!({"containers": [{"name": "app", "image": "app:1"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}
