//! Usage records as OTLP logs: that a collector is told the same as a file of JSON lines, field by field, and what becomes
//! of records when the collector does not work.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dataplane::config::otlp::OtlpConfig;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::LogRecord,
};
use prost::Message;
use serde_json::{Value, json};
use support::{
    client::Ask,
    relay::{Loopback, TestRelay, config},
    tables::Tables,
    upstream::{Act, Received, Script, Upstream},
    wire::{self, SHAPES},
};
use table::{
    PicoUsdPerToken, Pricing, Rates, Secret,
    WireShape::{AnthropicMessages, OpenaiChat},
};

const SEARCH: &str = "token-of-the-search-team-0123456789";
const NARROW: &str = "token-with-a-limit-0123456789-abcdef";

/// A collector that answers with what `answer` says to its requests, counted from 0.
async fn collector(answer: impl Fn(usize) -> Script + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |request| answer(request.index)).await
}

fn taken() -> Script {
    Script::answer(200, "application/x-protobuf", "")
}

fn otlp(collector: &Upstream) -> OtlpConfig {
    let url = format!("{}/logs", collector.url());
    OtlpConfig { usage: true, logs_endpoint: Some(url), ..OtlpConfig::default() }
}

async fn relay(tables: Tables, otlp: OtlpConfig) -> TestRelay {
    let mut config = config();
    config.otlp = otlp;
    TestRelay::start_with(tables, config, Arc::new(Loopback)).await
}

fn priced(input: &str, output: &str) -> Pricing {
    let of = |text: &str| Some(PicoUsdPerToken::from_per_million(text).expect("a price"));
    let rates = Rates { input: of(input), output: of(output), cached_input: of("0.30"), ..Rates::default() };
    Pricing { rates, source: Some("the price list".to_owned()), ..Pricing::default() }
}

/// An upstream of OpenAI's shape, one of Anthropic's and one that fails, two priced models and one without a price, and
/// three relay keys.
struct Site {
    _upstreams: [Upstream; 3],
    tables: Tables,
}

