//! `relay seal`: what it seals opens where it was sealed for and nowhere else, and a credential is never printed.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    server::{Server, ask, chat, until},
    support::{Ran, directory, examples, path, run, run_with},
};

const CANARY: &str = "sk-canary-of-the-provider";

const HOSTS: &str = "apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: one, namespace: team}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com'}
---
apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: two, namespace: team}
spec: {protocol: OpenAI, baseURL: 'https://api.example.org'}
";

const IN_PLACE: &str = "# the keys of team
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: main, namespace: team}
spec:
  hostRef: {name: one}
  source: # so far
    env: {name: RELAY_KEY_ONE}
  weight: 7 # of ten
";

/// A directory with two Hosts, and one with the sealing keys `a` and `b`.
struct Case {
    manifests: TempDir,
    keys: TempDir,
}

impl Case {
    fn new(manifest: &str) -> Self {
        let case =
            Self { manifests: directory(&[("hosts.yaml", HOSTS), ("key.yaml", manifest)]), keys: directory(&[]) };
        for id in ["a", "b"] {
            let made = run(&["seal", "--generate-key", &case.key(id)]);
            assert_eq!((made.code, made.stderr.as_str()), (0, ""));
        }
        case
    }

    fn key(&self, id: &str) -> String {
        format!("{}/{id}", path(&self.keys))
    }

    fn manifest(&self) -> String {
        format!("{}/key.yaml", path(&self.manifests))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.manifest()).expect("the manifest is there")
    }

    fn seal_in_place(&self) -> Ran {
        run_with(&["seal", "--key-file", &self.key("a"), "--manifest", &self.manifest()], &format!("{CANARY}\n"))
    }

    /// `relay check` with these keys: its code and what it says.
    fn check(&self, keys: &[&str]) -> (i32, String) {
        let keys: Vec<_> = keys.iter().flat_map(|id| ["--key-file".to_owned(), self.key(id)]).collect();
        let arguments = ["check", path(&self.manifests)].into_iter().chain(keys.iter().map(String::as_str));
        let checked = run(&arguments.collect::<Vec<_>>());
        (checked.code, checked.stdout)
    }

    fn rewrap(&self) -> Ran {
        let (old, new) = (self.key("a"), self.key("b"));
        run(&["seal", "--rewrap", "--old-key-file", &old, "--key-file", &new, "--manifest", path(&self.manifests)])
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let keys = directory(&[]);
    let file = format!("{}/2026-a", path(&keys));
    assert_eq!(run(&["seal", "--generate-key", &file]).code, 0);
    let about = fs::metadata(&file).unwrap();
    assert_eq!((about.permissions().mode() & 0o777, about.len()), (0o600, 32));
    let before = fs::read(&file).unwrap();
    let again = run(&["seal", "--generate-key", &file]);
    assert!(again.code == 2 && again.stderr.contains("2026-a"), "{again:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_printed_host_key_is_accepted_and_opens_with_its_key_alone() {
    let case = Case::new("");
    let key = case.key("a");
    let sealing = ["seal", "--key-file", &key, "--namespace", "team", "--name", "main", "--host", "one"];
    let printed = run_with(&sealing, &format!("  {CANARY}\n"));
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert!(!printed.stdout.contains("canary"), "{}", printed.stdout);
    assert_ne!(run_with(&sealing, CANARY).stdout, printed.stdout, "no two are alike");
    fs::write(case.manifest(), &printed.stdout).unwrap();
    assert_eq!(case.check(&[]).0, 0);
    let (code, said) = case.check(&["a", "b"]);
    assert!(code == 0 && said.contains("\n1 of 1 sealed credential open\n"), "{said}");
    let (code, said) = case.check(&["b"]);
    assert!(code == 1 && said.contains("key.yaml:10: HostKey team/main: spec.source.encrypted: "), "{said}");
    assert!(said.contains("sealed with key `a`, which no --key-file gives"), "{said}");
}

#[test]
fn a_sealed_value_that_is_moved_or_altered_does_not_open() {
    let case = Case::new(IN_PLACE);
    assert_eq!(case.seal_in_place().code, 0);
    let sealed = case.text();
    let field = |name: &str| {
        let line = sealed.lines().find(|line| line.trim_start().starts_with(name)).expect("the field is there");
        line.split('"').nth(1).expect("its value is quoted").to_owned()
    };
    let swapped = |name: &str| {
        let value = field(name);
        let first = if value.starts_with('A') { "B" } else { "A" };
        sealed.replace(&value, &format!("{first}{}", &value[1..]))
    };
    for (what, text) in [
        ("another name", sealed.replace("name: main", "name: other")),
        ("another host", sealed.replace("hostRef: {name: one}", "hostRef: {name: two}")),
        ("another wrapped key", swapped("wrappedKey")),
        ("another nonce", swapped("nonce")),
        ("another ciphertext", swapped("ciphertext")),
    ] {
        fs::write(case.manifest(), text).unwrap();
        let (code, said) = case.check(&["a"]);
        assert!(code == 1 && said.contains("spec.source.encrypted: ") && said.contains("altered"), "{what}: {said}");
        assert_eq!(case.check(&[]).0, 0, "{what}: whether it opens is asked of nobody without a key");
    }
}

#[test]
fn a_manifest_keeps_all_but_its_source() {
    let case = Case::new(IN_PLACE);
    let said = case.seal_in_place();
    assert_eq!((said.code, said.stdout.contains("HostKey team/main in"), said.stderr.as_str()), (0, true, ""));
    let text = case.text();
    assert!(text.starts_with(&IN_PLACE[..IN_PLACE.find("  source").unwrap()]), "{text}");
    assert!(text.ends_with("\"\n  weight: 7 # of ten\n") && !text.contains("RELAY_KEY_ONE"), "{text}");
    assert_eq!(case.check(&["a"]).0, 0);
}

#[test]
fn another_key_takes_over_and_the_ciphertext_stays() {
    let case = Case::new(IN_PLACE);
    case.seal_in_place();
    let before = case.text();
    let said = case.rewrap();
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "1 sealed credential given to key `b`, in 1 file; 0 had it before\n")
    );
    let after = case.text();
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    let names: Vec<_> = changed.iter().map(|(line, _)| line.trim().split(':').next().unwrap()).collect();
    assert_eq!(names, ["keyID", "wrappedKey"]);
    assert_eq!((case.check(&["b"]).0, case.check(&["a"]).0), (0, 1));
    assert_eq!(case.rewrap().stdout, "0 sealed credentials given to key `b`, in 0 files; 1 had it before\n");
    assert_eq!(case.text(), after);
}

