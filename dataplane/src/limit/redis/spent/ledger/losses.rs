//! Processes that settle random costs over counters that lose everything at random moments: whatever is lost, late or
//! sent twice, in the end the counters hold the sum of what was settled.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use table::ObjectRef;

use super::*;

const TOTAL: Bounds = Bounds { start_ms: 0, end_ms: 0 };
const DOMAIN: &str = "team";

/// Something that happens to one of three processes.
#[derive(Clone, Debug)]
enum Deed {
    /// It reserves; the answer is on its way.
    Reserve { estimate: u64 },
    /// One of the answers that are on their way arrives.
    Hear { which: usize },
    /// An open request ends.
    Settle { which: usize, cost: u64 },
    /// It sends what was settled.
    Send { fate: Fate },
    /// It seeds, if it owes.
    Seed { fate: Fate },
    /// It ends and is started again with what it has kept, unless it is busy.
    Restart,
    /// The counters lose everything.
    Lose,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnswerLost,
    CallLost,
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let fate = || prop_oneof![3 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::CallLost)];
    let deed = prop_oneof![
        6 => (0..1_000_u64).prop_map(|estimate| Deed::Reserve { estimate }),
        6 => any::<usize>().prop_map(|which| Deed::Hear { which }),
        5 => (any::<usize>(), 0..1_000_u64).prop_map(|(which, cost)| Deed::Settle { which, cost }),
        4 => fate().prop_map(|fate| Deed::Send { fate }),
        3 => fate().prop_map(|fate| Deed::Seed { fate }),
        1 => Just(Deed::Restart),
        1 => Just(Deed::Lose),
    ];
    prop::collection::vec((0..3_usize, deed), 1..200)
}

/// The counters, as the scripts keep them.
#[derive(Default)]
struct Counters {
    births: u64,
    lives: Option<Life>,
}

struct Life {
    birth: Birth,
    spent: u64,
    holds: HashMap<u64, u64>,
    registered: HashSet<usize>,
    seeded: HashSet<usize>,
    /// The last batch of each process, and what was not known of it.
    batches: HashMap<usize, (u64, HashSet<u64>)>,
}

#[derive(Clone, Debug)]
enum Entry {
    Settle { id: u64, cost: u64 },
    Post { cost: u64 },
}

enum Answer {
    Granted { id: u64, birth: Birth },
    Reborn { birth: Birth },
    Settled { birth: Birth, unknown: HashSet<u64> },
}

impl Counters {
    fn life(&mut self) -> &mut Life {
        let births = &mut self.births;
        self.lives.get_or_insert_with(|| {
            *births += 1;
            Life {
                birth: format!("{births:015}-x").into(),
                spent: 0,
                holds: HashMap::new(),
                registered: HashSet::new(),
                seeded: HashSet::new(),
                batches: HashMap::new(),
            }
        })
    }

    fn reserve(&mut self, process: usize, known: Option<&Birth>, must_seed: bool, id: u64, estimate: u64) -> Answer {
        let life = self.life();
        let birth = life.birth.clone();
        if known != Some(&birth) {
            if must_seed && !life.registered.contains(&process) && !life.seeded.contains(&process) {
                return Answer::Reborn { birth };
            }
            life.registered.insert(process);
        }
        life.holds.insert(id, estimate);
        life.spent += estimate;
        Answer::Granted { id, birth }
    }

    fn settle(&mut self, process: usize, number: u64, entries: &[Entry]) -> Answer {
        let life = self.life();
        let birth = life.birth.clone();
        if let Some((_, unknown)) = life.batches.get(&process).filter(|(last, _)| *last >= number) {
            return Answer::Settled { birth, unknown: unknown.clone() };
        }
        let mut unknown = HashSet::new();
        for entry in entries {
            match entry {
                Entry::Settle { id, cost } => match life.holds.remove(id) {
                    Some(estimate) => life.spent = life.spent - estimate + cost,
                    None => drop(unknown.insert(*id)),
                },
                Entry::Post { cost } => life.spent += cost,
            }
        }
        life.batches.insert(process, (number, unknown.clone()));
        Answer::Settled { birth, unknown }
    }

    fn seed(&mut self, process: usize, birth: &Birth, amounts: &[Amount]) -> bool {
        let Some(life) = self.lives.as_mut().filter(|life| life.birth == *birth) else { return false };
        if life.seeded.insert(process) {
            life.spent += amounts.iter().map(|amount| amount.nano_usd).sum::<u64>();
        }
        true
    }
}

#[derive(Default)]
struct Process {
    number: usize,
    ledger: Ledger,
    known: Option<Birth>,
    /// The birth whose counters want to be seeded before they take a reservation.
    asked: Option<Birth>,
    /// Each with the birth that was the present one when the call was sent.
    answers: Vec<(Answer, Option<Birth>)>,
    open: Vec<(u64, Birth)>,
    /// Of reservations that are settled, the birth of the counters that held them.
    made: HashMap<u64, Birth>,
    waiting: Vec<Entry>,
    sent: Option<(u64, Vec<Entry>)>,
    batch: u64,
}

impl Process {
    fn amount(&self, nano_usd: u64) -> Amount {
        let scope = Arc::new(Scope::RelayKey(ObjectRef::new(DOMAIN, "a")));
        Amount { scope, period: Period::Total, bounds: TOTAL, nano_usd }
    }

    fn reserve(&mut self, counters: &mut Counters, id: u64, estimate: u64) {
        let must_seed = self.ledger.has(DOMAIN);
        let answer = counters.reserve(self.number, self.known.as_ref(), must_seed, id, estimate);
        self.answers.push((answer, self.ledger.birth(DOMAIN)));
    }

