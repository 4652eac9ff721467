//! One process, and what others learn of it.

use table::Period;

use super::{Fate, Fleet, NOON, Short, at, host_key, used};
use crate::limit::{
    LEASE,
    counter::Outcome,
    reservation::Standing,
    rule::{Counted, Rule, Span},
    window::Millis,
};

const TOKENS: Rule = Rule::Rate { counted: Counted::Tokens, span: Span::Minute };

#[test]
fn a_process_learns_at_an_exchange_what_others_told_at_theirs() {
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_tokens(1_000, 50).with_slots(10).with_budget(Period::Day, 1_000, 7)];
    let charges = fleet.shares(0).take(&claim);
    fleet.exchange(0);
    fleet.used(1, &claim);
    fleet.exchange(1);
    let open = [(TOKENS, 50), (Rule::Concurrency, 1), (Rule::Budget(Period::Day), 7)];
    assert_eq!((fleet.used(0, &claim), fleet.used(1, &claim)), (open.to_vec(), open.to_vec()));
    fleet.shares(0).conclude(&charges, Outcome::Used(used(20, 9)));
    fleet.exchange(0);
    fleet.exchange(1);
    let settled = [(TOKENS, 20), (Rule::Concurrency, 0), (Rule::Budget(Period::Day), 9)];
    assert_eq!((fleet.used(0, &claim), fleet.used(1, &claim)), (settled.to_vec(), settled.to_vec()));
}

#[test]
fn what_changes_while_a_call_is_on_its_way_is_kept_and_told_by_the_next() {
    let mut fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(1_000, 50).with_slots(10)];
    let first = fleet.shares(0).take(&claim);
    fleet.begin(0);
    let second = fleet.shares(0).take(&claim);
    fleet.shares(0).conclude(&first, Outcome::Used(used(30, 0)));
    fleet.deliver(0, Fate::Answered);
    assert_eq!(fleet.used(0, &claim), [(TOKENS, 80), (Rule::Concurrency, 1)]);
    fleet.exchange(0);
    assert_eq!(fleet.used(0, &claim), [(TOKENS, 80), (Rule::Concurrency, 1)]);
    fleet.shares(0).conclude(&second, Outcome::NeverRan);
    assert_eq!(fleet.used(0, &claim), [(TOKENS, 30), (Rule::Concurrency, 0)]);
}

#[test]
fn an_exchange_whose_answer_was_lost_is_told_again_and_counts_once() {
    for fate in [Fate::AnswerLost, Fate::NeverHeard] {
        let mut fleet = Fleet::of(2);
        let claim = [host_key("k").with_tokens(1_000, 50).with_slots(10)];
        let one = fleet.shares(0).take(&claim);
        fleet.begin(0);
        fleet.deliver(0, fate);
        fleet.shares(0).conclude(&one, Outcome::Used(used(30, 0)));
        fleet.shares(0).take(&claim);
        fleet.exchange(0);
        fleet.used(1, &claim);
        fleet.exchange(1);
        assert_eq!(fleet.used(1, &claim), [(TOKENS, 80), (Rule::Concurrency, 1)], "{fate:?}");
    }
}

#[test]
fn a_candidate_is_decided_at_first_contact_by_what_this_process_counted() {
    let fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(100, 60)];
    assert!(fleet.shares(0).verdict(&claim).is_none());
    fleet.shares(0).take(&claim);
    let verdict = fleet.shares(0).verdict(&claim).expect("there is no room for two");
    assert_eq!((verdict.rule.rule, verdict.limit, verdict.remaining), (TOKENS, 100, 40));
}

#[test]
fn a_leased_scope_is_asked_about_first_and_then_decided_by_what_others_told() {
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_tokens(100, 60)];
    fleet.shares(0).take(&claim);
    fleet.exchange(0);
    assert!(matches!(fleet.shares(1).admit(&claim), Err(Short::Stale(_))));
    fleet.exchange(1);
    match fleet.shares(1).admit(&claim) {
        Err(Short::Refused(verdict)) => {
            assert_eq!((verdict.rule.rule, verdict.limit, verdict.remaining), (TOKENS, 100, 40));
            // 60 tokens have to fade to 40: after two thirds of the next minute.
            assert_eq!(verdict.wait, Some(60_000 + 20_000));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_admission_that_needs_an_answer_changes_nothing() {
    let fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(100, 60).with_slots(3).with_budget(Period::Total, 9, 1)];
    for _ in 0..3 {
        assert!(matches!(fleet.shares(0).admit(&claim), Err(Short::Stale(_))));
    }
    assert!(fleet.used(0, &claim).iter().all(|(_, used)| *used == 0));
}

#[test]
fn a_share_is_a_twentieth_of_the_limit_and_then_an_answer_is_needed() {
    let mut fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(1_000, 10)];
    fleet.used(0, &claim);
    fleet.exchange(0);
    for _ in 0..5 {
        fleet.shares(0).admit(&claim).expect("50 tokens are the share");
    }
    assert!(matches!(fleet.shares(0).admit(&claim), Err(Short::Stale(_))));
    fleet.exchange(0);
    fleet.shares(0).admit(&claim).expect("it was told");
}