#[test]
fn nothing_is_written_where_one_of_several_does_not_open() {
    let case = Case::new(IN_PLACE);
    case.seal_in_place();
    let moved = case.text().replace("name: main", "name: moved");
    fs::write(case.manifests.path().join("z.yaml"), moved).unwrap();
    let before = case.text();
    let said = case.rewrap();
    assert!(said.code == 2 && said.stderr.contains("z.yaml: HostKey team/moved: it does not open"), "{}", said.stderr);
    assert_eq!(case.text(), before);
}

#[test]
fn what_cannot_be_sealed_is_refused_and_not_repeated() {
    let case = Case::new(IN_PLACE);
    for (credential, words) in
        [("", "empty"), ("sk-canary\nsk-canary", "position 9"), ("sk-canary\u{e9}", "position 9")]
    {
        let said = run_with(&["seal", "--key-file", &case.key("a"), "--manifest", &case.manifest()], credential);
        assert!(said.code == 2 && said.stderr.contains(words), "{}", said.stderr);
        assert!(!said.stderr.contains("canary"), "{}", said.stderr);
    }
    fs::write(case.key("short"), "short").unwrap();
    let said = run_with(&["seal", "--key-file", &case.key("short"), "--manifest", &case.manifest()], CANARY);
    assert!(said.code == 2 && said.stderr.contains("it has 5 bytes; 32 random ones"), "{}", said.stderr);
    let named = ["seal", "--key-file", &case.key("a"), "--namespace", "team", "--name", "Main", "--host", "one"];
    let said = run_with(&named, CANARY);
    assert!(said.code == 2 && said.stderr.contains("metadata.name"), "{}", said.stderr);
    assert_eq!(case.text(), IN_PLACE);
}

