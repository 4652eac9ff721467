//! Random interleavings of processes, calls that get lost, and time, against a plain sum of all that happened.

use std::rc::Rc;

use proptest::{collection::vec, prelude::*};
use table::Period;

use super::{Fate, Fleet, NOON, host_key, real::Server, used};
use crate::limit::{
    claims::ScopeClaim,
    counter::{Charge, Outcome},
    redis::shares::{Short, mirror::STALE_AFTER},
    window::Millis,
};

const MINUTE: Millis = 60_000;
const LARGEST: u64 = 40;
const UNLIMITED: u64 = 1 << 40;

#[derive(Clone, Debug)]
enum Step {
    Admit { process: usize, amount: u64 },
    Take { process: usize, amount: u64 },
    Conclude { request: usize, percent: u64 },
    Begin { process: usize },
    Deliver { process: usize, fate: Fate },
    Wait { millis: Millis },
    Lose,
}

/// Steps of so many processes; none waits longer than `longest`.
fn steps(processes: usize, longest: Millis) -> impl Strategy<Value = Vec<Step>> {
    let process = move || 0..processes;
    let amount = || 1..=LARGEST;
    let fate = prop_oneof![8 => Just(Fate::Answered), 1 => Just(Fate::NeverHeard), 1 => Just(Fate::AnswerLost)];
    let step = prop_oneof![
        12 => (process(), amount()).prop_map(|(process, amount)| Step::Admit { process, amount }),
        1 => (process(), amount()).prop_map(|(process, amount)| Step::Take { process, amount }),
        4 => (0..1_000_usize, 0..=100_u64).prop_map(|(request, percent)| Step::Conclude { request, percent }),
        5 => process().prop_map(|process| Step::Begin { process }),
        6 => (process(), fate).prop_map(|(process, fate)| Step::Deliver { process, fate }),
        2 => (0..STALE_AFTER).prop_map(|millis| Step::Wait { millis }),
        1 => (0..longest).prop_map(|millis| Step::Wait { millis }),
    ];
    vec(step, 1..200)
}

/// A request that was let in: when, how much of it counts, and its charge as long as it is open.
struct Request {
    process: usize,
    bucket: u64,
    counts: u64,
    costs: u64,
    amount: u64,
    open: Option<Vec<Charge>>,
}

impl Request {
    fn new(process: usize, bucket: u64, amount: u64, charges: Vec<Charge>) -> Self {
        Self { process, bucket, counts: amount, costs: amount, amount, open: Some(charges) }
    }
}

/// All that happened.
struct History {
    requests: Vec<Request>,
}

impl History {
    /// What counts against the rate now, as a sliding window sees it.
    fn counts(&self, now: Millis) -> u64 {
        let of =
            |bucket: u64| self.requests.iter().filter(|one| one.bucket == bucket).map(|one| one.counts).sum::<u64>();
        let covered = MINUTE - now % MINUTE;
        of(now / MINUTE) + (of(now / MINUTE - 1) * covered).div_ceil(MINUTE)
    }

    fn costs(&self) -> u64 {
        self.requests.iter().map(|one| one.costs).sum()
    }

    fn in_flight(&self) -> u64 {
        self.requests.iter().filter(|one| one.open.is_some()).count() as u64
    }
}

fn claim(limit: u64, slots: u64, amount: u64) -> [ScopeClaim; 1] {
    [host_key("k").with_tokens(limit, amount).with_slots(slots).with_budget(Period::Day, UNLIMITED, amount)]
}

/// Runs the steps. `limits`: tokens and slots.
fn run(fleet: &mut Fleet, steps: Vec<Step>, limits: (u64, u64)) -> Result<History, TestCaseError> {
    let mut history = History { requests: Vec::new() };
    let mut now = NOON;
    for step in steps {
        match step {
            Step::Admit { process, amount } => match fleet.shares(process).admit(&claim(limits.0, limits.1, amount)) {
                Ok(charges) => {
                    let bucket = now / MINUTE;
                    history.requests.push(Request::new(process, bucket, amount, charges));
                    check_bound(fleet, &history, limits, now)?;
                }
                Err(Short::Stale(_) | Short::Refused(_)) => {}
            },
            // What is charged whether it fits or not has no bound, so it is only mixed in where none is checked.
            Step::Take { process, amount } if limits.0 == UNLIMITED => {
                let charges = fleet.shares(process).take(&claim(limits.0, limits.1, amount));
                let bucket = now / MINUTE;
                history.requests.push(Request::new(process, bucket, amount, charges));
            }
            Step::Take { .. } => {}
            Step::Conclude { request, percent } => {
                let count = history.requests.len().max(1);
                let Some(one) = history.requests.get_mut(request % count) else { continue };
                let Some(charges) = one.open.take() else { continue };
                let real = one.amount * percent / 100;
                fleet.shares(one.process).conclude(&charges, Outcome::Used(used(real, real)));
                one.costs = real;
                if one.bucket + 1 >= now / MINUTE {
                    one.counts = real;
                }
            }
            Step::Begin { process } => fleet.begin(process),
            Step::Deliver { process, fate } => drop(fleet.deliver(process, fate)),
            Step::Lose => fleet.lose(),
            Step::Wait { millis } => {
                fleet.advance(millis);
                now += millis;
            }
        }
    }
    Ok(history)
}