async fn site() -> Site {
    let openai = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let anthropic = Upstream::start(|request| match request.is_streamed() {
        true => wire::good(AnthropicMessages, request, "hi"),
        false => {
            let mut body = wire::whole(AnthropicMessages, "hi");
            body["usage"] = json!({"input_tokens": 1, "output_tokens": 7, "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 300, "server_tool_use": {"web_search_requests": 2}});
            Script::json(200, &body)
        }
    })
    .await;
    let broken = Upstream::start(broken).await;
    let tables = Tables::new()
        .host("o", OpenaiChat, &openai.url(), &["o-key"])
        .host("a", AnthropicMessages, &anthropic.url(), &["a-key"])
        .host("b", OpenaiChat, &broken.url(), &["b-key"])
        .model_with("small", &["o"], |model| model.pricing = Some(priced("3", "15")))
        .model_with("large", &["a"], |model| model.pricing = Some(priced("0.123456", "99.000001")))
        .model("free", &["o"])
        .model("broken", &["b"])
        .relay_key("search", SEARCH, |key| {
            key.attributes = [("team", "search"), ("env", "prod")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        })
        .relay_key("narrow", NARROW, |key| key.limits.rpm = Some(3));
    Site { _upstreams: [openai, anthropic, broken], tables }
}

/// Fails before the answer, or within the stream.
fn broken(request: &Received) -> Script {
    if !request.is_streamed() {
        return Script::json(500, &wire::error(OpenaiChat, "server_error", "words of the provider"));
    }
    let said = wire::opening(OpenaiChat).into_iter().chain(wire::saying(OpenaiChat, "half", true));
    Script::stream().chunks(said.collect::<Vec<_>>()).then(Act::Reset)
}

/// The `turn`th of a hundred requests: both shapes, streams, losses, failures and refusals.
fn ask(turn: usize) -> Ask {
    let shape = SHAPES[turn % 2];
    let ask = match turn % 10 {
        0..=3 => Ask::of(shape, "small"),
        4 | 5 => Ask::of(shape, "large").with("temperature", json!(0.5)),
        6 => Ask::of(shape, "free"),
        7 => Ask::of(shape, "broken"),
        8 => Ask::of(shape, "no-such-model"),
        _ => Ask::of(shape, "small").token("nobody-knows-this-token-0123456789"),
    };
    let ask = if turn.is_multiple_of(3) { ask.streamed() } else { ask };
    let ask = if turn.is_multiple_of(4) { ask.header("traceparent", &traceparent(turn)) } else { ask };
    match turn % 10 {
        9 => ask,
        _ if turn % 5 == 1 => ask.token(SEARCH),
        _ if turn % 5 == 2 => ask.token(NARROW),
        _ => ask,
    }
}

fn traceparent(turn: usize) -> String {
    format!("00-{:032x}-{:016x}-01", turn + 1, turn + 1)
}

/// Everything that a collector was told, by request.
fn told(collector: &Upstream) -> BTreeMap<String, LogRecord> {
    let mut told = BTreeMap::new();
    for request in collector.received() {
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let export = ExportLogsServiceRequest::decode(&request.body[..]).expect("OTLP");
        for resource in export.resource_logs {
            let names = resource.resource.expect("a resource").attributes;
            assert_eq!(attribute(&names, "service.name"), Some(json!("relay")));
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let id = attribute(&record.attributes, "relay.request_id").expect("every record has an id");
                told.insert(id.as_str().expect("a text").to_owned(), record);
            }
        }
    }
    told
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let of_key: Vec<_> = attributes.iter().filter(|attribute| attribute.key == key).collect();
    assert!(of_key.len() < 2, "{key} is there twice");
    of_key.first().map(|attribute| plain(attribute.value.as_ref().expect("a value")))
}

fn plain(value: &AnyValue) -> Value {
    match value.value.as_ref().expect("a value") {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::IntValue(count) => json!(count),
        any_value::Value::DoubleValue(number) => json!(number),
        any_value::Value::BoolValue(truth) => json!(truth),
        any_value::Value::ArrayValue(list) => list.values.iter().map(plain).collect(),
        other => panic!("no record has {other:?}"),
    }
}

/// The rows of the page: attributes, and what they say of a record.
fn documented() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../docs/usage-record.md");
    let (_, section) = page.split_once("## OTLP logs").expect("the page has the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    rows.collect()
}

/// What an attribute has to be, by its row of the page; absent: nothing.
fn expected(record: &Value, key: &str, said: &str) -> Option<Value> {
    let field = |path: &str| path.split('.').fold(record, |value, name| &value[name]).clone();
    let value = match key {
        "gen_ai.provider.name" => match record["upstream_shape"].as_str()? {
            "openai-chat" => json!("openai"),
            _ => json!("anthropic"),
        },
        "gen_ai.response.finish_reasons" => json!([record["finish"].as_str()?]),
        "relay.attempts" => json!(record["attempts"].as_array()?.len()),
        "relay.cost_usd" => json!(record["cost_nano_usd"].as_u64()? as f64 / 1e9),
        "relay.refused_by" => {
            let by = &record["refused_by"];
            json!(format!("{} {}", by["scope"].as_str()?, by["rule"].as_str()?))
        }
        _ => {
            let paths = said.trim_matches('`');
            let sum = || paths.split(" + ").map(|path| field(path).as_u64()).sum::<Option<u64>>();
            if paths.contains(" + ") { json!(sum()?) } else { field(paths) }
        }
    };
    (!value.is_null()).then_some(value)
}

/// The rows that stand for several attributes, `prefix.NAME`, with the objects that they are of.
const NAMED: [(&str, &str); 2] =
    [("relay.attributes.", "/attributes"), ("relay.usage.server_tools.", "/usage/server_tools")];

/// Waits until a metric is as it should be.
async fn until(relay: &TestRelay, metric: &str, is_fine: impl Fn(f64) -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let value = relay.metric(metric).await.expect("the metric is there");
        if is_fine(value) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{metric} stays at {value}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_collector_is_told_what_the_file_says_in_every_field_of_a_hundred_requests() {
    let (collector, site) = (collector(|_| taken()).await, site().await);
    let relay = relay(site.tables, otlp(&collector)).await;
    for turn in 0..99 {
        relay.ask(&ask(turn)).await;
    }
    // The hundredth goes away while it waits.
    let left = relay.connect().await;
    drop(tokio::time::timeout(std::time::Duration::from_millis(1), left.send(&ask(0))).await);
    let records = relay.records().await;
    assert!((99..=100).contains(&records.len()), "{}", records.len());

    let told = told(&collector);
    assert_eq!(told.len(), records.len());
    let mut seen = BTreeSet::new();
    for record in &records {
        let log = &told[record["request_id"].as_str().expect("a text")];
        let body = plain(log.body.as_ref().expect("a body"));
        let body: Value = serde_json::from_str(body.as_str().expect("a text")).expect("JSON");
        assert_eq!(&body, record);
        let mut wanted = BTreeMap::new();
        for (key, said) in documented() {
            wanted.extend(expected(record, key, said).map(|value| (key.to_owned(), value)));
        }
        for (prefix, place) in NAMED {
            let named = record.pointer(place).and_then(Value::as_object).into_iter().flatten();
            wanted.extend(named.map(|(name, value)| (format!("{prefix}{name}"), value.clone())));
        }
        let said: BTreeMap<_, _> =
            log.attributes.iter().map(|one| (one.key.clone(), plain(one.value.as_ref().expect("a value")))).collect();
        assert_eq!(said, wanted);
        seen.extend(said.into_keys());
        assert_eq!(json!(hex::encode(&log.trace_id)), record["trace_id"]);
        assert_eq!(hex::encode(&log.span_id), record["span_id"].as_str().unwrap_or_default());
        let began: jiff::Timestamp = record["started_at"].as_str().expect("a text").parse().expect("a time");
        assert_eq!(i128::from(log.time_unix_nano), began.as_nanosecond());
        assert!(log.observed_time_unix_nano >= log.time_unix_nano);
        assert_eq!((log.event_name.as_str(), log.severity_text.as_str()), ("relay.usage", "INFO"));
    }
    // Every row of the page was met at least once.
    let rows = documented().into_iter().map(|(key, _)| key);
    let missing: Vec<_> = rows.filter(|key| !seen.contains(*key) && !key.ends_with(".NAME")).collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(NAMED.iter().all(|(prefix, _)| seen.iter().any(|key| key.starts_with(prefix))), "{seen:?}");
}

#[tokio::test]
async fn sums_of_cost_and_tokens_by_team_are_the_same_in_file_collector_and_metrics() {
    let (collector, site) = (collector(|_| taken()).await, site().await);
    let relay = relay(site.tables, otlp(&collector)).await;
    for turn in 0..100 {
        relay.ask(&ask(turn)).await;
    }
    let (_, metrics) = relay.admin("/metrics").await;
    let records = relay.records().await;

    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut in_file: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for record in &records {
        let (Some(team), usage) = (record["team"].as_str(), &record["usage"]) else { continue };
        let input = ["input", "cache_read", "cache_write_5m", "cache_write_1h"].map(|kind| number(&usage[kind]));
        let sums = [number(&record["cost_nano_usd"]), input.iter().sum(), number(&usage["output"])];
        let of_team = in_file.entry(team.to_owned()).or_default();
        *of_team = [0, 1, 2].map(|index| of_team[index] + sums[index]);
    }
    assert_eq!(in_file.keys().collect::<Vec<_>>(), ["search", "team"]);
    assert!(in_file.values().flatten().all(|sum| *sum > 0), "{in_file:?}");

    let mut at_collector: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for log in told(&collector).values() {
        let Some(team) = attribute(&log.attributes, "relay.team") else { continue };
        let names = ["relay.cost_nano_usd", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"];
        let sums = names.map(|name| attribute(&log.attributes, name).map_or(0, |value| number(&value)));
        let of_team = at_collector.entry(team.as_str().expect("a text").to_owned()).or_default();
        *of_team = [0, 1, 2].map(|index| of_team[index] + sums[index]);
    }
    assert_eq!(at_collector, in_file);

    let sum = |start: &str, label: &str| -> u64 {
        let lines = metrics.lines().filter(|line| line.starts_with(start) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    for (team, sums) in in_file {
        let team = format!("team=\"{team}\"");
        let counted = [
            sum("relay_key_cost_nano_usd_total{", &team),
            sum("relay_key_tokens_total{", &format!("{team},kind=\"input\"")),
            sum("relay_key_tokens_total{", &format!("{team},kind=\"output\"")),
        ];
        assert_eq!(counted, sums, "{metrics}");
    }
}

/// What collectors write to files: OTLP in JSON, as far as the queries of the page look at it.
fn as_collectors_write(logs: &BTreeMap<String, LogRecord>) -> Value {
    let value = |value: Value| match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) if number.is_i64() => json!({ "intValue": number.to_string() }),
        Value::Number(number) => json!({ "doubleValue": number }),
        other => json!({"arrayValue": {"values": other}}),
    };
    let of = |any: &Option<AnyValue>| value(plain(any.as_ref().expect("a value")));
    let record = |log: &LogRecord| {
        let attributes = log.attributes.iter().map(|one| json!({"key": one.key, "value": of(&one.value)}));
        json!({"eventName": log.event_name, "body": of(&log.body), "attributes": attributes.collect::<Vec<_>>()})
    };
    let records: Vec<_> = logs.values().map(record).collect();
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
}

/// What a command of the page prints, in a folder with the files that it reads.
fn printed(command: &str, folder: &std::path::Path) -> Vec<Vec<String>> {
    let shell =
        std::process::Command::new("sh").args(["-c", command]).current_dir(folder).output().expect("there is sh");
    assert!(shell.status.success(), "{command}: {}", String::from_utf8_lossy(&shell.stderr));
    let text = String::from_utf8(shell.stdout).expect("text");
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn the_commands_of_the_page_on_spend_give_the_sums_of_the_records() {
    let (collector, site) = (collector(|_| taken()).await, site().await);
    let relay = relay(site.tables, otlp(&collector)).await;
    for turn in 0..100 {
        relay.ask(&ask(turn)).await;
    }
    let records = relay.records().await;
    let folder = tempfile::tempdir().expect("a folder");
    let lines: Vec<_> = records.iter().map(Value::to_string).collect();
    std::fs::write(folder.path().join("usage.jsonl"), format!("relay: listening\n{}\n", lines.join("\n")))
        .expect("a file");
    let export = as_collectors_write(&told(&collector)).to_string();
    // A batch that was sent twice.
    std::fs::write(folder.path().join("usage.json"), format!("{export}\n{export}\n")).expect("a file");

    let page = include_str!("../../docs/spend.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let commands: Vec<_> = blocks.filter(|block| block.starts_with("jq ")).collect();
    let [by_team, by_team_and_model, back_to_lines, by_attribute] = commands[..] else { panic!("{commands:#?}") };

    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (mut teams, mut pairs) = (BTreeMap::<_, [u64; 3]>::new(), BTreeMap::<_, [u64; 4]>::new());
    for record in &records {
        let (usage, cost) = (&record["usage"], number(&record["cost_nano_usd"]));
        let is_unpriced = !usage.is_null() && record["cost_nano_usd"].is_null();
        let sums = teams.entry(text(&record["team"])).or_default();
        *sums = [sums[0] + 1, sums[1] + cost, sums[2] + u64::from(is_unpriced)];
        if !usage.is_null() {
            let input = ["input", "cache_read", "cache_write_5m", "cache_write_1h"].map(|kind| number(&usage[kind]));
            let sums = pairs.entry((text(&record["team"]), text(&record["model"]))).or_default();
            let (input, output) = (input.iter().sum::<u64>(), number(&usage["output"]));
            *sums = [sums[0] + 1, sums[1] + cost, sums[2] + input, sums[3] + output];
        }
    }
    assert!(
        teams["search"][1] > 0 && teams["search"][2] > 0 && teams["-"][0] > 0 && pairs.len() > 3,
        "{teams:?} {pairs:?}"
    );

    let count = |text: &str| text.parse::<u64>().expect("a number");
    let nano = |text: &str| (text.parse::<f64>().expect("a number") * 1e9).round() as u64;
    let rows = printed(by_team, folder.path());
    let rows = rows.iter().map(|row| (row[0].clone(), [count(&row[1]), nano(&row[2]), count(&row[3])]));
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), teams);
    let rows = printed(by_team_and_model, folder.path());
    let rows = rows
        .iter()
        .map(|row| ((row[0].clone(), row[1].clone()), [count(&row[2]), nano(&row[3]), count(&row[4]), count(&row[5])]));
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), pairs);
    let rows = printed(by_attribute, folder.path());
    let rows = rows.iter().map(|row| (row[0].clone(), [count(&row[1]), nano(&row[2])]));
    let wanted = teams.iter().map(|(team, sums)| (team.clone(), [sums[0], sums[1]]));
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), wanted.collect());

    printed(back_to_lines, folder.path());
    let back = std::fs::read_to_string(folder.path().join("usage.jsonl")).expect("the file");
    let back: BTreeSet<_> =
        back.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON").to_string()).collect();
    assert_eq!(back, lines.into_iter().collect());
    assert_eq!(back.len(), records.len());
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_request_and_no_record_once_it_is_back() {
    let collector = collector(|index| match index {
        0 => Script::answer(503, "text/plain", "starting"),
        1 => Script::answer(502, "text/plain", "gone"),
        _ => taken(),
    })
    .await;
    let relay = relay(site().await.tables, otlp(&collector)).await;
    assert_eq!(relay.ask(&ask(0)).await.status, 200);
    until(&relay, "relay_usage_logs_errors_total", |count| count >= 2.0).await;
    assert_eq!(relay.ask(&ask(1)).await.status, 200);
    until(&relay, "relay_usage_logs_sent_total", |count| count == 2.0).await;
    assert_eq!(relay.metric("relay_usage_logs_dropped_total").await, Some(0.0));
    assert_eq!(relay.records().await.len(), 2);
    assert_eq!(told(&collector).len(), 2);
}

#[tokio::test]
async fn the_end_waits_for_one_more_try_and_the_file_has_what_the_collector_missed() {
    let collector = collector(|_| Script::answer(503, "text/plain", "never")).await;
    let relay = relay(site().await.tables, otlp(&collector)).await;
    relay.ask(&ask(0)).await;
    until(&relay, "relay_usage_logs_errors_total", |count| count >= 1.0).await;
    let tried = collector.count();
    assert_eq!(relay.records().await.len(), 1);
    // On a busy machine the next of the usual tries may come before the last one.
    assert!(collector.count() > tried, "{} tries, {tried} before the end", collector.count());
}

#[tokio::test]
async fn what_a_collector_refuses_for_good_is_counted_as_lost_and_not_sent_again() {
    let collector = collector(|_| Script::answer(401, "text/plain", "who are you?")).await;
    let relay = relay(site().await.tables, otlp(&collector)).await;
    relay.ask(&ask(0)).await;
    until(&relay, "relay_usage_logs_dropped_total", |count| count == 1.0).await;
    assert_eq!(relay.metric("relay_usage_logs_sent_total").await, Some(0.0));
    assert_eq!((relay.records().await.len(), collector.count()), (1, 1));
}

#[tokio::test]
async fn what_a_collector_says_that_it_rejected_of_a_batch_is_counted_as_lost() {
    let part = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "too old".to_owned() };
    let answer = ExportLogsServiceResponse { partial_success: Some(part) }.encode_to_vec();
    let collector = collector(move |_| Script::answer(200, "application/x-protobuf", &answer)).await;
    let relay = relay(site().await.tables, otlp(&collector)).await;
    relay.ask(&ask(0)).await;
    until(&relay, "relay_usage_logs_dropped_total", |count| count == 1.0).await;
    assert_eq!(relay.metric("relay_usage_logs_sent_total").await, Some(0.0));
}

