use std::{fs, path::PathBuf};

use jiff::Timestamp;
use protocol::WireShape;
use serde_json::{Value, json};
use smallvec::smallvec;
use table::{PicoUsdPerToken, Pricing, Rates};

use super::{sinks::Target, *};
use crate::limit::{
    Limiter,
    claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
    memory::Memory,
    rule::{Counted, Scope, Span},
    window::Ceiling,
};
use crate::spans::Spans;

/// Books whose records go to a file, and a limiter.
struct Desk {
    books: Arc<Books>,
    limiter: Memory,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn desk() -> Desk {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("usage.jsonl");
    let metrics = Arc::new(Metrics::new());
    let sinks = Sinks::new(Target::File(path.clone()), metrics.clone());
    let spans = Spans::none();
    let books = Arc::new(Books { metrics, sinks, logs: Logs::none(), spans, estimator: Arc::new(Estimator::new()) });
    Desk { books, limiter: Memory::new(), path, _directory: directory }
}

impl Desk {
    fn meter(&self) -> Meter {
        let mut meter =
            Meter::new(self.books.clone(), Record::new("r-1", "chat", Timestamp::UNIX_EPOCH), Instant::now());
        meter.record().model = Some("gpt-5".into());
        meter.record().model_ref = Some("team/gpt-5".into());
        meter
    }

    async fn reserved(&self) -> Meter {
        let mut meter = self.meter();
        let reservation = self.limiter.reserve(claims()).await.expect("it fits");
        let expected = Expected { input: 100, output: 256, cost: NanoUsd(1_000) };
        let sizes = Sizes { text_bytes: 400, messages: 1, ..Sizes::default() };
        meter.reserved(reservation, Basis { key: key().into(), model: "gpt-5".into(), sizes, expected });
        meter
    }

    /// Requests, tokens and money that count against the key.
    async fn used(&self) -> (u64, u64, u64) {
        let usage = self.limiter.usage(claims().scopes).await.expect("memory is there");
        (usage[1].used, usage[0].used, usage[2].used)
    }