fn check_bound(fleet: &Fleet, history: &History, limits: (u64, u64), now: Millis) -> Result<(), TestCaseError> {
    let others = fleet.processes.len() as u64 - 1;
    let tokens = limits.0 + others * (limits.0 / 20).max(LARGEST);
    let slots = limits.1 + others * (limits.1 / 20).max(1);
    prop_assert!(history.counts(now) <= tokens, "{} tokens of {tokens}", history.counts(now));
    prop_assert!(history.in_flight() <= slots, "{} slots of {slots}", history.in_flight());
    Ok(())
}

proptest! {
    #[test]
    fn more_is_admitted_than_the_limit_by_one_share_of_each_other_process_at_most(
        steps in steps(4, 3 * MINUTE), limit in 40_u64..3_000, slots in 1_u64..60, live in 1_u32..=4,
    ) {
        let mut fleet = Fleet::of(4);
        fleet.live.store(live, std::sync::atomic::Ordering::Relaxed);
        run(&mut fleet, steps, (limit, slots))?;
    }

    #[test]
    fn what_was_told_and_what_was_not_told_yet_is_all_that_happened(steps in steps(3, 3 * MINUTE)) {
        let mut fleet = Fleet::of(3);
        let history = run(&mut fleet, steps, (UNLIMITED, UNLIMITED))?;
        let now = fleet.now.load(std::sync::atomic::Ordering::Relaxed);
        for process in 0..3 {
            while fleet.deliver(process, Fate::Answered) {}
            // Once for what got lost, and once for what changed since.
            fleet.exchange(process);
            fleet.exchange(process);
        }
        let nothing = claim(UNLIMITED, UNLIMITED, 0);
        for process in 0..3 {
            fleet.used(process, &nothing);
            fleet.exchange(process);
            let seen: Vec<_> = fleet.used(process, &nothing).into_iter().map(|(_, used)| used).collect();
            prop_assert_eq!(seen, [history.counts(now), history.in_flight(), history.costs()], "process {}", process);
        }
    }

    #[test]
    fn a_process_that_is_alone_decides_as_if_nothing_were_exchanged(steps in steps(1, 3 * MINUTE), limit in 40_u64..500) {
        let mut fleet = Fleet::of(1);
        let history = run(&mut fleet, steps, (limit, 50))?;
        let now = fleet.now.load(std::sync::atomic::Ordering::Relaxed);
        let seen: Vec<_> = fleet.used(0, &claim(limit, 50, 0)).into_iter().map(|(_, used)| used).collect();
        prop_assert_eq!(seen, [history.counts(now), history.in_flight(), history.costs()]);
    }

    #[test]
    fn what_living_processes_counted_is_there_again_after_redis_lost_its_data(
        mut steps in steps(3, 3 * MINUTE), losses in vec(any::<prop::sample::Index>(), 1..4),
    ) {
        for loss in losses {
            steps.insert(loss.index(steps.len()), Step::Lose);
        }
        let mut fleet = Fleet::of(3);
        let history = run(&mut fleet, steps, (UNLIMITED, UNLIMITED))?;
        let nothing = claim(UNLIMITED, UNLIMITED, 0);
        for process in 0..3 {
            while fleet.deliver(process, Fate::Answered) {}
            fleet.used(process, &nothing);
            fleet.exchange(process);
            fleet.exchange(process);
        }
        fleet.used(0, &nothing);
        fleet.exchange(0);
        let seen: Vec<_> = fleet.used(0, &nothing).into_iter().map(|(_, used)| used).collect();
        let now = fleet.now.load(std::sync::atomic::Ordering::Relaxed);
        prop_assert_eq!(seen, [history.counts(now), history.in_flight(), history.costs()]);
    }

    #[test]
    fn the_script_answers_as_plain_words_do(
        mut steps in steps(3, 6 * 60 * MINUTE), losses in vec(any::<prop::sample::Index>(), 0..3),
    ) {
        for loss in losses {
            steps.insert(loss.index(steps.len()), Step::Lose);
        }
        let mut fleet = Fleet::of(3);
        SERVER.with(|server| {
            server.clear();
            fleet.server = Some(server.clone());
        });
        run(&mut fleet, steps, (UNLIMITED, UNLIMITED))?;
        for process in 0..3 {
            while fleet.deliver(process, Fate::Answered) {}
            fleet.exchange(process);
        }
    }
}

thread_local! {
    /// One for all cases.
    static SERVER: Rc<Server> = Rc::new(Server::start());
}
