//! A plain model of the limiter, and many clients that do anything: the two must always agree.

use std::time::Duration;

use jiff::Timestamp;
use proptest::{prelude::*, test_runner::TestRunner};
use table::{NanoUsd, Period};

use super::{Bench, at, claims, key, used};
use crate::limit::{LEASE, budget::Bounds, claims::ScopeClaim, reservation::Reservation, reservation::Used};

const REQUESTS: u64 = 6;
const TOKENS: u64 = 400;
const SLOTS: u64 = 4;
const BUDGET: u64 = 5_000;
const ZONE: &str = "Europe/Berlin";

/// Something that happens.
#[derive(Clone, Debug)]
enum Deed {
    /// A client of one of three keys asks.
    Reserve { key: usize, tokens: u64, cost: u64 },
    /// An open request ends.
    Settle { which: usize, tokens: u64, cost: u64 },
    /// A client goes away.
    Cancel { which: usize },
    /// The process of a request dies, and its lease runs out.
    Crash { which: usize },
    /// Time passes.
    Pass { millis: u64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..3_usize, 1..250_u64, 0..2_000_u64).prop_map(|(key, tokens, cost)| Deed::Reserve { key, tokens, cost }),
        2 => (any::<usize>(), 0..500_u64, 0..3_000_u64).prop_map(|(which, tokens, cost)| Deed::Settle { which, tokens, cost }),
        1 => any::<usize>().prop_map(|which| Deed::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Deed::Crash { which }),
        2 => (0..90_000_u64).prop_map(|millis| Deed::Pass { millis }),
        1 => (0..(30 * 60 * 60 * 1_000_u64)).prop_map(|millis| Deed::Pass { millis }),
    ];
    prop::collection::vec(deed, 1..60)
}

/// Whatever happens, in whatever order: the same decisions and the same counts.
pub fn decides_as_a_plain_model_does_whatever_clients_do<B: Bench>() {
    let run = TestRunner::new(ProptestConfig::with_cases(200)).run(&deeds(), |deeds| {
        B::block_on(async {
            // Two days before clocks go back.
            let start = at("2026-10-23T12:00:00Z");
            let bench = B::start(start).await;
            play(&bench, Plain::new(start, bench.since_bucket_origin()), deeds).await
        })
    });
    run.expect("the limiter decides as the plain model does");
}

async fn play(bench: &impl Bench, mut plain: Plain, deeds: Vec<Deed>) -> Result<(), TestCaseError> {
    let mut open: Vec<(usize, Reservation)> = Vec::new();
    for deed in deeds {
        match deed {
            Deed::Reserve { key, tokens, cost } => {
                let real = bench.limiter().reserve(claims(scopes(key, tokens, cost))).await;
                let expected = plain.reserve(key, tokens, cost);
                prop_assert_eq!(real.is_ok(), expected.is_some(), "key {} wants {} and {}", key, tokens, cost);
                open.extend(expected.zip(real.ok()));
            }
            Deed::Settle { which, tokens, cost } => {
                let Some((id, reservation)) = take(&mut open, which) else { continue };
                reservation.settle(Used { input_tokens: tokens, output_tokens: 0, cost: NanoUsd(cost) });
                plain.end(id, Some((1, tokens, cost)));
            }
            Deed::Cancel { which } => {
                let Some((id, reservation)) = take(&mut open, which) else { continue };
                drop(reservation);
                plain.end(id, Some((0, 0, 0)));
            }
            Deed::Crash { which } => {
                let Some((id, reservation)) = take(&mut open, which) else { continue };
                reservation.abandon();
                bench.advance(LEASE).await;
                plain.pass(LEASE);
                plain.end(id, None);
            }
            Deed::Pass { millis } => {
                bench.advance(Duration::from_millis(millis)).await;
                plain.pass(Duration::from_millis(millis));
            }
        }
        bench.settled().await;
        agree(bench, &plain).await?;
    }
    Ok(())
}

fn take(open: &mut Vec<(usize, Reservation)>, which: usize) -> Option<(usize, Reservation)> {
    (!open.is_empty()).then(|| open.swap_remove(which % open.len()))
}

async fn agree(bench: &impl Bench, plain: &Plain) -> Result<(), TestCaseError> {
    for name in ["key-0", "key-1", "key-2", "shared"] {
        let real = used(bench, limited(name, 0, 0)).await;
        let real: Vec<u64> = real.into_iter().map(|(_, used)| used).collect();
        prop_assert_eq!(real, plain.counts(name), "{}", name);
    }
    Ok(())
}

fn scopes(key: usize, tokens: u64, cost: u64) -> [ScopeClaim; 2] {
    [limited(&format!("key-{key}"), tokens, cost), limited("shared", tokens, cost)]
}

fn limited(name: &str, amount: u64, cost: u64) -> ScopeClaim {
    key(name).requests(REQUESTS).tokens(TOKENS, amount).slots(SLOTS).budget(Period::Day, ZONE, BUDGET, cost)
}

/// The model: a list of everything that was ever reserved, and sums over it.
struct Plain {
    calendar: Timestamp,
    clock: Duration,
    entries: Vec<Entry>,
}

struct Entry {
    key: usize,
    minute: u64,
    day: Bounds,
    requests: u64,
    tokens: u64,
    cost: u64,
    open: bool,
}

impl Plain {
    fn new(calendar: Timestamp, clock: Duration) -> Self {
        Self { calendar, clock, entries: Vec::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.calendar += time;
        self.clock += time;
    }

    fn reserve(&mut self, key: usize, tokens: u64, cost: u64) -> Option<usize> {
        let fits = |counts: Vec<u64>| {
            counts[0] < REQUESTS && counts[1] + tokens <= TOKENS && counts[2] < SLOTS && counts[3] + cost <= BUDGET
        };
        if !fits(self.counts(&format!("key-{key}"))) || !fits(self.counts("shared")) {
            return None;
        }
        let (minute, day) = (self.minute(), self.day());
        self.entries.push(Entry { key, minute, day, requests: 1, tokens, cost, open: true });
        Some(self.entries.len() - 1)
    }

    /// Replaces what an entry counts for; without numbers its holder died.
    fn end(&mut self, id: usize, used: Option<(u64, u64, u64)>) {
        let entry = &mut self.entries[id];
        let (requests, tokens, cost) = used.unwrap_or((0, 0, entry.cost));
        (entry.requests, entry.tokens, entry.cost, entry.open) = (requests, tokens, cost, false);
    }

    /// Requests, tokens, slots and money of a scope.
    fn counts(&self, name: &str) -> Vec<u64> {
        let mine = || self.entries.iter().filter(move |entry| name == "shared" || name == format!("key-{}", entry.key));
        let weighted = |amount: fn(&Entry) -> u64| {
            let sum =
                |minute: Option<u64>| mine().filter(|entry| Some(entry.minute) == minute).map(amount).sum::<u64>();
            let covered = 60_000 - self.clock.as_millis() as u64 % 60_000;
            sum(Some(self.minute())) + (sum(self.minute().checked_sub(1)) * covered).div_ceil(60_000)
        };
        let slots = mine().filter(|entry| entry.open).count() as u64;
        let money = mine().filter(|entry| entry.day == self.day()).map(|entry| entry.cost).sum();
        vec![weighted(|entry| entry.requests), weighted(|entry| entry.tokens), slots, money]
    }

    fn minute(&self) -> u64 {
        self.clock.as_secs() / 60
    }

    fn day(&self) -> Bounds {
        Bounds::holding(self.calendar, Period::Day, ZONE)
    }
}
