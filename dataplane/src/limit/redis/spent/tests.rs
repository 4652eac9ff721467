use std::{fs, sync::Barrier, thread};

use table::ObjectRef;

use super::*;
use crate::limit::{
    redis::spends::{BudgetSpend, Spend},
    rule::Scope,
};

fn spend(period: Period, at: &str, amount: u64) -> Spend {
    let at_ms = at.parse::<Timestamp>().expect("a valid time").as_millisecond();
    let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")));
    let budget = BudgetSpend { period, timezone: "Europe/Berlin".into(), at_ms, amount };
    Spend { scope, rates: Vec::new(), budgets: vec![budget] }
}

#[test]
fn what_was_used_without_a_reservation_is_written_down_in_its_period() {
    let spent = Spent::open(None);
    assert!(spent.spent(&spend(Period::Day, "2026-01-15T23:30:00Z", 5), "1"));
    assert!(spent.spent(&spend(Period::Total, "2026-01-15T23:30:00Z", 7), "1"));
    assert!(spent.hear("team", "2", None));
    let owed = spent.owed("team", &"2".into());
    let bounds: Vec<_> = owed.iter().map(|owed| (owed.bounds.start_ms, owed.bounds.end_ms, owed.nano_usd)).collect();
    assert_eq!(bounds, [(1_768_518_000_000, 1_768_604_400_000, 5), (0, 0, 7)]);
    assert!(!spent.spent(&spend(Period::Day, "2026-01-15T23:30:00Z", 5), "1"));
}

#[test]
fn what_is_spent_while_the_counters_are_lost_is_written_down_of_all_budgets_or_of_none() {
    let spent = Spent::open(None);
    let mut spend = spend(Period::Month, "2026-01-15T23:30:00Z", 1);
    spend.budgets.push(BudgetSpend { period: Period::Total, ..spend.budgets[0].clone() });
    let births: Vec<_> = (0..2_000).map(|birth| format!("{birth:06}")).collect();
    let (start, mut taken) = (Barrier::new(2), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for birth in &births[1..] {
                start.wait();
                spent.hear("team", birth, None);
            }
        });
        for birth in &births[..births.len() - 1] {
            start.wait();
            taken += u64::from(spent.spent(&spend, birth));
        }
    });
    assert!(spent.hear("team", "the last", None));
    let owed: Vec<_> = spent.owed("team", &"the last".into()).iter().map(|owed| owed.nano_usd).collect();
    assert_eq!(owed, [taken; 2]);
}

#[tokio::test]
async fn sums_are_on_the_disk_when_the_process_ends_and_are_found_by_the_next_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let usage = directory.path().join("usage.jsonl");
    let spent = Arc::new(Spent::open(Some(&usage)));
    let process = spent.process().to_owned();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(spent.clone().keep(Arc::new(RedisClock::new()), stop.clone()));
    assert!(spent.spent(&spend(Period::Total, "2026-01-15T23:30:00Z", 7), "1"));
    stop.cancel();
    keeping.await.expect("it does not panic");
    drop(spent);
    let next = Spent::open(Some(&usage));
    assert_eq!((next.process(), next.has("team")), (&*process, true));
}

#[tokio::test]
async fn sums_that_have_not_changed_are_not_written_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let usage = directory.path().join("usage.jsonl");
    let spent = Arc::new(Spent::open(Some(&usage)));
    spent.save().await;
    let file = directory.path().join("usage.jsonl.spent.json");
    fs::remove_file(&file).expect("it was written");
    assert!(spent.settled(&[], &[], Outcome::NeverRan, "1"));
    spent.save().await;
    assert!(!file.exists());
    assert!(spent.spent(&spend(Period::Total, "2026-01-15T23:30:00Z", 7), "1"));
    spent.save().await;
    assert!(file.exists());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_loses_nothing_once_it_takes_something() {
    let directory = tempfile::tempdir().expect("a directory");
    let spent = Arc::new(Spent::open(Some(&directory.path().join("usage.jsonl"))));
    let obstacle = directory.path().join("usage.jsonl.spent.json.new");
    fs::create_dir(&obstacle).expect("a directory");
    spent.save().await;
    let file = directory.path().join("usage.jsonl.spent.json");
    assert!(!file.exists());
    fs::remove_dir(obstacle).expect("it is empty");
    spent.save().await;
    assert!(file.exists());
}

#[test]
fn beside_a_device_nothing_is_kept() {
    let spent = Spent::open(Some(Path::new("/dev/null")));
    assert!(spent.shelf.is_none());
}

#[test]
fn periods_that_are_over_are_dropped_and_names_differ() {
    let (one, other) = (Spent::open(None), Spent::open(None));
    assert!(one.spent(&spend(Period::Day, "2026-01-15T23:30:00Z", 5), "1"));
    one.ledger.lock().forget(1_768_604_400_000);
    assert!(!one.has("team"));
    assert_ne!(one.process(), other.process());
}
