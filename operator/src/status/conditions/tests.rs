use std::sync::Arc;

use compiler::Resources;
use crds::Kind;
use serde_json::{Value, json};
use table::ObjectRef;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn report(conditions: &[(ConditionType, bool, Reason, &str)]) -> Report {
    let conditions = conditions.iter().map(|(of, status, reason, message)| compiler::Condition {
        r#type: *of,
        status: *status,
        reason: *reason,
        message: (*message).to_owned(),
    });
    Report {
        kind: Kind::RelayKey,
        id: ObjectRef::new("team-a", "app"),
        observed_generation: Some(3),
        conditions: conditions.collect(),
        unmatched_globs: Vec::new(),
    }
}

fn good() -> Report {
    report(&[
        (ConditionType::Accepted, true, Reason::Accepted, ""),
        (ConditionType::ResolvedRefs, true, Reason::ResolvedRefs, ""),
        (ConditionType::Ready, true, Reason::Ready, ""),
    ])
}

fn missing(reason: Reason) -> Report {
    report(&[
        (ConditionType::Accepted, true, Reason::Accepted, ""),
        (ConditionType::ResolvedRefs, false, reason, "spec.x names nothing"),
        (ConditionType::Ready, false, reason, "spec.x names nothing"),
    ])
}

fn said(report: &Report, programmed: &Programmed, issue: Option<&Issue>, expires_at: Option<Timestamp>) -> Vec<String> {
    said_after(&Said::default(), report, programmed, issue, expires_at)
}

fn said_after(
    before: &Said,
    report: &Report,
    programmed: &Programmed,
    issue: Option<&Issue>,
    expires_at: Option<Timestamp>,
) -> Vec<String> {
    let judgement = Judgement { report, programmed, issue, expires_at, breaker: None, is_lasting: true };
    lines(&words(judgement, before, 3, at(0)))
}

fn lines(words: &[Word]) -> Vec<String> {
    words
        .iter()
        .map(|word| format!("{}={} {}", word.of, if word.status { "True" } else { "False" }, word.reason))
        .collect()
}

fn key(state: BreakerState, class: &str, open_pods: u32) -> Vec<String> {
    let class = Some(class.to_owned());
    let breaker = KeyBreaker { state, class, open_pods: Some(open_pods), pods: Some(3), until: None };
    let report = Report { kind: Kind::HostKey, ..good() };
    let judgement = Judgement {
        report: &report,
        programmed: &Programmed::Everywhere,
        issue: None,
        expires_at: None,
        breaker: Some(&breaker),
        is_lasting: false,
    };
    lines(&words(judgement, &Said::default(), 3, at(0)))
}

#[test]
fn a_key_that_is_out_is_not_healthy_and_not_ready_only_where_that_does_not_heal() {
    let out = ["Healthy=False NoHealthyKey", "Ready=True Ready"];
    assert_eq!(key(BreakerState::Partial, "auth", 1)[3..], out);
    assert_eq!(key(BreakerState::Open, "rateLimit", 3)[3..], out);
    assert_eq!(key(BreakerState::Open, "auth", 3)[3..], ["Healthy=False NoHealthyKey", "Ready=False NoHealthyKey"]);
    assert_eq!(key(BreakerState::Closed, "auth", 0)[3..], ["Healthy=True Healthy", "Ready=True Ready"]);
}

fn waiting(by: usize, of: usize) -> Programmed {
    Programmed::Waiting { by, of, for_pod: "relay/b".to_owned() }
}

fn before(type_: &str, status: &str, generation: i64, second: i64) -> Said {
    Said::of(&json!({"observedGeneration": generation, "conditions": [{
        "type": type_, "status": status, "reason": "X", "message": "", "observedGeneration": generation,
        "lastTransitionTime": at(second).to_string(),
    }]}))
}

#[test]
fn what_is_right_and_acknowledged_is_ready() {
    let expected =
        ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs", "Programmed=True Programmed", "Ready=True Ready"];
    assert_eq!(said(&good(), &Programmed::Everywhere, None, None), expected);
}