    fn hear(&mut self, (answer, known): (Answer, Option<Birth>)) {
        let birth = match &answer {
            Answer::Granted { birth, .. } | Answer::Reborn { birth } | Answer::Settled { birth, .. } => birth.clone(),
        };
        if self.ledger.hear(DOMAIN, &birth, known.as_ref()) && matches!(answer, Answer::Granted { .. }) {
            self.known = Some(birth.clone());
        }
        match answer {
            Answer::Granted { id, birth } => self.open.push((id, birth)),
            Answer::Reborn { birth } => self.asked = Some(birth),
            Answer::Settled { birth, unknown } => self.settled(&birth, &unknown),
        }
    }

    fn settled(&mut self, birth: &Birth, unknown: &HashSet<u64>) {
        let Some((_, entries)) = self.sent.take() else { return };
        for entry in entries {
            let (cost, is_taken) = match entry {
                Entry::Settle { id, cost } => {
                    let made = self.made.remove(&id).expect("it was made");
                    assert!(!unknown.contains(&id) || made != *birth, "nothing expires here");
                    (cost, !unknown.contains(&id))
                }
                Entry::Post { cost } => (cost, true),
            };
            if !is_taken || !self.ledger.record([self.amount(cost)], birth) {
                self.waiting.push(Entry::Post { cost });
            }
        }
    }

    fn send(&mut self, counters: &mut Counters, fate: Fate) {
        let is_on_its_way = self.answers.iter().any(|(answer, _)| matches!(answer, Answer::Settled { .. }));
        if is_on_its_way || (self.sent.is_none() && self.waiting.is_empty()) {
            return;
        }
        let (batch, waiting) = (&mut self.batch, &mut self.waiting);
        let (number, entries) = self.sent.get_or_insert_with(|| {
            *batch += 1;
            (*batch, std::mem::take(waiting))
        });
        match fate {
            Fate::CallLost => {}
            Fate::AnswerLost => drop(counters.settle(self.number, *number, entries)),
            Fate::Answered => {
                let known = self.ledger.birth(DOMAIN);
                self.answers.push((counters.settle(self.number, *number, entries), known));
            }
        }
    }

    fn seed(&mut self, counters: &mut Counters, fate: Fate) {
        let owed_to = self.ledger.debts().pop().map(|(_, birth)| birth);
        let Some(birth) = owed_to.or_else(|| self.asked.clone()) else { return };
        if fate == Fate::CallLost {
            return;
        }
        let is_done = counters.seed(self.number, &birth, &self.ledger.owed(DOMAIN, &birth));
        if fate == Fate::Answered {
            self.asked = None;
            if is_done {
                self.ledger.seeded(DOMAIN, &birth);
                self.known = Some(birth);
            }
        }
    }

    fn restart(&mut self) {
        if self.answers.is_empty() && self.open.is_empty() && self.waiting.is_empty() && self.sent.is_none() {
            let kept: BTreeMap<String, Page> = self.ledger.pages();
            // Numbers of batches go on with the time.
            *self = Self { number: self.number, batch: self.batch, ledger: Ledger::of(kept), ..Self::default() };
        }
    }

    fn settle(&mut self, which: usize, cost: u64) -> u64 {
        if self.open.is_empty() {
            return 0;
        }
        let (id, birth) = self.open.remove(which % self.open.len());
        self.made.insert(id, birth);
        self.waiting.push(Entry::Settle { id, cost });
        cost
    }

    /// Nothing is lost any more, until nothing is left to do.
    fn finish(&mut self, counters: &mut Counters, ids: &mut u64) -> u64 {
        let mut settled = 0;
        for _ in 0..1_000 {
            *ids += 1;
            self.reserve(counters, *ids, 0);
            while let Some(answer) = self.answers.pop() {
                self.hear(answer);
            }
            while !self.open.is_empty() {
                settled += self.settle(0, 1);
            }
            self.seed(counters, Fate::Answered);
            self.send(counters, Fate::Answered);
            while let Some(answer) = self.answers.pop() {
                self.hear(answer);
            }
            if self.waiting.is_empty() && self.ledger.debts().is_empty() && settled > 0 {
                return settled;
            }
        }
        panic!("it never comes to rest");
    }
}

fn play(deeds: Vec<(usize, Deed)>) -> (u64, u64) {
    let (mut counters, mut settled, mut ids) = (Counters::default(), 0, 0);
    let mut processes = [0, 1, 2].map(|number| Process { number, ..Process::default() });
    for (number, deed) in deeds {
        let process = &mut processes[number];
        match deed {
            Deed::Reserve { estimate } => {
                ids += 1;
                process.reserve(&mut counters, ids, estimate);
            }
            Deed::Hear { which } if !process.answers.is_empty() => {
                let answer = process.answers.remove(which % process.answers.len());
                process.hear(answer);
            }
            Deed::Hear { .. } => {}
            Deed::Settle { which, cost } => settled += process.settle(which, cost),
            Deed::Send { fate } => process.send(&mut counters, fate),
            Deed::Seed { fate } => process.seed(&mut counters, fate),
            Deed::Restart => process.restart(),
            Deed::Lose => counters.lives = None,
        }
    }
    for process in &mut processes {
        settled += process.finish(&mut counters, &mut ids);
    }
    let life = counters.lives.expect("somebody reserved");
    assert!(life.holds.is_empty());
    (life.spent, settled)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_counters_hold_what_was_settled_whenever_they_lose_everything(deeds in deeds()) {
        let (spent, settled) = play(deeds);
        prop_assert_eq!(spent, settled);
    }
}
