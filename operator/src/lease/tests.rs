use super::*;

const RETRY: Duration = Duration::from_secs(2);

/// A clock that only moves when it is told to; its wall clock may be wrong by `skew`.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    passed: Duration,
    skew: i64,
}

impl Clock {
    fn new(skew: i64) -> Self {
        Self { start: Instant::now(), passed: Duration::ZERO, skew }
    }

    fn at(&self, seconds: u64) -> Moment {
        let passed = self.passed + Duration::from_secs(seconds);
        let wall = 1_800_000_000 + i64::try_from(passed.as_secs()).unwrap() + self.skew;
        Moment { local: self.start + passed, wall: Timestamp::from_second(wall).unwrap() }
    }
}

fn candidate(name: &str) -> Election {
    Election::new(name, Timing::default())
}

/// What one candidate does with the Lease of the API server at a moment, where nobody interferes.
fn turn(election: &mut Election, lease: &mut Option<Record>, now: Moment) -> bool {
    match election.read(lease.clone(), now) {
        Step::Create(record) | Step::Replace(record) => {
            *lease = Some(record.clone());
            election.wrote(record, now.local);
        }
        Step::Wait => {}
    }
    election.is_leading(now.local)
}

#[test]
fn the_first_candidate_creates_the_lease_and_the_second_waits() {
    let (clock, mut lease) = (Clock::new(0), None);
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    assert!(turn(&mut a, &mut lease, clock.at(0)));
    assert!(!turn(&mut b, &mut lease, clock.at(1)));
    let expected = Record {
        holder: "a".to_owned(),
        lease: Duration::from_secs(15),
        acquired: Some(clock.at(0).wall),
        renewed: Some(clock.at(0).wall),
        transitions: 0,
    };
    assert_eq!(lease, Some(expected));
    assert_eq!(b.holder(), Some("a"));
}

#[test]
fn a_holder_that_renews_keeps_the_time_at_which_it_took_the_lease() {
    let (clock, mut lease) = (Clock::new(0), None);
    let mut a = candidate("a");
    turn(&mut a, &mut lease, clock.at(0));
    assert!(turn(&mut a, &mut lease, clock.at(2)));
    let record = lease.unwrap();
    assert_eq!((record.acquired, record.renewed), (Some(clock.at(0).wall), Some(clock.at(2).wall)));
    assert_eq!(record.transitions, 0);
}

#[test]
fn a_silent_holder_has_stopped_before_another_begins() {
    let (clock, mut lease) = (Clock::new(0), None);
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    turn(&mut a, &mut lease, clock.at(0));
    turn(&mut b, &mut lease, clock.at(1));
    for second in 2..16 {
        assert!(!turn(&mut b, &mut lease, clock.at(second)), "b must wait at {second} s");
        assert_eq!(a.is_leading(clock.at(second).local), second < 10);
    }
    assert!(turn(&mut b, &mut lease, clock.at(16)), "15 s after b saw the Lease first");
    assert_eq!(lease.unwrap().transitions, 1);
}