#[tokio::test]
async fn the_endpoint_of_spans_alone_gets_no_usage_and_that_of_logs_alone_no_spans() {
    let (collector, site) = (collector(|_| taken()).await, site().await);
    let endpoint = collector.url().trim_end_matches("/v1").to_owned();
    let spans_alone = OtlpConfig { endpoint: Some(endpoint.clone()), ..OtlpConfig::default() };
    let both = OtlpConfig { usage: true, ..spans_alone.clone() };
    let paths = async |otlp: OtlpConfig| {
        let (relay, before) = (relay(site.tables.clone(), otlp).await, collector.count());
        relay.ask(&ask(0)).await;
        relay.records().await;
        let seen: BTreeSet<String> = collector.received().into_iter().skip(before).map(|seen| seen.path).collect();
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(paths(spans_alone).await, ["/v1/traces"]);
    assert_eq!(paths(both).await, ["/v1/logs", "/v1/traces"]);
    assert_eq!(paths(otlp(&collector)).await, ["/v1/logs"]);
}

#[tokio::test]
async fn headers_go_with_every_export() {
    let (collector, site) = (collector(|_| taken()).await, site().await);
    let headers = Some(Secret::new("api-key=abc,x-scope-orgid=tenant%201".to_owned()));
    let relay = relay(site.tables, OtlpConfig { headers, ..otlp(&collector) }).await;
    relay.ask(&ask(0)).await;
    relay.records().await;
    let sent = collector.received();
    assert_eq!((sent[0].header("api-key"), sent[0].header("x-scope-orgid")), (Some("abc"), Some("tenant 1")));
}

#[tokio::test]
async fn usage_that_is_to_go_nowhere_stops_the_start() {
    let mut config = config();
    config.otlp = OtlpConfig { usage: true, ..OtlpConfig::default() };
    let built = dataplane::app::build_with(config, dataplane::meter::sinks::Target::None, Arc::new(Loopback)).await;
    let error = format!("{:#}", built.err().expect("it has no endpoint"));
    assert!(error.contains("--otlp-logs-endpoint"), "{error}");
}