#[test]
fn the_fleet_decides_what_is_programmed() {
    let nacked =
        Programmed::Nacked { pod: "relay/a".to_owned(), code: "BadPattern".to_owned(), message: "no".to_owned() };
    let unsaid = Programmed::Unsaid(Missing::WordOf("relay/a".to_owned()));
    for (programmed, expected) in [
        (waiting(0, 2), ["Programmed=False Pending", "Ready=False Pending", "Reconciling=True Pending"].as_slice()),
        (
            waiting(1, 2),
            &[
                "Programmed=False PartiallyProgrammed",
                "Ready=False PartiallyProgrammed",
                "Reconciling=True PartiallyProgrammed",
            ],
        ),
        (nacked, &["Programmed=False Nacked", "Ready=False Nacked", "Stalled=True Nacked"]),
        (unsaid, &["Programmed=False Pending", "Ready=False Pending", "Reconciling=True Pending"]),
        (Programmed::Unsaid(Missing::Pods), &["Programmed=False NoDataPlane", "Ready=False NoDataPlane"]),
        (Programmed::Deserted, &["Programmed=False NoDataPlane", "Ready=False NoDataPlane"]),
        (Programmed::Unselected, &["Programmed=False NoDataPlane", "Ready=False NoDataPlane"]),
        (
            Programmed::UnusableIn { data_plane: "relay/edge".to_owned(), why: "its Policy is missing".to_owned() },
            &["Programmed=False Invalid", "Ready=False Invalid", "Stalled=True Invalid"],
        ),
    ] {
        assert_eq!(said(&good(), &programmed, None, None)[2..], *expected, "{programmed:?}");
    }
}

#[test]
fn what_was_in_effect_stays_so_while_nothing_else_is_known() {
    let programmed = before("Programmed", "True", 3, -60);
    let of_older = before("Programmed", "True", 2, -60);
    for missing in [Missing::Pods, Missing::WordOf("relay/a".to_owned())] {
        let unsaid = Programmed::Unsaid(missing);
        assert_eq!(said_after(&programmed, &good(), &unsaid, None, None)[2], "Programmed=True Programmed");
        assert!(said_after(&of_older, &good(), &unsaid, None, None)[2].starts_with("Programmed=False"));
    }
    assert_eq!(said_after(&programmed, &good(), &Programmed::Deserted, None, None)[2], "Programmed=False NoDataPlane");
    assert_eq!(said_after(&programmed, &good(), &waiting(1, 2), None, None)[2], "Programmed=False PartiallyProgrammed");
}

#[test]
fn what_the_compiler_refused_is_told_by_its_reason_and_is_stalled() {
    let expected = [
        "Accepted=True Accepted",
        "ResolvedRefs=False RefNotFound",
        "Programmed=False RefNotFound",
        "Ready=False RefNotFound",
        "Stalled=True RefNotFound",
    ];
    assert_eq!(said(&missing(Reason::RefNotFound), &Programmed::NotInTable, None, None), expected);
}

#[test]
fn a_secret_that_is_being_made_is_not_missing() {
    let report = missing(Reason::SecretNotFound);
    let expected = [
        "Accepted=True Accepted",
        "ResolvedRefs=False Pending",
        "Programmed=False Pending",
        "Ready=False Pending",
        "Issued=False Pending",
        "Reconciling=True Pending",
    ];
    assert_eq!(said(&report, &Programmed::NotInTable, Some(&Issue::Pending), None), expected);
    let unread = said(&report, &Programmed::NotInTable, Some(&Issue::Issued), None);
    assert_eq!(unread[1], "ResolvedRefs=False Pending", "it was made, and what was compiled is older");
    assert_eq!(unread[5], "Reconciling=True Pending");
    let unwanted = said(&report, &Programmed::NotInTable, None, None);
    assert_eq!(unwanted[1], "ResolvedRefs=False SecretNotFound", "no token is made for it");
    let empty = said(&missing(Reason::SecretEmpty), &Programmed::NotInTable, Some(&Issue::Issued), None);
    assert_eq!(empty[1], "ResolvedRefs=False SecretEmpty", "another fault stays one");
}

#[test]
fn a_secret_of_somebody_else_refuses_the_key_even_if_it_would_compile() {
    let conflicted = Issue::Conflicted("spec.secret.name `x` is taken".to_owned());
    let expected = [
        "Accepted=False Conflicted",
        "ResolvedRefs=True ResolvedRefs",
        "Programmed=True Programmed",
        "Ready=False Conflicted",
        "Issued=False Conflicted",
        "Conflicted=True Conflicted",
        "Stalled=True Conflicted",
    ];
    assert_eq!(said(&good(), &Programmed::Everywhere, Some(&conflicted), None), expected);
}

