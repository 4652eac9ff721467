//! Alerts and what is asked of Prometheus: what promtool says of them, and that each alert has its runbook.

use std::{collections::BTreeSet, fs};

use chart::{Combination, Helm, charts, promtool};
use tempfile::tempdir;

#[test]
fn promtool_takes_the_rules() {
    let rules = charts().join("relay/files/rules.yaml");
    let said = promtool().run(&["check".as_ref(), "rules".as_ref(), rules.as_os_str()], "");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/alerts.yaml");
    promtool().run(&["test", "rules", tests], "");
}

#[test]
fn the_queries_of_the_page_on_spend_answer_what_it_says() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spend.yaml");
    promtool().run(&["test", "rules", tests], "");
    let tried = fs::read_to_string(tests).expect("there are tests");
    let tried: BTreeSet<&str> = tried.lines().filter_map(|line| line.trim().strip_prefix("- expr: ")).collect();
    let page = fs::read_to_string(charts().join("../docs/spend.md")).expect("there is a page");
    let blocks = page.split("```promql\n").skip(1).filter_map(|block| block.split("```").next());
    let said: BTreeSet<&str> = blocks.flat_map(str::lines).collect();
    assert_eq!(said, tried);
}

#[test]
fn every_alert_of_the_chart_is_in_the_file_and_links_to_a_section_of_the_runbooks() {
    let home = tempdir().expect("a folder is made");
    let runbooks = fs::read_to_string(charts().join("../docs/runbooks.md")).expect("there are runbooks");
    let sections = runbooks.lines().filter_map(|line| line.strip_prefix("## "));
    let mut sections: BTreeSet<String> = sections.map(str::to_lowercase).collect();
    let base = "https://runbooks.example.com/relay#";
    let objects = Combination::named("watched").objects(&Helm::alone(home.path()));
    let rule = objects.iter().find(|object| object["kind"] == "PrometheusRule").expect("there are rules");
    let groups = rule["spec"]["groups"].as_array().expect("there are groups").iter();
    for alert in groups.flat_map(|group| group["rules"].as_array().expect("there are rules")) {
        let link = alert["annotations"]["runbook_url"].as_str().expect("there is a link");
        let section = link.strip_prefix(base).unwrap_or_else(|| panic!("{link} is not under {base}"));
        assert!(sections.remove(section), "{link} leads to no section, or is the second that leads there");
        for annotation in ["summary", "description"] {
            assert!(alert["annotations"][annotation].is_string(), "{alert:#}");
        }
        assert_eq!(alert["labels"]["team"], "platform", "{alert:#}");
        assert!(alert["labels"]["severity"].is_string(), "{alert:#}");
    }
    assert_eq!(sections, BTreeSet::new(), "these runbooks have no alert");
}
