//! `relay keys`: what is minted is admitted by the manifest that comes with it.

use crate::support::{directory, path, run, run_with};
use serde_json::Value;

#[test]
fn a_minted_token_hashes_to_what_its_manifest_holds() {
    let minted = run(&["keys", "mint", "--name", "checkout", "--policy", "team-a", "--policy", "company"]);
    assert_eq!((minted.code, minted.stderr.as_str()), (0, ""));
    let mut lines = minted.stdout.lines();
    let (token, hash) = (lines.next().expect("a token"), lines.next().expect("a hash"));
    assert!(token.starts_with("sk-relay-") && token.len() == 68, "{token}");
    assert_eq!(run_with(&["keys", "hash"], token).stdout, format!("{hash}\n"));
    assert_eq!(run_with(&["keys", "hash"], &format!("  {token}\n")).stdout, format!("{hash}\n"));
    assert_eq!(minted.stdout.matches(token).count(), 1);
}

#[test]
fn the_manifest_of_a_minted_token_is_accepted_as_it_is() {
    let minted = run(&["keys", "mint", "--name", "checkout", "--namespace", "shop", "--policy", "all"]);
    let manifest = minted.stdout.split_once("---\n").expect("a manifest").1;
    let policy =
        "apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata:\n  name: all\n  namespace: shop\nspec: {}\n";
    let dir = directory(&[("key.yaml", manifest), ("policy.yaml", policy)]);
    let checked = run(&["check", path(&dir)]);
    assert_eq!(checked.code, 0, "{}", checked.stdout);
}

#[test]
fn two_minted_tokens_differ() {
    let mint = || {
        let minted = run(&["keys", "mint", "--output", "json"]);
        serde_json::from_str::<Value>(&minted.stdout).expect("JSON")
    };
    let (one, two) = (mint(), mint());
    assert_ne!(one["token"], two["token"]);
    assert_ne!(one["keyId"], two["keyId"]);
    assert!(one["token"].as_str().unwrap().contains(one["keyId"].as_str().unwrap()));
}

#[test]
fn a_hash_is_what_sha256sum_prints() {
    let dir = directory(&[("token", "quickstart-token-not-for-production\n")]);
    let file = dir.path().join("token");
    let said = run(&["keys", "hash", "--file", file.to_str().unwrap()]);
    // printf %s quickstart-token-not-for-production | sha256sum
    assert_eq!(said.stdout, "sha256:393c73a38480b083eb4670bdbb1493eac319b57501b891f81dd14b66dc00d1ff\n");
}

#[test]
fn a_token_that_cannot_be_right_is_refused_and_not_repeated() {
    let minted = run(&["keys", "mint"]).stdout.lines().next().expect("a token").to_owned();
    let cut = &minted[..60];
    let cases = [(cut, "mistyped"), ("hunter2", "fewer than 32"), ("", "no token"), ("two words", "white space")];
    for (token, words) in cases {
        let said = run_with(&["keys", "hash"], token);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{token}");
        assert!(said.stderr.contains(words), "{}", said.stderr);
        assert!(token.is_empty() || !said.stderr.contains(token), "{}", said.stderr);
    }
}
