//! Alerts and dashboards of the chart, and the queries of docs/spend.md, against what operators and data planes that run really tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::scene::REPLICAS;
use regex::Regex;
use serde_json::{Value, json};
use servers::Redis;
use site::{Ask, DataPlane, Operator, Site, Upstream, relay_key, routes, until};

/// Labels that whoever scrapes adds, and those of buckets.
const ADDED: [&str; 6] = ["namespace", "pod", "container", "job", "instance", "le"];

/// Every series that is there, as its labels, by its name; a name that has no series yet has none.
type Series = BTreeMap<String, Vec<BTreeMap<String, String>>>;

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_label_that_an_alert_or_a_dashboard_names_is_one_that_relay_has() {
    let Some(site) = Site::shared().await else { return };
    let (upstream, redis) = (Upstream::start().await, Redis::start());
    let operators = site.operators(REPLICAS, &[]).await;
    site.apply(&(routes(&upstream.url()) + NOWHERE + &relay_key("app") + LIMITED));
    let pod = site.pod("relay-dataplane", "pod-0").await;
    let data_plane = site.data_plane_in(pod, &["--redis", &redis.url()]).await;
    data_plane.daemon.ready().await;
    site.wait("Ready", &["relaykeys", "--all"]);
    everything_happens(&site, &data_plane, &redis).await;

    let mut series = Series::new();
    tell(&mut series, &data_plane.daemon.admin("/metrics").await.expect("the admin port answers").text());
    for Operator { daemon, .. } in &operators {
        tell(&mut series, &daemon.admin("/metrics").await.expect("the admin port answers").text());
    }
    let own: BTreeSet<&String> = series.values().flatten().flat_map(BTreeMap::keys).collect();
    for label in ADDED.iter().filter(|label| **label != "le") {
        assert!(!own.contains(&(*label).to_owned()), "who scrapes would rename `{label}`, which is Relay's own");
    }
    let mut wrong = BTreeSet::new();
    let expressions = expressions();
    assert!(expressions.len() > 50, "{} expressions", expressions.len());
    for (place, expression) in expressions {
        for lack in lacks(&expression, &series) {
            wrong.insert(format!("{place}: {lack} in {expression}"));
        }
    }
    assert_eq!(wrong, BTreeSet::new());
}

/// A model at a host that nobody is at.
const NOWHERE: &str = "---
apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: nowhere}
spec: {protocol: OpenAI, baseURL: 'http://127.0.0.1:9/v1', allowPlaintext: true, network: {allowPrivateAddresses: true}}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: nowhere}
spec: {hostRef: {name: nowhere}, source: {secretKeyRef: {name: provider, key: key}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: nowhere}
spec: {hosts: [{name: only, hostRef: {name: nowhere}, upstreamModel: demo}], maxOutputTokens: 4096, pricing: {inputPerMTok: '1', outputPerMTok: '2'}}
";

/// A key that may ask once a day.
const LIMITED: &str = "---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: priced}
spec: {hosts: [{name: only, hostRef: {name: openai}, upstreamModel: demo}], maxOutputTokens: 4096, pricing: {inputPerMTok: '1', outputPerMTok: '2'}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: once}
spec: {models: {allow: ['*']}, limits: {rpd: 1}}
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: once}
spec: {policyRefs: [{name: once}], secret: {name: once}}
";

/// Requests whose labels have every value that an alert or a dashboard selects.
async fn everything_happens(site: &Site<'_>, data_plane: &DataPlane, redis: &Redis) {
    let (app, once) = (site.secret("app", "token"), site.secret("once", "token"));
    assert_eq!(data_plane.ask(&Ask::openai("priced", &app)).await.status, 200);
    assert_eq!(data_plane.ask(&Ask::openai("priced", &app).with("stream", json!(true))).await.status, 200);
    // What the other shape has no word for is lost.
    assert_eq!(data_plane.ask(&Ask::openai("anthropic", &app).with("seed", json!(7))).await.status, 200);
    let failed = data_plane.ask(&Ask::openai("nowhere", &app)).await.status;
    assert!(failed >= 500, "{failed}");
    assert_eq!(data_plane.ask(&Ask::openai("openai", &once)).await.status, 200);
    assert_eq!(data_plane.ask(&Ask::openai("openai", &once)).await.status, 429);
    redis.kill();
    until("Redis is missed", async || {
        let answer = data_plane.ask(&Ask::openai("openai", &once)).await;
        answer.headers.contains_key("x-relay-limits").then_some(())
    })
    .await;
}