#[test]
fn a_malformed_sealed_value_is_refused_by_field_and_not_repeated() {
    let case = Case::new(IN_PLACE);
    case.seal_in_place();
    let text = case.text();
    let value = text.split("ciphertext: \"").nth(1).and_then(|rest| rest.split('"').next()).expect("it is there");
    fs::write(case.manifest(), text.replace(value, CANARY)).unwrap();
    let checked = run(&["check", path(&case.manifests), "--output", "json"]);
    let page: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, &page["refused"]), (1, &1.into()));
    let findings = page["findings"].as_array().unwrap().iter();
    let messages: Vec<_> = findings.filter(|one| one["severity"] == "refused").map(|one| &one["message"]).collect();
    let malformed =
        "spec.source.encrypted.ciphertext: the value must be base64 with padding, as `relay seal` writes it";
    assert_eq!(messages, [malformed]);
}

#[test]
fn the_example_opens_with_the_key_that_it_names() {
    let keys = directory(&[("2026-a", "not-for-production-example-key-1")]);
    let (example, key) = (examples().join("sealed-keys"), format!("{}/2026-a", path(&keys)));
    let said = run(&["check", example.to_str().expect("UTF-8"), "--key-file", &key]);
    assert!(said.code == 0 && said.stdout.starts_with("1 of 1 sealed credential open\n"), "{}", said.stdout);
}

#[test]
fn a_running_relay_opens_a_credential_when_its_key_arrives() {
    const TOKEN: &str = "token-of-the-tests-0123456789-abcdefghij";
    let demo = Server::demo();
    let hash = run_with(&["keys", "hash"], TOKEN).stdout;
    let rest = format!(
        "apiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata: {{name: one, namespace: team}}\nspec: {{protocol: OpenAI, \
         baseURL: 'http://{}', allowPlaintext: true, network: {{allowPrivateAddresses: true}}}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: Model\nmetadata: {{name: m, namespace: team}}\nspec: {{hosts: [{{name: h, \
         hostRef: {{name: one}}}}]}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {{name: all, namespace: team}}\nspec: {{models: {{allow: \
         ['*']}}}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: app, namespace: team}}\nspec: {{policyRefs: \
         [{{name: all}}], tokenHash: '{}'}}\n",
        demo.listen(),
        hash.trim()
    );
    let case = Case::new(IN_PLACE);
    assert_eq!(case.seal_in_place().code, 0);
    fs::write(case.manifests.path().join("hosts.yaml"), rest).unwrap();
    let mounted = directory(&[]);
    let relay = Server::run(case.manifests.path(), &["--sealing-keys", path(&mounted)], &[]);
    relay.says(
        "credential of host key `team/main` is unusable: it is sealed with key `a`, which this data plane does not",
    );
    let asked = || ask(relay.listen(), "/v1/chat/completions", &[("x-api-key", TOKEN)], &chat("m", false));
    let refused = asked();
    assert!(refused.status >= 400, "{}", refused.body);

    fs::copy(case.key("a"), mounted.path().join("..new")).unwrap();
    fs::rename(mounted.path().join("..new"), mounted.path().join("a")).unwrap();
    relay.says("credential of host key `team/main` is another or can be used again");
    let answer = asked();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page: Value = serde_json::from_str(&ask(relay.admin(), "/debug/credentials", &[], "").body).unwrap();
    assert_eq!(page["hostKeys"]["team/main"]["usable"], true);
    fs::remove_file(mounted.path().join("a")).unwrap();
    until(|| asked().status >= 400, || "the key is gone".into());
    assert!(!relay.log().contains("canary"), "{}", relay.log());
}
