//! The tables of `docs/running.md` are those of the program. After a change, write them anew with `RELAY_BLESS=1`.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use clap::{Args, Command, CommandFactory};
use dataplane::{
    config::{follow::FollowConfig, sidecar::SidecarConfig},
    metrics::Metrics,
};

use crate::Cli;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/running.md")
}

/// Held by whoever reads or writes the page: tests run side by side.
static PAGE: Mutex<()> = Mutex::new(());

/// Compares what stands between `<!-- name -->` and `<!-- end -->`, or replaces it.
fn assert_table(name: &str, expected: &str) {
    let _alone = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(page()).expect("the page is checked in");
    let begin = format!("<!-- {name} -->\n");
    let start = text.find(&begin).expect("the page has the table") + begin.len();
    let end = start + text[start..].find("<!-- end -->").expect("the table ends");
    if std::env::var_os("RELAY_BLESS").is_some() {
        fs::write(page(), format!("{}{expected}{}", &text[..start], &text[end..])).expect("the page can be written");
        return;
    }
    assert_eq!(&text[start..end], expected, "docs/running.md is stale: run this test with RELAY_BLESS=1");
}

fn settings() -> String {
    let relay = Cli::command();
    settings_of(relay.find_subcommand("run").expect("there is `run`"))
}

fn settings_of(command: &Command) -> String {
    let mut rows = String::from("| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for argument in command.get_arguments() {
        let Some(flag) = argument.get_long() else { continue };
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let env = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        let is_switch = !argument.get_action().takes_values();
        let defaults = argument.get_default_values().iter().filter(|_| !is_switch);
        let default = defaults.filter_map(|value| value.to_str()).collect::<Vec<_>>().join(",");
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        rows += &format!("| `--{flag}` | {} | {} | {help} |\n", code(env), code(&default));
    }
    rows
}

fn metrics() -> String {
    let text = Metrics::new().encode();
    let mut rows = String::from("| metric | type | meaning |\n|---|---|---|\n");
    let mut help = "";
    for line in text.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), _, Some(said)) => help = said,
            (Some("TYPE"), Some(name), Some(kind)) => {
                let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
                rows += &format!("| `{name}` | {kind} | {help} |\n");
            }
            _ => {}
        }
    }
    rows
}

#[test]
fn every_setting_of_run_is_documented() {
    assert!(settings().contains("| `--listen` | `RELAY_LISTEN` | `127.0.0.1:8080` |"));
    assert_table("settings", &settings());
}

#[test]
fn every_setting_by_which_a_data_plane_follows_an_operator_is_documented() {
    let follow = settings_of(&FollowConfig::augment_args(Command::new("relay-dataplane")));
    assert!(follow.contains("| `--fleet` | `RELAY_FLEET` | `default` |"));
    assert_table("follow settings", &follow);
}

#[test]
fn every_setting_of_a_sidecar_is_documented() {
    let sidecar = settings_of(&SidecarConfig::augment_args(Command::new("relay-dataplane")));
    assert!(sidecar.contains("| `--forward` | `RELAY_FORWARD` |"));
    assert_table("sidecar settings", &sidecar);
}

#[test]
fn every_metric_is_documented() {
    assert!(metrics().contains("| `relay_requests_total` | counter |"));
    assert_table("metrics", &metrics());
}
