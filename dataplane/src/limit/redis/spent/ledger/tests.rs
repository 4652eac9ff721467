use table::ObjectRef;

use super::*;
use crate::limit::rule::Sharer;

const DAY: Millis = 24 * 60 * 60 * 1_000;
const FIRST: Bounds = Bounds { start_ms: 10 * DAY, end_ms: 11 * DAY };
const SECOND: Bounds = Bounds { start_ms: 11 * DAY, end_ms: 12 * DAY };
const TOTAL: Bounds = Bounds { start_ms: 0, end_ms: 0 };

fn scope(name: &str) -> Arc<Scope> {
    Arc::new(Scope::RelayKey(ObjectRef::new("team", name)))
}

fn birth(number: u64) -> Birth {
    format!("{number:015}-a").into()
}

fn amount(name: &str, bounds: Bounds, nano_usd: u64) -> Amount {
    let period = if bounds == TOTAL { Period::Total } else { Period::Day };
    Amount { scope: scope(name), period, bounds, nano_usd }
}

/// A ledger in which amounts of the key `a` were taken by the first birth.
fn ledger(amounts: &[(Bounds, u64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for (bounds, nano_usd) in amounts {
        assert!(ledger.record([amount("a", *bounds, *nano_usd)], &birth(1)));
    }
    ledger
}

#[test]
fn what_the_counters_have_taken_is_not_owed_to_them() {
    let ledger = ledger(&[(FIRST, 5)]);
    assert_eq!((ledger.owed("team", &birth(1)), ledger.has("team")), (vec![], true));
}

#[test]
fn everything_that_was_settled_is_owed_to_the_next_birth_by_scope_and_period() {
    let mut ledger = ledger(&[(FIRST, 5), (TOTAL, 7), (FIRST, 2)]);
    assert!(ledger.record([amount("b", FIRST, 1)], &birth(1)));
    assert!(ledger.hear("team", &birth(2), None));
    let owed = vec![amount("a", FIRST, 7), amount("a", TOTAL, 7), amount("b", FIRST, 1)];
    assert_eq!(ledger.debts(), [("team".to_owned(), birth(2))]);
    assert_eq!(ledger.owed("team", &birth(2)), owed);
}

#[test]
fn what_is_owed_to_a_birth_no_longer_changes_and_once_told_it_is_owed_no_more() {
    let mut ledger = ledger(&[(FIRST, 5)]);
    assert!(ledger.hear("team", &birth(2), None));
    assert!(ledger.record([amount("a", FIRST, 100)], &birth(2)));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", FIRST, 5)]);
    ledger.seeded("team", &birth(1));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", FIRST, 5)]);
    ledger.seeded("team", &birth(2));
    assert_eq!((ledger.owed("team", &birth(2)), ledger.debts()), (vec![], vec![]));
    assert!(ledger.hear("team", &birth(3), None));
    assert_eq!(ledger.owed("team", &birth(3)), [amount("a", FIRST, 105)]);
}

#[test]
fn what_lost_counters_have_taken_is_not_written_down() {
    let mut ledger = ledger(&[(FIRST, 5)]);
    assert!(ledger.hear("team", &birth(2), None));
    assert!(!ledger.record([amount("a", FIRST, 3)], &birth(1)));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", FIRST, 5)]);
}

#[test]
fn an_answer_that_is_late_brings_no_old_birth_back() {
    let mut ledger = ledger(&[(FIRST, 5)]);
    assert!(ledger.hear("team", &birth(2), None));
    assert!(!ledger.hear("team", &birth(1), None));
    assert!(!ledger.hear("team", &birth(2), None));
    assert_eq!(ledger.owed("team", &birth(1)), []);
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", FIRST, 5)]);
}

#[test]
fn an_answer_to_what_was_sent_to_the_present_counters_is_never_late() {
    let mut ledger = ledger(&[(FIRST, 5)]);
    assert!(ledger.hear("team", &birth(9), Some(&birth(1))));
    // The clock of the next server is behind.
    assert!(!ledger.hear("team", &birth(2), Some(&birth(1))));
    assert!(ledger.hear("team", &birth(2), Some(&birth(9))));
    assert!(!ledger.hear("team", &birth(2), Some(&birth(2))));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", FIRST, 5)]);
}

#[test]
fn the_next_period_begins_at_zero_and_late_amounts_of_the_last_one_do_not_count() {
    let mut ledger = ledger(&[(FIRST, 5), (SECOND, 1), (FIRST, 50)]);
    assert!(ledger.hear("team", &birth(2), None));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", SECOND, 1)]);
}

#[test]
fn another_time_zone_moves_the_bounds_and_keeps_the_sum() {
    let moved = Bounds { start_ms: FIRST.start_ms + 1_000, end_ms: FIRST.end_ms + 1_000 };
    let mut ledger = ledger(&[(FIRST, 5), (moved, 1), (FIRST, 2)]);
    assert!(ledger.hear("team", &birth(2), None));
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", moved, 8)]);
}

#[test]
fn periods_that_are_over_are_forgotten_and_a_total_never_is() {
    let mut ledger = ledger(&[(FIRST, 5), (TOTAL, 7)]);
    ledger.forget(FIRST.end_ms - 1);
    assert!(ledger.hear("team", &birth(2), None));
    assert_eq!(ledger.owed("team", &birth(2)).len(), 2);
    ledger.forget(FIRST.end_ms);
    assert_eq!(ledger.owed("team", &birth(2)), [amount("a", TOTAL, 7)]);
}

#[test]
fn domains_are_lost_one_by_one() {
    let mut ledger = ledger(&[(FIRST, 5)]);
    assert!(ledger.hear("other", &birth(9), None));
    assert_eq!((ledger.owed("team", &birth(9)), ledger.has("other")), (vec![], false));
}

#[test]
fn a_ledger_that_was_kept_owes_the_same() {
    let mut ledger = ledger(&[(FIRST, 5), (TOTAL, 7)]);
    let policy = Scope::Policy { policy: ObjectRef::new("platform", "p"), sharer: Sharer::Namespace("team".into()) };
    let shared = Amount { scope: Arc::new(policy), ..amount("a", FIRST, 9) };
    assert!(ledger.record([shared], &birth(1)));
    assert!(ledger.hear("team", &birth(2), None));
    assert!(ledger.record([amount("a", FIRST, 100)], &birth(2)));
    let text = serde_json::to_string(&ledger.pages()).expect("pages are JSON");
    let read = Ledger::of(serde_json::from_str(&text).expect("what was written is read"));
    assert_eq!(read.owed("team", &birth(2)), ledger.owed("team", &birth(2)));
    assert_eq!((read.owed("team", &birth(2)).len(), read.birth("team")), (3, Some(birth(2))));
}
