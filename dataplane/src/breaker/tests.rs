use std::time::{Duration, Instant};

use table::Breaker;

use super::{
    Phase, State, Transition,
    outcome::{Class, Horizon, Outcome, Side},
};

const OK: Outcome = Outcome::Ok;
const LIMITED: Outcome = Outcome::RateLimited { wait: None, horizon: Horizon::Short };

fn limited(secs: u64, horizon: Horizon) -> Outcome {
    Outcome::RateLimited { wait: Some(Duration::from_secs(secs)), horizon }
}

/// A breaker, and a clock that only the test moves.
struct Story {
    now: Instant,
    state: State,
    settings: Breaker,
}

impl Story {
    fn new() -> Self {
        Self { now: Instant::now(), state: State::default(), settings: Breaker::default() }
    }

    fn pass(&mut self, secs: u64) -> &mut Self {
        self.now += Duration::from_secs(secs);
        self
    }

    fn see(&mut self, outcome: Outcome) -> Transition {
        self.state.on(outcome, self.now, self.now, &self.settings)
    }

    /// Seconds until it may be probed, and why it is out; `None` where it is not out.
    fn out(&self) -> Option<(u64, Class)> {
        match self.state.phase(self.now) {
            Phase::Open { class, until } => Some(((until - self.now).as_secs(), class)),
            Phase::HalfOpen { class, .. } => Some((0, class)),
            Phase::Closed { .. } => None,
        }
    }

    fn share(&self) -> f64 {
        match self.state.phase(self.now) {
            Phase::Closed { share } => share,
            Phase::Open { .. } | Phase::HalfOpen { .. } => 0.0,
        }
    }

    /// Lets the cooldown pass and a probe end as `outcome`.
    fn probe(&mut self, outcome: Outcome) -> Transition {
        if let Phase::Open { until, .. } = self.state.phase(self.now) {
            self.now = until;
        }
        assert!(self.state.lease_probe(self.now, &self.settings));
        self.state.release_probe();
        self.see(outcome)
    }
}

#[test]
fn each_class_opens_at_its_own_threshold_for_its_own_time() {
    let unreachable = Outcome::Unreachable(Side::Key);
    for (outcome, times, class, secs) in [
        (Outcome::Auth, 1, Class::Auth, 300),
        (LIMITED, 1, Class::RateLimit, 10),
        (Outcome::ServerError, 3, Class::ServerError, 5),
        (unreachable, 3, Class::Unreachable, 2),
    ] {
        let mut story = Story::new();
        for _ in 1..times {
            assert_eq!(story.see(outcome), Transition::None, "{class}");
            assert_eq!(story.out(), None, "{class}");
        }
        let until = story.now + Duration::from_secs(secs);
        assert_eq!(story.see(outcome), Transition::Opened { class, until });
        assert_eq!(story.out(), Some((secs, class)));
    }
}

#[test]
fn each_failed_probe_doubles_the_cooldown_up_to_the_cap() {
    for (outcome, ladder) in [
        (Outcome::Auth, vec![300, 600, 1200, 2400, 3600, 3600]),
        (LIMITED, vec![10, 20, 40, 80, 160, 300, 300]),
        (Outcome::ServerError, vec![5, 10, 20, 40, 80, 120, 120]),
        (Outcome::Unreachable(Side::Key), vec![2, 4, 8, 16, 32, 60, 60]),
    ] {
        let mut story = Story::new();
        while story.out().is_none() {
            story.see(outcome);
        }
        for secs in ladder {
            assert_eq!(story.out().map(|(left, _)| left), Some(secs), "{outcome:?}");
            story.probe(outcome);
        }
    }
}

#[test]
fn failures_that_are_not_in_a_row_do_not_open() {
    let mut story = Story::new();
    for _ in 0..10 {
        story.see(Outcome::ServerError);
        story.see(Outcome::ServerError);
        assert_eq!(story.see(OK), Transition::None);
        story.pass(60);
    }
    assert_eq!(story.out(), None);
}

