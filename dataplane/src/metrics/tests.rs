use table::{NanoUsd, Row};

use super::*;

/// The sample lines of a metric, in the order of the page.
fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
    let page = metrics.encode();
    page.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

#[test]
fn every_family_is_shown_before_the_first_request() {
    let page = Metrics::new().encode();
    for family in [
        "requests",
        "tokens",
        "cost_nano_usd",
        "unpriced_requests",
        "request_duration_seconds",
        "first_content_seconds",
        "overhead_seconds",
        "requests_in_flight",
        "streams_open",
        "connections_open",
        "attempts",
        "breaker_state",
        "losses",
        "limit_refusals",
        "budget_alerts",
        "limit_reservations_live",
        "limit_estimate_error_ratio",
        "redis_up",
        "redis_calls",
        "redis_script_duration_seconds",
        "redis_degraded_seconds",
        "redis_settlements",
        "redis_batches",
        "limit_degraded_requests",
        "sidecar_forwarded_requests",
        "tls_reloads",
        "usage_records_written",
        "usage_records_dropped",
        "usage_sink_errors",
        "table_info",
        "table_objects",
        "table_loaded_timestamp_seconds",
        "config_age_seconds",
    ] {
        assert!(page.contains(&format!("# TYPE relay_{family} ")), "{family}\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn a_request_counts_by_shape_model_host_and_class_of_status() {
    let metrics = Metrics::new();
    let over = RequestOver {
        shape: Some(WireShape::OpenaiChat),
        host: Some("catalog/openai"),
        status: 200,
        duration: Duration::from_secs(3),
        first_content: Some(Duration::from_millis(300)),
        overhead: None,
    };
    metrics.request_over(&metrics.model(Some("gpt-5")), &over);
    let expected = r#"relay_requests_total{shape="openai-chat",model="gpt-5",host="catalog/openai",status="2xx"} 1"#;
    assert_eq!(samples(&metrics, "relay_requests_total"), [expected]);
    let sum = samples(&metrics, "relay_first_content_seconds_sum");
    assert_eq!(sum, [r#"relay_first_content_seconds_sum{shape="openai-chat",model="gpt-5"} 0.3"#]);
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let metrics = Metrics::new();
    for model in 0..(MOST_NAMES + 100) {
        metrics.model(Some(&format!("model-{model}"))).cost(Some(NanoUsd(1)));
    }
    assert_eq!(samples(&metrics, "relay_cost_nano_usd_total").len(), MOST_NAMES + 1);
    let other = samples(&metrics, r#"relay_cost_nano_usd_total{model="other"}"#);
    assert_eq!(other, [r#"relay_cost_nano_usd_total{model="other"} 100"#]);
}

#[test]
fn a_name_cannot_break_the_page() {
    let metrics = Metrics::new();
    metrics.model(Some("a\"} 1\nrelay_fake 2")).cost(Some(NanoUsd(1)));
    assert_eq!(samples(&metrics, "relay_fake"), Vec::<String>::new());
}

#[test]
fn a_lost_field_counts_by_a_name_that_is_known() {
    let metrics = Metrics::new();
    for field in ["tools[0].cache_control", "tools", "x_secret_of_a_caller"] {
        metrics.loss(&Loss { kind: "dropped", field: field.into(), reason: String::new() });
    }
    let mut losses = samples(&metrics, "relay_losses_total");
    losses.sort();
    let expected = [
        r#"relay_losses_total{field="other",kind="dropped"} 1"#,
        r#"relay_losses_total{field="tools",kind="dropped"} 2"#,
    ];
    assert_eq!(losses, expected);
}

fn table(host_keys: &[&str]) -> RoutingTable {
    let row = |name: &&str| (ObjectRef::new("catalog", *name), Row::Invalid { reason: "only its name matters".into() });
    RoutingTable { host_keys: host_keys.iter().map(row).collect(), ..RoutingTable::default() }
}

#[test]
fn a_new_table_replaces_the_digest_and_counts_objects() {
    let metrics = Metrics::new();
    let at = "2026-01-01T00:00:00Z".parse().expect("a valid time");
    metrics.table_loaded(&table(&[]), at);
    metrics.table_loaded(&table(&["one"]), at);
    let digest = table(&["one"]).digest();
    assert_eq!(samples(&metrics, "relay_table_info"), [format!("relay_table_info{{digest=\"{digest}\"}} 1")]);
    assert_eq!(
        samples(&metrics, r#"relay_table_objects{kind="HostKey"}"#),
        [r#"relay_table_objects{kind="HostKey"} 1"#]
    );
    let loaded = samples(&metrics, "relay_table_loaded_timestamp_seconds");
    assert_eq!(loaded, ["relay_table_loaded_timestamp_seconds 1767225600.0"]);
}

#[test]
fn a_new_table_keeps_the_breakers_of_host_keys_that_stay() {
    let metrics = Metrics::new();
    let at = "2026-01-01T00:00:00Z".parse().expect("a valid time");
    metrics.table_loaded(&table(&["gone", "stays"]), at);
    for name in ["gone", "stays", "never-there"] {
        metrics.breaker(&ObjectRef::new("catalog", name), BreakerState::Open);
    }
    metrics.table_loaded(&table(&["new", "stays"]), at);
    let mut states = samples(&metrics, "relay_breaker_state{");
    states.sort();
    let expected =
        [r#"relay_breaker_state{host_key="catalog/new"} 0"#, r#"relay_breaker_state{host_key="catalog/stays"} 2"#];
    assert_eq!(states, expected);
}

#[test]
fn an_estimate_of_nothing_has_no_error() {
    let metrics = Metrics::new();
    metrics.estimate(EstimateKind::Input, 0, 10);
    metrics.estimate(EstimateKind::Output, 10, 5);
    let sums = samples(&metrics, "relay_limit_estimate_error_ratio_sum");
    assert!(sums.contains(&r#"relay_limit_estimate_error_ratio_sum{kind="output"} 0.5"#.to_owned()), "{sums:?}");
    assert!(sums.contains(&r#"relay_limit_estimate_error_ratio_sum{kind="input"} 0.0"#.to_owned()), "{sums:?}");
}

#[test]
fn a_process_without_redis_does_not_say_that_redis_is_down() {
    let metrics = Metrics::new();
    assert_eq!(samples(&metrics, "relay_redis_up"), Vec::<String>::new());
    metrics.redis_up(true);
    assert_eq!(samples(&metrics, "relay_redis_up"), ["relay_redis_up 1"]);
    metrics.redis_up(false);
    assert_eq!(samples(&metrics, "relay_redis_up"), ["relay_redis_up 0"]);
}

#[test]
fn time_without_redis_and_the_requests_in_it_are_counted() {
    let metrics = Metrics::new();
    metrics.redis_degraded(Duration::from_millis(1_500));
    metrics.redis_degraded(Duration::from_millis(250));
    assert_eq!(samples(&metrics, "relay_redis_degraded_seconds_total"), ["relay_redis_degraded_seconds_total 1.75"]);
    metrics.degraded_request(RedisOutage::Closed);
    let mut modes = samples(&metrics, "relay_limit_degraded_requests_total");
    modes.sort();
    let count = |mode, count| format!(r#"relay_limit_degraded_requests_total{{mode="{mode}"}} {count}"#);
    assert_eq!(modes, [count("closed", 1), count("local_share", 0), count("open", 0)]);
}

#[test]
fn a_call_at_redis_counts_by_script_and_outcome() {
    let metrics = Metrics::new();
    metrics.redis_call("reserve", "ok", Duration::from_micros(150));
    metrics.redis_call("reserve", "timeout", Duration::from_millis(50));
    let mut calls = samples(&metrics, "relay_redis_calls_total");
    calls.sort();
    let call = |outcome| format!(r#"relay_redis_calls_total{{script="reserve",outcome="{outcome}"}} 1"#);
    assert_eq!(calls, [call("ok"), call("timeout")]);
    let bucket = r#"relay_redis_script_duration_seconds_bucket{le="0.0002",script="reserve"}"#;
    assert_eq!(samples(&metrics, bucket), [format!("{bucket} 1")]);
}

#[test]
fn every_outcome_of_attempts_has_a_series_of_its_own() {
    let metrics = Metrics::new();
    for (times, outcome) in AttemptOutcome::ALL.into_iter().enumerate() {
        for _ in 0..=times {
            metrics.attempt("a/h", outcome);
        }
    }
    for (times, outcome) in AttemptOutcome::ALL.into_iter().enumerate() {
        let series = format!(r#"relay_attempts_total{{host="a/h",outcome="{}"}}"#, outcome.as_str());
        assert_eq!(samples(&metrics, &series), [format!("{series} {}", times + 1)]);
    }
}

#[test]
fn a_key_that_changes_its_team_counts_for_the_team_that_it_has() {
    let metrics = Metrics::new();
    let usage = |output| Usage { input: 1, output, ..Usage::default() };
    for (team, output) in [("red", 1), ("blue", 10), ("red", 100)] {
        metrics.spent("a/k", team, &usage(output), Some(NanoUsd(output)));
    }
    let of = |team, kind| format!(r#"relay_key_tokens_total{{relay_key="a/k",team="{team}",kind="{kind}"}}"#);
    for (team, kind, count) in [("red", "input", 2), ("red", "output", 101), ("blue", "output", 10)] {
        assert_eq!(samples(&metrics, &of(team, kind)), [format!("{} {count}", of(team, kind))]);
    }
    let cost = r#"relay_key_cost_nano_usd_total{relay_key="a/k",team="red"}"#;
    assert_eq!(samples(&metrics, cost), [format!("{cost} 101")]);
}

#[test]
fn a_model_counts_by_the_host_the_shape_and_the_status_that_each_request_had() {
    let metrics = Metrics::new();
    let over = |shape, host, status| {
        let duration = Duration::from_secs(1);
        let over = RequestOver { shape, host, status, duration, first_content: None, overhead: None };
        metrics.request_over(&metrics.model(Some("m")), &over);
    };
    over(Some(WireShape::OpenaiChat), Some("a/h"), 200);
    over(Some(WireShape::OpenaiChat), Some("a/h"), 429);
    over(Some(WireShape::AnthropicMessages), Some("a/i"), 200);
    over(None, None, 404);
    over(None, None, 499);
    let mut requests = samples(&metrics, "relay_requests_total");
    requests.sort();
    let line = |shape, host, status, count| {
        format!(r#"relay_requests_total{{shape="{shape}",model="m",host="{host}",status="{status}"}} {count}"#)
    };
    let expected = [
        line("", "", "4xx", 2),
        line("anthropic-messages", "a/i", "2xx", 1),
        line("openai-chat", "a/h", "2xx", 1),
        line("openai-chat", "a/h", "429", 1),
    ];
    assert_eq!(requests, expected);
}
