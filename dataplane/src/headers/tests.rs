use std::sync::Arc;

use WireShape::{AnthropicMessages, OpenaiChat};
use table::HeaderRules;

use super::*;
use crate::{
    limit::rule::{Counted, Rule, RuleRef, Scope, Span},
    world::build,
};

fn of(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// A caller of `from` at a host of `to`.
fn sent(from: WireShape, to: WireShape, rules: HeaderRules, lines: &[(&str, &str)]) -> HeaderMap {
    let host = table::Host { headers: rules, ..build::host(to) };
    let up = Upward { from, host: &host, encoded: &[], traceparent: None, gzip: false, stream: false };
    upward(&of(lines), up)
}

const SECRETS: [(&str, &str); 11] = [
    ("authorization", "Bearer canary"),
    ("x-api-key", "canary"),
    ("api-key", "canary"),
    ("x-goog-api-key", "canary"),
    ("cookie", "canary"),
    ("proxy-authorization", "canary"),
    ("x-relay-debug", "canary"),
    ("x-forwarded-for", "canary"),
    ("connection", "close, x-stainless-lang"),
    ("x-stainless-lang", "canary"),
    ("host", "canary"),
];

#[test]
fn no_credential_cookie_or_hop_by_hop_header_goes_up_even_where_a_host_asks_for_it() {
    let forward: Vec<String> = SECRETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for shape in WireShape::ALL {
        let rules = HeaderRules { forward: forward.clone(), ..HeaderRules::default() };
        let headers = sent(shape, shape, rules, &SECRETS);
        assert!(!headers.values().any(|value| value.to_str().unwrap().contains("canary")), "{headers:?}");
    }
}

#[test]
fn headers_of_a_shape_go_to_hosts_of_that_shape_alone() {
    let lines = [
        ("anthropic-beta", "a-1,b-2"),
        ("anthropic-version", "2026-10-21"),
        ("user-agent", "claude-cli/2"),
        ("x-stainless-os", "Linux"),
        ("x-odd", "1"),
    ];
    let same = sent(AnthropicMessages, AnthropicMessages, HeaderRules::default(), &lines);
    assert_eq!(get(&same, "anthropic-beta"), Some("a-1,b-2"));
    assert_eq!(get(&same, "anthropic-version"), Some("2026-10-21"));
    assert_eq!(get(&same, "user-agent"), Some("claude-cli/2"));
    assert_eq!(get(&same, "x-odd"), None);
    let other = sent(AnthropicMessages, OpenaiChat, HeaderRules::default(), &lines);
    assert_eq!(get(&other, "anthropic-beta"), None);
    assert_eq!(get(&other, "anthropic-version"), None);
    assert!(get(&other, "user-agent").is_some_and(|agent| agent.starts_with("relay/")));
    assert_eq!(get(&other, "x-stainless-os"), None);
}

#[test]
fn a_version_is_named_where_the_caller_names_none_and_the_codecs_word_wins() {
    let plain = sent(OpenaiChat, AnthropicMessages, HeaderRules::default(), &[]);
    assert_eq!(get(&plain, "anthropic-version"), Some("2023-06-01"));
    let host = build::host(AnthropicMessages);
    let encoded = [("anthropic-version", "2026-10-21".to_owned())];
    let up = Upward { from: OpenaiChat, host: &host, encoded: &encoded, traceparent: None, gzip: true, stream: true };
    let headers = upward(&of(&[]), up);
    assert_eq!(get(&headers, "anthropic-version"), Some("2026-10-21"));
    assert_eq!(get(&headers, "accept"), Some("text/event-stream"));
    assert_eq!(get(&headers, "accept-encoding"), Some("gzip"));
}

#[test]
fn the_state_of_a_trace_goes_on_with_the_trace_that_it_belongs_to() {
    let host = build::host(OpenaiChat);
    let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ours = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-1-01");
    for (callers, state) in [(theirs, Some("x=1")), ("00-nonsense", None), ("", None)] {
        let client = of(&[("traceparent", callers), ("tracestate", "x=1")]);
        let traceparent = Some(ours.clone());
        let up = Upward {
            from: OpenaiChat,
            host: &host,
            encoded: &[],
            traceparent: traceparent.clone(),
            gzip: false,
            stream: false,
        };
        let headers = upward(&client, up);
        assert_eq!(
            (headers.get("traceparent"), get(&headers, "tracestate")),
            (traceparent.as_ref(), state),
            "{callers}"
        );
    }
}

#[test]
fn a_host_forwards_removes_and_sets_in_this_order() {
    let rules = HeaderRules {
        forward: build::texts(&["x-one", "x-two"]),
        remove: build::texts(&["x-two", "user-agent"]),
        set: vec![("x-three".into(), "ours".into()), ("x-one".into(), "ours".into())],
    };
    let lines = [("x-one", "theirs"), ("x-two", "theirs"), ("x-three", "theirs"), ("user-agent", "sdk")];
    let headers = sent(OpenaiChat, OpenaiChat, rules, &lines);
    assert_eq!(get(&headers, "x-one"), Some("ours"));
    assert_eq!(get(&headers, "x-two"), None);
    assert_eq!(get(&headers, "x-three"), Some("ours"));
    assert_eq!(get(&headers, "user-agent"), None);
}

#[test]
fn nothing_about_accounts_quotas_or_plumbing_comes_down() {
    let lines = [
        ("set-cookie", "canary"),
        ("openai-organization", "canary"),
        ("openai-project", "canary"),
        ("anthropic-organization-id", "canary"),
        ("anthropic-workspace-id", "canary"),
        ("anthropic-ratelimit-requests-remaining", "canary"),
        ("x-ratelimit-limit-tokens", "canary"),
        ("x-request-id", "canary"),
        ("x-relay-model", "canary"),
        ("connection", "x-hop"),
        ("x-hop", "canary"),
        ("transfer-encoding", "canary"),
        ("content-length", "7"),
        ("content-type", "application/json"),
        ("openai-processing-ms", "12"),
        ("content-encoding", "gzip"),
    ];
    let names = |headers: &HeaderMap| {
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names
    };
    let kept = downward(&of(&lines), true, true);
    assert_eq!(names(&kept), ["content-encoding", "content-type", "openai-processing-ms"]);
    assert_eq!(names(&downward(&of(&lines), true, false)), ["content-type", "openai-processing-ms"]);
    assert!(downward(&of(&lines), false, false).is_empty());
}

fn standing() -> Standing {
    let scope = Arc::new(Scope::RelayKey(build::id("app")));
    let rule = Rule::Rate { counted: Counted::Requests, span: Span::Minute };
    let one = |limit, remaining, millis| RuleStanding {
        rule: RuleRef { scope: scope.clone(), rule },
        limit,
        remaining,
        resets_in: Duration::from_millis(millis),
    };
    Standing { requests: Some(one(60, 59, 90_500)), tokens: Some(one(1_000, 7, 120)) }
}

#[test]
fn limits_are_told_in_the_words_of_the_callers_shape() {
    let now = Timestamp::constant(1_800_000_000, 0);
    let told = |shape| {
        let mut headers = HeaderMap::new();
        put_rate_limits(&mut headers, &mut values(), shape, &standing(), || now);
        headers
    };
    let openai = told(OpenaiChat);
    assert_eq!(get(&openai, "x-ratelimit-limit-requests"), Some("60"));
    assert_eq!(get(&openai, "x-ratelimit-remaining-tokens"), Some("7"));
    assert_eq!(get(&openai, "x-ratelimit-reset-requests"), Some("1m31s"));
    assert_eq!(get(&openai, "x-ratelimit-reset-tokens"), Some("120ms"));
    let anthropic = told(AnthropicMessages);
    assert_eq!(get(&anthropic, "anthropic-ratelimit-requests-limit"), Some("60"));
    assert_eq!(get(&anthropic, "anthropic-ratelimit-requests-remaining"), Some("59"));
    assert_eq!(get(&anthropic, "anthropic-ratelimit-tokens-reset"), Some("2027-01-15T08:00:01Z"));
    assert_eq!(openai.len() + anthropic.len(), 12);
}

#[test]
fn what_relay_says_of_an_answer_is_safe_for_a_header() {
    let mut headers = HeaderMap::new();
    put_request_id(&mut headers, &mut values(), AnthropicMessages, &request_id(7));
    let said = Said {
        model: Some(told("modèle\r\nx: 1")),
        host: Some(told("team/a")),
        attempts: Some(2),
        overhead: Some(Duration::from_micros(1_250)),
        warnings: None,
        debug: vec!["1. m".into(), "- n".into()],
    };
    put_said(&mut headers, &mut values(), said);
    let id = "req_00000000000000000000000000000007";
    for name in ["x-request-id", "x-relay-request-id", "request-id"] {
        assert_eq!(get(&headers, name), Some(id));
    }
    assert_eq!(get(&headers, "x-relay-model"), Some("mod?le??x: 1"));
    assert_eq!(get(&headers, "x-relay-attempts"), Some("2"));
    assert_eq!(get(&headers, "x-relay-overhead-ms"), Some("1.250"));
    assert_eq!(headers.get_all("x-relay-debug").iter().count(), 2);
}

#[test]
fn an_upstream_gives_no_orders_to_a_proxy_before_relay() {
    let told: HeaderMap =
        ["x-accel-redirect", "x-sendfile", "x-reproxy-url", "x-litellm-key-spend", "refresh", "x-own"]
            .into_iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("/internal/secret")))
            .collect();
    let passed = downward(&told, true, false);
    assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-own"]);
}
