//! The tables of `docs/operator.md` are those of the program. After a change, write them anew with `RELAY_BLESS=1`.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use clap::{Args, Command};
use crds::rights::{RIGHTS, Scope};
use operator::config::Config;
use plane::Plane;

use crate::support::start;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operator.md")
}

/// Held by whoever reads or writes the page: tests run side by side.
static PAGE: Mutex<()> = Mutex::new(());

/// Compares what stands between `<!-- name -->` and `<!-- end -->`, or replaces it.
fn assert_table(name: &str, expected: &str) {
    let _alone = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(page()).unwrap();
    let begin = format!("<!-- {name} -->\n");
    let start = text.find(&begin).expect("the page has the table") + begin.len();
    let end = start + text[start..].find("<!-- end -->").expect("the table ends");
    if std::env::var_os("RELAY_BLESS").is_some() {
        fs::write(page(), format!("{}{expected}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert_eq!(&text[start..end], expected, "docs/operator.md is stale: run this test with RELAY_BLESS=1");
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[test]
fn every_setting_is_documented() {
    let command = Config::augment_args(Command::new("relay-operator"));
    let mut rows = String::from("| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for argument in command.get_arguments() {
        let flag = argument.get_long().expect("every setting has a flag");
        let env = argument.get_env().and_then(|name| name.to_str()).expect("every setting has a variable");
        let default = argument.get_default_values().iter().filter_map(|value| value.to_str());
        let default = default.collect::<Vec<_>>().join(",");
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        rows += &format!("| `--{flag}` | {} | {} | {help} |\n", code(env), code(&default));
    }
    assert_table("settings", &rows);
}

#[test]
fn every_right_is_documented() {
    let mut rows = String::from("| where | group | resources | names | verbs | why |\n|---|---|---|---|---|---|\n");
    for right in RIGHTS {
        let place = match right.scope {
            Scope::Watched => "watched namespaces",
            Scope::Own => "own namespace",
            Scope::Trusting => "namespaces of data planes",
            Scope::Cluster => "cluster",
        };
        let all = |words: &[&str]| words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", ");
        let (resources, names, verbs) = (all(right.resources), all(right.names), all(right.verbs));
        rows += &format!("| {place} | {} | {resources} | {names} | {verbs} | {} |\n", code(right.group), right.why);
    }
    assert_table("rights", &rows);
}

/// Those of an operator that runs, so that none is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let mut operator = start(plane.kubeconfig(), &[&namespace]).await;
    operator.until("something is published", |_| true).await;
    let (_, text) = operator.ask("/metrics").await;
    operator.stop().await;
    let mut rows = Vec::new();
    let mut help = "";
    for line in text.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), _, Some(said)) => help = said,
            (Some("TYPE"), Some(name), Some(kind)) => {
                let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
                rows.push(format!("| `{name}` | {kind} | {help} |\n"));
            }
            _ => {}
        }
    }
    rows.sort_unstable();
    assert_table("metrics", &format!("| metric | type | meaning |\n|---|---|---|\n{}", rows.concat()));
}