#[test]
fn half_of_twenty_requests_within_the_window_open_it_though_never_three_in_a_row() {
    let mut story = Story::new();
    for _ in 0..9 {
        story.see(OK);
        story.see(Outcome::ServerError);
    }
    story.see(OK);
    assert_eq!(story.out(), None);
    story.see(Outcome::ServerError);
    assert_eq!(story.out(), Some((5, Class::ServerError)));
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut story = Story::new();
    for _ in 0..40 {
        story.see(OK);
        story.see(Outcome::ServerError);
        story.pass(11);
    }
    assert_eq!(story.out(), None);
}

#[test]
fn nobodys_and_the_callers_outcomes_change_nothing() {
    for outcome in [Outcome::CallerFault, Outcome::Cancelled, Outcome::NotServed] {
        let mut story = Story::new();
        for _ in 0..100 {
            assert_eq!(story.see(outcome), Transition::None);
        }
        assert_eq!(story.state, State::default());
    }
}

#[test]
fn the_providers_word_is_believed_up_to_the_cap_and_beyond_it_for_long_quotas() {
    for (outcome, secs) in [
        (limited(20, Horizon::Short), 20),
        (limited(7200, Horizon::Short), 300),
        (limited(7200, Horizon::Long), 7200),
        (limited(60 * 86400, Horizon::Long), 8 * 86400),
        (Outcome::RateLimited { wait: None, horizon: Horizon::Long }, 600),
    ] {
        let mut story = Story::new();
        story.see(outcome);
        assert_eq!(story.out(), Some((secs, Class::RateLimit)), "{outcome:?}");
    }
}

#[test]
fn the_providers_word_counts_for_nothing_where_the_host_says_so() {
    let mut story = Story::new();
    story.settings.rate_limit.honor_retry_after = false;
    story.see(limited(120, Horizon::Short));
    assert_eq!(story.out(), Some((10, Class::RateLimit)));
}

#[test]
fn fifty_requests_that_fail_together_count_as_one_failure() {
    let mut story = Story::new();
    let sent = story.now;
    story.pass(1);
    for _ in 0..50 {
        story.state.on(Outcome::Auth, sent, story.now, &story.settings);
    }
    assert_eq!(story.out(), Some((300, Class::Auth)));
    story.probe(OK);
    story.see(Outcome::Auth);
    assert_eq!(story.out(), Some((600, Class::Auth)));
}

#[test]
fn an_answer_to_a_request_from_before_the_opening_does_not_close() {
    let mut story = Story::new();
    let sent = story.now;
    story.pass(1).see(Outcome::Auth);
    story.pass(1);
    assert_eq!(story.state.on(OK, sent, story.now, &story.settings), Transition::None);
    assert_eq!(story.out(), Some((299, Class::Auth)));
}

#[test]
fn a_late_limit_that_lasts_longer_extends_and_a_shorter_one_does_not() {
    let mut story = Story::new();
    let sent = story.now;
    story.pass(1).see(limited(60, Horizon::Short));
    let shorter = story.state.on(limited(5, Horizon::Short), sent, story.now, &story.settings);
    assert_eq!(shorter, Transition::None);
    let longer = story.state.on(limited(90, Horizon::Short), sent, story.now, &story.settings);
    assert!(matches!(longer, Transition::Opened { .. }));
    assert_eq!(story.out(), Some((90, Class::RateLimit)));
}

#[test]
fn half_open_gives_out_as_many_probes_as_configured() {
    let mut story = Story::new();
    story.settings.half_open_probes = 2;
    story.see(Outcome::Auth);
    assert!(!story.state.lease_probe(story.now, &story.settings));
    story.pass(300);
    let leases: Vec<_> = (0..3).map(|_| story.state.lease_probe(story.now, &story.settings)).collect();
    assert_eq!(leases, [true, true, false]);
    story.state.release_probe();
    assert!(story.state.lease_probe(story.now, &story.settings));
}