#[test]
fn what_is_on_its_way_counts_as_drawn_until_the_answer_is_here() {
    let mut fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(1_000, 25)];
    fleet.used(0, &claim);
    fleet.exchange(0);
    for _ in 0..2 {
        fleet.shares(0).admit(&claim).expect("50 tokens are the share");
    }
    fleet.begin(0);
    assert!(matches!(fleet.shares(0).admit(&claim), Err(Short::Stale(_))));
    fleet.deliver(0, Fate::Answered);
    fleet.shares(0).admit(&claim).expect("it was told");
}

#[test]
fn what_is_given_back_may_be_drawn_again() {
    let mut fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(1_000, 50)];
    fleet.used(0, &claim);
    fleet.exchange(0);
    for _ in 0..100 {
        let charges = fleet.shares(0).admit(&claim).expect("the share was given back");
        fleet.shares(0).conclude(&charges, Outcome::NeverRan);
    }
}

#[test]
fn processes_that_live_divide_what_is_left() {
    let mut fleet = Fleet::of(1);
    fleet.live.store(4, std::sync::atomic::Ordering::Relaxed);
    let claim = [host_key("k").with_tokens(1_000, 10)];
    let nearly_full = host_key("k").with_tokens(1_000, 920);
    fleet.shares(0).take(&[nearly_full]);
    fleet.exchange(0);
    for _ in 0..2 {
        fleet.shares(0).admit(&claim).expect("a quarter of 80 tokens is the share");
    }
    assert!(matches!(fleet.shares(0).admit(&claim), Err(Short::Stale(_))));
}

#[test]
fn the_last_of_a_limit_is_not_kept_from_a_request_that_needs_more_than_a_share() {
    let mut fleet = Fleet::of(1);
    fleet.live.store(100, std::sync::atomic::Ordering::Relaxed);
    assert!(fleet.admit(0, &[host_key("k").with_tokens(1_000, 600)]).is_some());
    assert!(fleet.admit(0, &[host_key("k").with_tokens(1_000, 401)]).is_none());
    assert!(fleet.admit(0, &[host_key("k").with_tokens(1_000, 400)]).is_some());
}

#[test]
fn what_is_left_can_be_spent_to_the_last_request() {
    let mut fleet = Fleet::of(3);
    let claim = [host_key("k").with_tokens(1_000, 7)];
    let admitted = (0..300).filter(|turn| fleet.admit(turn % 3, &claim).is_some()).count();
    // 142 fit; two more processes may each draw one share of 50 that the third has not heard of.
    assert!((142..=142 + 14).contains(&admitted), "{admitted}");
}

#[test]
fn the_requests_of_a_process_that_died_are_forgotten_after_the_lease() {
    let lease = Millis::try_from(LEASE.as_millis()).expect("a lease is short");
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_slots(2)];
    fleet.shares(0).take(&claim);
    fleet.shares(0).take(&claim);
    fleet.exchange(0);
    fleet.advance(lease - 1);
    assert!(fleet.admit(1, &claim).is_none());
    fleet.advance(1);
    fleet.exchange(1);
    assert!(fleet.admit(1, &claim).is_some());
}

#[test]
fn the_requests_of_a_process_that_lives_are_not_forgotten() {
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_slots(2)];
    let charges = [fleet.shares(0).take(&claim), fleet.shares(0).take(&claim)];
    for _ in 0..20 {
        fleet.exchange(0);
        fleet.advance(11_000);
        assert!(fleet.admit(1, &claim).is_none());
    }
    charges.iter().for_each(|charges| fleet.shares(0).conclude(charges, Outcome::NeverRan));
    fleet.exchange(0);
    fleet.exchange(1);
    assert!(fleet.admit(1, &claim).is_some());
}

