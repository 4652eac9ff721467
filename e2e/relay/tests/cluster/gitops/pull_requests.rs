//! What runs on pull requests: the commands of both workflows, as they are written, in a repository made of the example.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use plane::Plane;
use serde_json::Value;
use site::Programs;
use tempfile::TempDir;

use super::{example, file};

/// A clone of the example in which a change is proposed.
struct Proposal {
    root: TempDir,
    path: std::ffi::OsString,
    base: String,
}

impl Proposal {
    /// With one replacement in a file, in a commit of its own; `None` where there is no kubectl.
    fn new(file: &str, from: &str, to: &str) -> Option<Self> {
        let kubectl = Plane::shared()?.programs().to_owned();
        let relay = Programs::built().relay.parent().expect("a program is in a folder").to_owned();
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([relay, kubectl].into_iter().chain(std::env::split_paths(&inherited)))
            .expect("folders have no colon in their name");
        let root = tempfile::tempdir().expect("a folder is made");
        copy(&example(), root.path());
        let mut proposal = Self { root, path, base: String::new() };
        proposal.git(&["init", "--quiet"]);
        proposal.commit();
        proposal.base = proposal.git(&["rev-parse", "HEAD"]).trim().to_owned();
        let changed = proposal.root.path().join(file);
        let text = fs::read_to_string(&changed).expect("the file is there");
        assert!(text.contains(from), "{file} has no `{from}`");
        fs::write(changed, text.replace(from, to)).expect("the clone is writable");
        proposal.commit();
        Some(proposal)
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        let who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"];
        self.git(&[&who[..], &["commit", "--quiet", "--allow-empty", "--message", "change"]].concat());
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        let output = command.current_dir(self.root.path()).args(arguments).output().expect("git starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("git prints UTF-8")
    }

    fn summary(&self) -> PathBuf {
        self.root.path().join("..summary")
    }

    /// Runs a script as a runner does.
    fn run(&self, script: &str, environment: &[(&str, &str)]) -> Run {
        let mut command = Command::new("bash");
        command.current_dir(self.root.path()).args(["-e", "-c", script]).env("PATH", &self.path);
        command.env("GITHUB_STEP_SUMMARY", self.summary()).envs(environment.iter().copied());
        command.env_remove("RELAY_NAMESPACE").env_remove("RELAY_CATALOG_NAMESPACE");
        let Output { status, stdout, stderr } = command.output().expect("bash starts");
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        Run { code: status.code().expect("it ends by itself"), said }
    }

    /// Runs a step of the workflow for GitHub for the production overlay.
    fn on_github(&self, step: &str) -> Run {
        let workflow: Value = serde_saphyr::from_str(&file(".github/workflows/relay.yaml")).expect("it is YAML");
        let job = &workflow["jobs"]["relay"];
        let steps = job["steps"].as_array().expect("a job has steps");
        let step = steps.iter().find(|known| known["name"] == step).expect("the step is there");
        let script = step["run"].as_str().expect("a step runs something");
        let script = script.replace("${{ matrix.overlay }}", "production");
        assert!(!script.contains("${{"), "{script}");
        assert_eq!(job["env"]["BASE"], "${{ github.event.pull_request.base.sha }}");
        self.run(&script, &[("BASE", &self.base)])
    }

    /// Runs a job of the pipeline for GitLab for the production overlay, and says whether its code is allowed to fail.
    fn on_gitlab(&self, job: &str) -> (Run, bool) {
        let pipeline: Value = serde_saphyr::from_str(&file(".gitlab-ci.yml")).expect("it is YAML");
        let job = &pipeline[job];
        let lines = job["script"].as_array().expect("a job has a script").iter().filter_map(Value::as_str);
        let script = lines.collect::<Vec<_>>().join("\n");
        let run = self.run(&script, &[("OVERLAY", "production"), ("CI_MERGE_REQUEST_DIFF_BASE_SHA", &self.base)]);
        let is_allowed = job["allow_failure"]["exit_codes"] == run.code;
        (run, is_allowed)
    }
}

#[derive(Debug)]
struct Run {
    code: i32,
    said: String,
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the example is there") {
        let (path, to) = (entry.as_ref().expect("readable").path(), to.join(entry.expect("readable").file_name()));
        if path.is_dir() {
            fs::create_dir_all(&to).expect("the clone is writable");
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("the clone is writable");
        }
    }
}

#[test]
fn a_change_of_a_policy_passes_and_is_shown_to_whoever_reviews_it() {
    let file = "base/team-support/policy.yaml";
    let Some(proposal) = Proposal::new(file, "allow: [\"claude-*\"]", "allow: [\"*\"]") else { return };
    let check = proposal.on_github("check");
    assert!(check.code == 0 && check.said.contains("nothing refused, 0 warnings"), "{check:?}");
    assert_eq!(proposal.on_gitlab("relay-check").0.code, 0);

    let diff = proposal.on_github("diff");
    assert_eq!(diff.code, 0, "{diff:?}");
    let summary = fs::read_to_string(proposal.summary()).expect("the step writes a summary");
    assert!(summary.contains("team-support/support-desk") && summary.contains("gpt-5-mini"), "{summary}");
    let (diff, is_allowed) = proposal.on_gitlab("relay-diff");
    assert!(diff.code == 1 && is_allowed && diff.said.contains("gpt-5-mini"), "{diff:?}");
}

#[test]
fn a_reference_to_nothing_fails_the_check_and_says_what_is_wrong() {
    let Some(proposal) = Proposal::new("base/platform/models.yaml", "name: anthropic\n", "name: antropic\n") else {
        return;
    };
    for check in [proposal.on_github("check"), proposal.on_gitlab("relay-check").0] {
        assert_eq!(check.code, 1, "{check:?}");
        assert!(check.said.contains("`antropic` names no Host") && check.said.contains("`anthropic`"), "{check:?}");
    }
}

#[test]
fn a_secret_that_nobody_listed_fails_the_check() {
    let file = "base/platform/host-keys.yaml";
    let Some(proposal) = Proposal::new(file, "      name: openai\n      key:", "      name: other\n      key:") else {
        return;
    };
    let check = proposal.on_github("check");
    assert!(check.code == 1 && check.said.contains("`other` names no Secret"), "{check:?}");
}

#[test]
fn what_means_the_same_is_no_difference() {
    let file = "base/platform/models.yaml";
    let Some(proposal) = Proposal::new(file, "maxOutputTokens: 128000", "maxOutputTokens: 128000 # same") else {
        return;
    };
    let (diff, _) = proposal.on_gitlab("relay-diff");
    assert!(diff.code == 0 && diff.said.contains("nothing differs"), "{diff:?}");
}

#[test]
fn manifests_that_cannot_be_rendered_fail_both_jobs_on_both_platforms() {
    let file = "base/platform/kustomization.yaml";
    let Some(mut proposal) = Proposal::new(file, "- models.yaml", "- no-models.yaml") else { return };
    assert_eq!(proposal.on_github("check").code, 2);
    assert_ne!(proposal.on_github("diff").code, 0);
    let (diff, is_allowed) = proposal.on_gitlab("relay-diff");
    assert!(diff.code == 2 && !is_allowed, "{diff:?}");
    proposal.base = "no-such-commit".to_owned();
    assert_eq!(proposal.on_gitlab("relay-diff").0.code, 2);
}