#[test]
fn a_healed_key_gets_its_traffic_back_step_by_step() {
    let mut story = Story::new();
    story.see(Outcome::Auth);
    assert_eq!(story.probe(OK), Transition::Closed);
    let shares: Vec<_> = (0..4).map(|_| (story.share(), story.pass(10)).0).collect();
    for (share, expected) in shares.into_iter().zip([0.1, 0.4, 0.7, 1.0]) {
        assert!((share - expected).abs() < 0.001, "{share} is not {expected}");
    }
}

#[test]
fn one_failure_of_the_same_class_during_the_ramp_opens_again_for_longer() {
    let mut story = Story::new();
    for _ in 0..3 {
        story.see(Outcome::ServerError);
    }
    story.probe(OK);
    story.see(Outcome::ServerError);
    assert_eq!(story.out(), Some((10, Class::ServerError)));
}

#[test]
fn a_key_that_stayed_well_through_its_ramp_starts_at_the_first_rung_again() {
    let mut story = Story::new();
    story.see(Outcome::Auth);
    story.probe(OK);
    story.pass(31).see(OK);
    story.see(Outcome::Auth);
    assert_eq!(story.out(), Some((300, Class::Auth)));
}

#[test]
fn a_shorter_cooldown_of_another_class_does_not_cut_a_longer_one() {
    let mut story = Story::new();
    story.see(Outcome::Auth);
    story.pass(1);
    assert_eq!(story.see(limited(5, Horizon::Short)), Transition::None);
    assert_eq!(story.out(), Some((299, Class::Auth)));
}

#[test]
fn what_another_process_found_takes_a_key_out_and_brings_it_back_by_the_same_ramp() {
    let mut story = Story::new();
    let (now, until) = (story.now, story.now + Duration::from_secs(20));
    story.state.adopt_opening(Class::RateLimit, now, until, now);
    assert_eq!(story.out(), Some((20, Class::RateLimit)));
    story.pass(20);
    assert!(matches!(story.state.phase(story.now), Phase::HalfOpen { class: Class::RateLimit, probes: 0, .. }));
    story.state.adopt_closing(story.now, story.now + Duration::from_millis(250));
    assert!(
        (story.share() - 0.1).abs() < 1e-9,
        "as long as the cooldown was, from when it was found: {}",
        story.share()
    );
    story.pass(10);
    assert!((story.share() - 0.55).abs() < 1e-9, "{}", story.share());
    story.pass(10);
    assert!((story.share() - 1.0).abs() < 1e-9, "{}", story.share());
}

#[test]
fn a_closing_changes_nothing_where_nothing_is_open() {
    let mut story = Story::new();
    let before = story.state.clone();
    story.state.adopt_closing(story.now, story.now);
    assert_eq!(story.state, before);
}

#[test]
fn requests_that_were_on_their_way_when_an_opening_was_taken_over_do_not_lengthen_it() {
    let mut story = Story::new();
    let started = story.now;
    story.pass(1);
    let until = story.now + Duration::from_secs(300);
    story.state.adopt_opening(Class::Auth, started, until, story.now);
    assert_eq!(story.state.on(Outcome::Auth, started, story.now, &story.settings), Transition::None);
    assert_eq!(story.state.on(OK, started, story.now, &story.settings), Transition::None);
    assert_eq!(story.out(), Some((300, Class::Auth)));
}

#[test]
fn the_ladder_goes_on_where_processes_take_turns_at_probing() {
    let mut story = Story::new();
    // Given: two openings were found elsewhere, the second by a probe.
    for secs in [300, 600] {
        let (now, until) = (story.now, story.now + Duration::from_secs(secs));
        story.state.adopt_opening(Class::Auth, now, until, now);
        // The same once more, a little longer: others had found it too.
        story.state.adopt_opening(Class::Auth, now, until + Duration::from_secs(1), now);
        story.pass(secs + 1);
    }
    // Then: the third, found by this one's probe, is longer than both.
    story.probe(Outcome::Auth);
    assert_eq!(story.out(), Some((1200, Class::Auth)));
}