#[test]
fn wrong_wall_clocks_change_nothing() {
    for skew in [-86_400, 86_400] {
        let (clock, wrong, mut lease) = (Clock::new(0), Clock::new(skew), None);
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        for second in (0..60).step_by(2) {
            assert!(turn(&mut a, &mut lease, clock.at(second)));
            assert!(!turn(&mut b, &mut lease, wrong.at(second + 1)));
        }
    }
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once() {
    let (clock, mut lease) = (Clock::new(0), None);
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    turn(&mut a, &mut lease, clock.at(0));
    turn(&mut b, &mut lease, clock.at(1));
    lease = a.give_back(lease, clock.at(2));
    assert!(!a.is_leading(clock.at(2).local));
    assert_eq!(lease.as_ref().unwrap().holder, "");
    assert!(turn(&mut b, &mut lease, clock.at(3)));
    assert_eq!(a.give_back(lease.clone(), clock.at(4)), None, "who does not hold it has nothing to give back");
    assert_eq!(b.give_back(lease, clock.at(4)).unwrap().transitions, 1);
}

#[test]
fn a_holder_that_sees_another_stops_at_once() {
    let clock = Clock::new(0);
    let (mut lease_a, mut lease_b) = (None, None);
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    turn(&mut a, &mut lease_a, clock.at(0));
    turn(&mut b, &mut lease_b, clock.at(0));
    assert_eq!(a.read(lease_b, clock.at(1)), Step::Wait);
    assert!(!a.is_leading(clock.at(1).local));
}

#[test]
fn a_refused_write_makes_no_leader() {
    let clock = Clock::new(0);
    let mut a = candidate("a");
    assert!(matches!(a.read(None, clock.at(0)), Step::Create(_)));
    assert!(!a.is_leading(clock.at(0).local));
}

#[test]
fn a_holder_whose_writes_fail_leads_no_longer_than_its_deadline_after_the_last_one_was_sent() {
    let (clock, mut lease) = (Clock::new(0), None);
    let mut a = candidate("a");
    turn(&mut a, &mut lease, clock.at(0));
    // The request was sent at 2 s; its answer came at 6 s.
    let Step::Replace(record) = a.read(lease, clock.at(2)) else { panic!("a renews") };
    a.wrote(record, clock.at(2).local);
    assert!(a.is_leading(clock.at(11).local));
    assert!(!a.is_leading(clock.at(12).local));
}

#[test]
fn timings_that_cannot_work_are_refused() {
    let of = |lease, renew_deadline, retry| {
        let s = Duration::from_millis;
        Timing { lease: s(lease), renew_deadline: s(renew_deadline), retry: s(retry) }.checked()
    };
    assert_eq!(Timing::default().checked(), Ok(Timing::default()));
    for (timing, word) in [
        (of(0, 0, 0), "lease duration"),
        (of(1_500, 1_000, 100), "whole seconds"),
        (of(15_000, 15_000, 2_000), "renew deadline"),
        (of(15_000, 10_000, 9_000), "retry period"),
        (of(15_000, 10_000, 0), "retry period"),
    ] {
        let error = timing.unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Event {
        /// A candidate looks at the Lease and writes where it may.
        Turn(usize),
        /// The same, but the write is refused or its answer is lost.
        LostAnswer(usize),
        /// The same, but the write never arrives.
        LostRequest(usize),
        /// A candidate gives the Lease back.
        Release(usize),
        /// Time passes.
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..3_usize).prop_map(Event::Turn),
            1 => (0..3_usize).prop_map(Event::LostAnswer),
            1 => (0..3_usize).prop_map(Event::LostRequest),
            1 => (0..3_usize).prop_map(Event::Release),
            4 => (0..9_000_u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        #[test]
        fn two_candidates_never_lead_at_the_same_time(events in prop::collection::vec(event(), 1..80)) {
            let (mut clock, mut lease) = (Clock::new(0), None);
            let mut all = [candidate("a"), candidate("b"), candidate("c")];
            for event in events {
                let now = clock.at(0);
                match event {
                    Event::Turn(n) => { turn(&mut all[n], &mut lease, now); }
                    Event::LostAnswer(n) => {
                        if let Step::Create(record) | Step::Replace(record) = all[n].read(lease.clone(), now) {
                            lease = Some(record);
                        }
                    }
                    Event::LostRequest(n) => { all[n].read(lease.clone(), now); }
                    Event::Release(n) => {
                        if let Some(record) = all[n].give_back(lease.clone(), now) {
                            lease = Some(record);
                        }
                    }
                    Event::Pass(millis) => clock.passed += Duration::from_millis(millis),
                }
                let now = clock.at(0).local;
                let leaders: Vec<&str> = all.iter().filter(|one| one.is_leading(now)).map(|one| one.identity.as_str()).collect();
                prop_assert!(leaders.len() <= 1, "{leaders:?}");
            }
        }

        #[test]
        fn when_all_but_one_are_silent_that_one_leads(start in 0..20_000_u64) {
            let (mut clock, mut lease) = (Clock::new(0), None);
            let (mut a, mut b) = (candidate("a"), candidate("b"));
            turn(&mut a, &mut lease, clock.at(0));
            clock.passed = Duration::from_millis(start);
            let turns = (0..=9).filter(|_| { clock.passed += RETRY; turn(&mut b, &mut lease, clock.at(0)) }).count();
            prop_assert!(turns >= 1, "15 s after it saw the Lease first, b takes it");
        }
    }
}