#[test]
fn what_settles_after_its_period_is_over_does_not_touch_the_new_one() {
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_tokens(1_000, 50).with_budget(Period::Day, 100, 40)];
    let charges = fleet.shares(0).take(&claim);
    fleet.exchange(0);
    fleet.advance(12 * 3_600_000);
    fleet.exchange(0);
    fleet.shares(0).conclude(&charges, Outcome::Used(used(900, 90)));
    fleet.exchange(0);
    fleet.used(1, &claim);
    fleet.exchange(1);
    assert_eq!(fleet.used(1, &claim), [(TOKENS, 0), (Rule::Budget(Period::Day), 0)]);
    assert_eq!(fleet.used(0, &claim), [(TOKENS, 0), (Rule::Budget(Period::Day), 0)]);
}

#[test]
fn a_process_that_does_nothing_notices_a_loss_and_tells_again() {
    let mut fleet = Fleet::of(2);
    let claim = [host_key("k").with_tokens(1_000, 50).with_budget(Period::Month, 1_000, 7)];
    let charges = fleet.shares(0).take(&claim);
    fleet.shares(0).conclude(&charges, Outcome::Used(used(20, 9)));
    fleet.exchange(0);
    fleet.lose();
    fleet.advance(5_000);
    fleet.exchange(0);
    fleet.used(1, &claim);
    fleet.exchange(1);
    assert_eq!(fleet.used(1, &claim), [(TOKENS, 20), (Rule::Budget(Period::Month), 9)]);
}

#[test]
fn mirrors_that_nobody_uses_for_a_minute_are_forgotten_unless_a_request_is_open() {
    let mut fleet = Fleet::of(1);
    let (open, closed) = (host_key("open").with_slots(9), host_key("closed").with_slots(9));
    fleet.shares(0).take(&[open]);
    let charges = fleet.shares(0).take(&[closed]);
    fleet.shares(0).conclude(&charges, Outcome::NeverRan);
    fleet.exchange(0);
    fleet.advance(60_001);
    let is_used = fleet.shares(0).state.lock().entry("catalog").domain.prune(at(NOON + 60_001));
    assert!(is_used);
    assert_eq!(fleet.shares(0).mirrors(), 1);
}

#[test]
fn the_caller_is_told_what_is_left_of_rates_and_of_which_budgets_much_is_spent() {
    let fleet = Fleet::of(1);
    let mut claim = [host_key("k").with_tokens(1_000, 300).with_budget(Period::Day, 100, 80)];
    claim[0].budgets[0].alert_at_percent = [50, 75, 90].into();
    fleet.shares(0).take(&claim);
    let (mut standing, mut alerts) = (Standing::default(), Vec::new());
    fleet.shares(0).stand(&claim, &mut standing, &mut alerts);
    assert_eq!(standing.tokens.map(|rule| (rule.limit, rule.remaining)), Some((1_000, 700)));
    assert_eq!(alerts.iter().map(|alert| alert.percent).collect::<Vec<_>>(), [75]);
}

#[test]
fn callers_who_wait_at_once_share_one_call() {
    let mut fleet = Fleet::of(1);
    fleet.used(0, &[host_key("k").with_tokens(1_000, 1)]);
    for _ in 0..50 {
        fleet.begin(0);
    }
    while fleet.deliver(0, Fate::Answered) {}
    assert_eq!((fleet.redis.lock().calls, fleet.processes[0].exchanges.len()), (1, 0));
}

#[test]
fn a_caller_who_goes_while_its_call_is_on_its_way_leaves_the_others_waiting_for_the_next() {
    let mut fleet = Fleet::of(1);
    let claim = [host_key("k").with_tokens(1_000, 10)];
    fleet.shares(0).take(&claim);
    fleet.begin(0);
    fleet.begin(0);
    drop(fleet.processes[0].exchanges.remove(0));
    fleet.deliver(0, Fate::AnswerLost);
    while fleet.deliver(0, Fate::Answered) {}
    assert!(fleet.processes[0].exchanges.is_empty());
    assert_eq!(fleet.used(0, &claim), [(TOKENS, 10)]);
}

#[test]
fn many_scopes_are_told_of_in_several_calls() {
    let mut fleet = Fleet::of(1);
    let claims: Vec<_> = (0..70).map(|number| host_key(&format!("k{number}")).with_tokens(100, 1)).collect();
    fleet.shares(0).take(&claims);
    fleet.exchange(0);
    assert_eq!(fleet.redis.lock().calls, 3);
    fleet.exchange(0);
    assert_eq!(fleet.redis.lock().calls, 3, "there is nothing more to tell");
}