/// Adds what a metrics page tells.
fn tell(into: &mut Series, page: &str) {
    let label = Regex::new(r#"([a-z_]+)="((?:[^"\\]|\\.)*)""#).expect("it is a pattern");
    for line in page.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').expect("a metric has a type");
            let ends: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            for end in ends {
                into.entry(format!("{name}{end}")).or_default();
            }
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a line has a beginning");
            let labels = line.rsplit_once('}').map_or("", |(labels, _)| labels);
            let labels = label.captures_iter(labels).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
            into.entry(name.to_owned()).or_default().push(labels);
        }
    }
}

/// What is asked of Prometheus, with where that stands.
fn expressions() -> Vec<(String, String)> {
    let chart = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/relay"));
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rules: Value = serde_saphyr::from_str(&read(&chart.join("files/rules.yaml"))).expect("rules are YAML");
    let mut all = Vec::new();
    collect(&rules, "rules.yaml", &mut all);
    for entry in fs::read_dir(chart.join("dashboards")).expect("there are dashboards") {
        let path = entry.expect("the folder is read").path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        collect(&serde_json::from_str(&read(&path)).expect("a dashboard is JSON"), &name, &mut all);
    }
    let page = read(&chart.join("../../docs/spend.md"));
    all.extend(queries(&page).map(|query| ("spend.md".to_owned(), query.to_owned())));
    all
}

/// What a page asks of Prometheus: the lines of its blocks of PromQL.
fn queries(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```promql\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.contains("relay_"))
}

/// Every `expr`, and every `query` of a variable, below.
fn collect(value: &Value, place: &str, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().filter(|text| text.contains("relay_")) {
                    Some(text) if ["expr", "query"].contains(&name.as_str()) => {
                        into.push((place.to_owned(), text.to_owned()));
                    }
                    _ => collect(field, place, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, place, into)),
        _ => {}
    }
}

/// What an expression names that there is not.
fn lacks(expression: &str, series: &Series) -> Vec<String> {
    let named = Regex::new(r"(relay_[a-z0-9_]+)(?:\{([^}]*)\})?").expect("it is a pattern");
    let grouped = Regex::new(r"by \(([^)]*)\)").expect("it is a pattern");
    let groups: BTreeSet<&str> = grouped
        .captures_iter(expression)
        .flat_map(|found| found.get(1).expect("it has labels").as_str().split(','))
        .map(str::trim)
        .filter(|label| !ADDED.contains(label))
        .collect();
    let mut lacks = Vec::new();
    // A label may be called as metrics are.
    for found in named.captures_iter(expression).filter(|found| !groups.contains(&found[1])) {
        let name = &found[1];
        let Some(of_name) = series.get(name) else {
            lacks.push(format!("no `{name}`"));
            continue;
        };
        for label in &groups {
            if !of_name.iter().any(|labels| labels.contains_key(*label)) {
                lacks.push(format!("no label `{label}` of `{name}`"));
            }
        }
        let selectors = found.get(2).map_or("", |selectors| selectors.as_str());
        lacks.extend(unselected(selectors, of_name).into_iter().map(|lack| format!("{lack} of `{name}`")));
    }
    lacks
}

/// Which selectors select no series, whatever the others do.
fn unselected(selectors: &str, of_name: &[BTreeMap<String, String>]) -> Vec<String> {
    let selector = Regex::new(r#"([a-z_]+)(=~|!~|!=|=)"([^"]*)""#).expect("it is a pattern");
    let selectors = selector.captures_iter(selectors).filter(|found| !ADDED.contains(&&found[1]));
    let missed = selectors.filter(|found| {
        let pattern = Regex::new(&format!("^(?:{})$", &found[3])).expect("it is a pattern");
        let fits = |value: &String| match &found[2] {
            "=" | "!=" => *value == found[3],
            _ => pattern.is_match(value),
        };
        // Those that leave something out are right when there is what they leave out or what they let in.
        let exclude = found[2].starts_with('!');
        !of_name.iter().filter_map(|labels| labels.get(&found[1])).any(|value| exclude || fits(value))
    });
    missed.map(|found| format!("no `{}`", &found[0])).collect()
}