    /// Every record that was written.
    fn records(self) -> Vec<Value> {
        self.books.sinks.close(Duration::from_secs(60));
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }
}

fn key() -> ObjectRef {
    ObjectRef::new("team", "a")
}

fn claims() -> Claims {
    let (counted, span, ceiling) = (Counted::Tokens, Span::Minute, Ceiling::flat(10_000));
    let budget = BudgetClaim {
        period: table::Period::Total,
        timezone: "UTC".into(),
        limit: NanoUsd(1_000_000_000),
        amount: NanoUsd(1_000),
        blocks: true,
        alert_at_percent: [].into(),
    };
    let scope = ScopeClaim {
        rates: smallvec![
            RateClaim { counted, span, ceiling, amount: 356 },
            RateClaim { counted: Counted::Requests, span, ceiling, amount: 1 },
        ],
        budgets: smallvec![budget],
        ..ScopeClaim::new(Arc::new(Scope::RelayKey(key())))
    };
    let candidates = vec![CandidateClaim::default()];
    Claims { domain: "team".into(), scopes: vec![scope], candidates, max_candidates: 1 }
}

fn attempt() -> Attempt {
    Attempt {
        host: "catalog/openai".into(),
        host_key: Some("catalog/k1".into()),
        upstream_model: "gpt-5-2026".into(),
        shape: WireShape::OpenaiChat,
        outcome: None,
        reason: None,
        status: None,
        started_ms: 0.0,
        duration_ms: None,
    }
}

fn price() -> Option<Arc<Price>> {
    let dollar = |amount| PicoUsdPerToken::from_per_million(amount).ok();
    let rates = Rates { input: dollar("1"), output: dollar("10"), ..Rates::default() };
    Some(Arc::new(Price { pricing: Pricing { rates, ..Pricing::default() }, source: "Model catalog/gpt-5".into() }))
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[tokio::test(start_paused = true)]
async fn closing_settles_what_was_used_and_writes_one_record() {
    let desk = desk();
    let mut meter = desk.reserved().await;
    tokio::time::advance(Duration::from_millis(5)).await;
    meter.attempt(0, attempt(), price(), Instant::now());
    tokio::time::advance(Duration::from_millis(20)).await;
    meter.attempted(AttemptOutcome::Ok, Some(200), None, Instant::now());
    meter.first_content(Instant::now());
    tokio::time::advance(Duration::from_millis(75)).await;
    let finish = Some("end_turn".into());
    meter.close(End { status: 200, usage: Some(usage(80, 20)), finish, ..End::default() });

    assert_eq!(desk.used().await, (1, 100, 280_000));
    let records = desk.records();
    assert_eq!(records.len(), 1);
    let part = |name: &str| records[0][name].clone();
    assert_eq!(part("cost_nano_usd"), json!(280_000));
    assert_eq!(part("price_source"), json!("Model catalog/gpt-5"));
    assert_eq!((part("first_content_ms"), part("duration_ms")), (json!(25.0), json!(100.0)));
    assert_eq!(part("reserved"), json!({"input": 100, "output": 256, "cost_nano_usd": 1_000}));
    let attempt = json!([{
        "host": "catalog/openai", "host_key": "catalog/k1", "upstream_model": "gpt-5-2026", "shape": "openai-chat",
        "outcome": "ok", "reason": null, "status": 200, "started_ms": 5.0, "duration_ms": 20.0,
    }]);
    assert_eq!(part("attempts"), attempt);
    assert_eq!((part("finish"), part("cancelled"), part("status")), (json!("end_turn"), json!(false), json!(200)));
}

#[tokio::test]
async fn a_meter_that_is_dropped_before_any_attempt_gives_everything_back_and_writes_one_record() {
    let desk = desk();
    drop(desk.reserved().await);
    assert_eq!(desk.used().await, (0, 0, 0));
    let records = desk.records();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["cancelled"], &records[0]["status"]), (&json!(true), &json!(499)));
    assert_eq!((&records[0]["usage"], &records[0]["cost_nano_usd"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_metered_for_what_was_generated() {
    let desk = desk();
    let mut meter = desk.reserved().await;
    meter.attempt(0, attempt(), price(), Instant::now());
    meter.attempted(AttemptOutcome::Ok, Some(200), None, Instant::now());
    meter.close(End { status: 200, output_bytes: 400, cancelled: true, ..End::default() });
    // The input as thought, and 400 bytes at a quarter token each.
    assert_eq!(desk.used().await, (1, 200, 100_000 + 1_000_000));
    let records = desk.records();
    assert_eq!((&records[0]["cancelled"], &records[0]["status"]), (&json!(true), &json!(200)));
    assert_eq!(records[0]["usage"]["estimated"], json!(true));
}

#[tokio::test]
async fn an_attempt_that_the_caller_cuts_off_is_metered_for_its_input() {
    let desk = desk();
    let mut meter = desk.reserved().await;
    meter.attempt(0, attempt(), price(), Instant::now());
    drop(meter);
    assert_eq!(desk.used().await, (1, 100, 100_000));
    assert_eq!(desk.records()[0]["attempts"][0]["outcome"], json!("cancelled"));
}

#[tokio::test]
async fn a_request_whose_attempts_all_fail_costs_nothing() {
    let desk = desk();
    let mut meter = desk.reserved().await;
    for outcome in [AttemptOutcome::RateLimited, AttemptOutcome::ServerError] {
        meter.attempt(0, attempt(), price(), Instant::now());
        meter.attempted(outcome, Some(500), Some("it failed".into()), Instant::now());
    }
    meter.close(End { status: 502, error_code: Some("upstream_failed".into()), ..End::default() });
    assert_eq!(desk.used().await, (1, 0, 0));
    let records = desk.records();
    let outcomes: Vec<_> = records[0]["attempts"].as_array().expect("a list").iter().map(|a| &a["outcome"]).collect();
    assert_eq!(outcomes, ["rate_limited", "server_error"]);
}

#[tokio::test]
async fn the_cost_of_an_answer_without_a_price_is_null_and_not_zero() {
    let desk = desk();
    let mut meter = desk.reserved().await;
    meter.attempt(0, attempt(), None, Instant::now());
    meter.close(End { status: 200, usage: Some(usage(80, 20)), ..End::default() });
    assert!(desk.books.metrics.encode().contains(r#"relay_unpriced_requests_total{model="gpt-5"} 1"#));
    let records = desk.records();
    assert_eq!((&records[0]["cost_nano_usd"], &records[0]["price_source"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn counted_tokens_teach_the_estimator_and_estimated_ones_do_not() {
    let desk = desk();
    let sizes = Sizes { text_bytes: 400, messages: 1, ..Sizes::default() };
    let thought = || desk.books.estimator.estimate(&key(), "gpt-5", &sizes);
    let before = thought();
    let mut cut = desk.reserved().await;
    cut.attempt(0, attempt(), price(), Instant::now());
    drop(cut);
    assert_eq!(thought(), before);
    let mut whole = desk.reserved().await;
    whole.attempt(0, attempt(), price(), Instant::now());
    whole.close(End { status: 200, usage: Some(usage(300, 10)), ..End::default() });
    assert!(thought().input > before.input);
}

#[tokio::test]
async fn nothing_stays_in_flight() {
    let desk = desk();
    let (one, mut two) = (desk.meter(), desk.reserved().await);
    let metrics = desk.books.metrics.clone();
    assert_eq!((metrics.requests_in_flight.get(), metrics.reservations_live.get()), (2, 1));
    two.attempt(0, attempt(), price(), Instant::now());
    two.close(End { status: 200, ..End::default() });
    drop(one);
    assert_eq!((metrics.requests_in_flight.get(), metrics.reservations_live.get()), (0, 0));
    assert_eq!(desk.limiter.live(), 0);
}

/// Every field of the record is described, and nothing else is.
#[test]
fn the_document_describes_every_field() {
    let document = include_str!("../../../docs/usage-record.md");
    let record = serde_json::to_value(Record::new("r", "chat", Timestamp::UNIX_EPOCH)).expect("a record is JSON");
    let attempt = serde_json::to_value(attempt()).expect("an attempt is JSON");
    let usage = serde_json::to_value(Usage { server_tools: [("web_search".to_owned(), 1)].into(), ..Usage::default() });
    let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let mut expected = fields(&record);
    expected.extend(fields(&attempt).iter().map(|name| format!("attempts[].{name}")));
    expected.extend(fields(&usage.expect("usage is JSON")).iter().map(|name| format!("usage.{name}")));
    for parts in [
        &["reserved.input", "reserved.output", "reserved.cost_nano_usd"][..],
        &["budget_alerts[].scope", "budget_alerts[].rule", "budget_alerts[].percent"],
        &["refused_by.scope", "refused_by.rule", "losses[].kind", "losses[].field", "losses[].reason"],
    ] {
        expected.extend(parts.iter().map(|part| (*part).to_owned()));
    }
    let (document, _) = document.split_once("## Cost").expect("the fields come before the cost");
    let described = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut described: Vec<_> = described.map(str::to_owned).collect();
    expected.sort();
    described.sort();
    assert_eq!(described, expected);
}

#[tokio::test]
async fn what_callers_and_upstreams_make_up_is_bounded() {
    let desk = desk();
    let mut meter = desk.meter();
    (meter.record().model, meter.record().model_ref) = (Some("gpt-made-up".into()), None);
    let losses: Vec<_> = (0..10_000).map(|n| protocol::Loss::dropped(format!("x{n}"), "")).collect();
    meter.lost(&losses);
    meter.attempt(0, attempt(), None, Instant::now());
    meter.attempted(AttemptOutcome::ServerError, Some(500), Some("x".repeat(1 << 20)), Instant::now());
    meter.close(End { status: 500, ..End::default() });
    let page = desk.books.metrics.encode();
    assert!(page.contains("model=\"other\"") && !page.contains("made-up"), "{page}");
    let records = desk.records();
    assert_eq!(records[0]["model"], "gpt-made-up");
    assert_eq!(records[0]["losses"].as_array().map(Vec::len), Some(MOST_LOSSES));
    assert_eq!(records[0]["attempts"][0]["reason"].as_str().map(str::len), Some(MOST_SAID));
}