#[test]
fn what_has_ended_is_not_ready() {
    let ended = said(&good(), &Programmed::Everywhere, Some(&Issue::Issued), Some(at(0)));
    assert_eq!(ended[3..], ["Ready=False Expired", "Issued=True Issued", "Expired=True Expired"]);
    let not_yet = said(&good(), &Programmed::Everywhere, Some(&Issue::Issued), Some(at(1)));
    assert_eq!(not_yet[3..], ["Ready=True Ready", "Issued=True Issued"]);
}

#[test]
fn there_are_never_more_conditions_than_the_crd_allows() {
    let worst = report(&[
        (ConditionType::Accepted, false, Reason::Conflicted, "m"),
        (ConditionType::ResolvedRefs, false, Reason::RefNotFound, "m"),
        (ConditionType::Ready, false, Reason::Conflicted, "m"),
        (ConditionType::Revoked, true, Reason::Revoked, "m"),
        (ConditionType::Conflicted, true, Reason::Conflicted, "m"),
    ]);
    let all = said(&worst, &Programmed::NotInTable, Some(&Issue::Issued), Some(at(-5)));
    assert_eq!(all.len(), MOST, "{all:?}");
}

#[test]
fn a_condition_keeps_its_date_while_its_status_stays() {
    let date = |before: &Said, status| {
        let word = Word { of: "Ready", status, reason: "New", message: "new".to_owned() };
        dated(vec![word], before, 4, at(7)).remove(0).last_transition_time.0
    };
    assert_eq!(date(&before("Ready", "True", 3, -60), true), at(-60));
    assert_eq!(date(&before("Ready", "False", 3, -60), true), at(7));
    assert_eq!(date(&Said::default(), true), at(7));
}

#[test]
fn a_paused_object_keeps_what_was_said_and_says_that_it_is_paused() {
    let kept = paused(&before("Ready", "True", 2, -60), 3, at(0));
    let words: Vec<(&str, &str, Option<i64>)> =
        kept.iter().map(|one| (one.type_.as_str(), one.status.as_str(), one.observed_generation)).collect();
    assert_eq!(words, [("Ready", "True", Some(2)), ("Reconciling", "False", Some(3))]);
}

fn refused(report: &Report) -> Judgement<'_> {
    let programmed = &Programmed::NotInTable;
    Judgement { report, programmed, issue: None, expires_at: None, breaker: None, is_lasting: false }
}

#[test]
fn the_words_are_those_of_relay_check() {
    let manifest = json!({
        "apiVersion": "llmrelay.io/v1alpha1", "kind": "HostKey",
        "metadata": {"name": "k", "namespace": "team-a", "generation": 3},
        "spec": {"hostRef": {"name": "opnai"}, "source": {"secretKeyRef": {"name": "s", "key": "k"}}},
    });
    let key: crds::HostKey = serde_json::from_value(manifest).unwrap();
    let resources =
        Resources { host_keys: [(ObjectRef::new("team-a", "k"), Arc::new(key))].into(), ..Resources::default() };
    let compilation = compiler::compile(&resources);
    let [report] = compilation.reports.as_slice() else { panic!("one object, one report") };
    let words = words(refused(report), &Said::default(), 3, at(0));
    for (word, told) in words.iter().zip(&report.conditions).take(2) {
        let told = serde_json::to_value(told).unwrap();
        let message = told.get("message").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(
            (word.of, word.reason, word.message.as_str()),
            (told["type"].as_str().unwrap(), told["reason"].as_str().unwrap(), message)
        );
    }
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let long = report(&[(ConditionType::Accepted, false, Reason::Invalid, &"ä".repeat(3_000))]);
    for word in words(refused(&long), &Said::default(), 3, at(0)) {
        assert!(word.message.len() <= LONGEST, "{}", word.message.len());
    }
}

#[test]
fn the_page_on_troubleshooting_has_a_section_for_every_reason_and_for_nothing_else() {
    let page = include_str!("../../../../docs/troubleshooting.md");
    let mut documented: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    documented.sort_unstable();
    let mut said = REASONS.to_vec();
    said.sort_unstable();
    assert_eq!(documented, said);
}
