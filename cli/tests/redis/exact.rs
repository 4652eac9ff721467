//! Limits hold to the last token and the last nano-dollar, and nobody is refused who has room.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    callers::{Call, Seen, at_once},
    fleet::{Fleet, sums},
    monitor::Monitor,
    oracle::{Verdicts, replay},
};

const PROCESSES: usize = 4;
const CALLERS: usize = 200;
const CALLS: u64 = 30;
const TOKENS: u64 = 60_000;
/// Nano-USD.
const MONEY: u64 = 75_000_000;

/// The calls of one caller: half of them for a model that costs money, half streamed, and a third that are left.
fn calls(caller: usize, addresses: &[SocketAddr]) -> Vec<(SocketAddr, Call)> {
    let call = |round: u64| {
        let drawn = drawn(caller as u64 * CALLS + round);
        let priced = drawn.is_multiple_of(2);
        let (model, max_tokens) = if priced { ("priced", 20) } else { ("free", 40) };
        let leaves_after = (drawn / 4).is_multiple_of(3).then(|| Duration::from_millis(1 + drawn / 16 % 200));
        let seed = (!priced).then_some(drawn / 1024);
        let call = Call { model, stream: (drawn / 2).is_multiple_of(2), max_tokens, seed, leaves_after };
        (addresses[(caller + round as usize) % addresses.len()], call)
    };
    (0..CALLS).map(call).collect()
}

/// A number that looks drawn at random and is the same each time (SplitMix64).
fn drawn(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 8
}

/// A process refuses without asking Redis only what Redis has refused for certain: until then, every refusal that a
/// caller saw was one of Redis.
fn assert_refusals_are_those_of_redis(seen: &[Seen], verdicts: &Verdicts, priced: bool) {
    let model = if priced { "priced" } else { "free" };
    let of_redis = verdicts.refused.iter().filter(|refusal| refusal.priced == priced);
    let certain =
        of_redis.clone().filter(|refusal| refusal.certain).map(|refusal| refusal.at).min().unwrap_or(u64::MAX);
    let refused =
        seen.iter().filter(|seen| seen.model == model && seen.status == Some(429) && seen.at < certain).count();
    let by_redis = of_redis.filter(|refusal| refusal.at < certain).count();
    assert!(refused <= by_redis, "{model}: {refused} refusals, {by_redis} of them by Redis");
}

fn status(seen: &[Seen], status: u16) -> usize {
    seen.iter().filter(|seen| seen.status == Some(status)).count()
}

/// Tokens and nano-USD that were reserved, by the records. Of a caller who left at that moment the record knows nothing.
fn reserved(records: &[Value]) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    records.iter().fold((0, 0), |(tokens, money), record| {
        let reserved = &record["reserved"];
        let more = number(&reserved["input"]) + number(&reserved["output"]);
        (tokens + more, money + number(&reserved["cost_nano_usd"]))
    })
}

fn report(seen: &[Seen], verdicts: &Verdicts, took: Duration) {
    let left = seen.iter().filter(|seen| seen.left).count();
    let (answered, refused) = (status(seen, 200), status(seen, 429));
    println!("{} calls in {took:.1?}: {answered} answered, {refused} refused, {left} left", seen.len());
    let Verdicts { granted, refused, batches, peaks, reserved, used, .. } = verdicts;
    let certain = refused.iter().filter(|refusal| refusal.certain).count();
    let (over, false_refusals) = (verdicts.too_many.len(), verdicts.false_refusals.len());
    println!(
        "Redis: {granted} granted ({over} too many), {} refused ({false_refusals} wrongly, {certain} for certain)",
        refused.len()
    );
    println!("{} entries in {} batches of settlements", batches.1, batches.0);
    println!(
        "limits: {TOKENS} tokens, {MONEY} nano-USD; at most {peaks:?}; reserved in all {reserved:?}; in the end {used:?}"
    );
}

#[test]
fn four_processes_and_two_hundred_callers_never_exceed_tokens_or_money_and_refuse_nobody_who_has_room() {
    let mut fleet = Fleet::start(PROCESSES, TOKENS, MONEY);
    let (monitor, addresses) = (Monitor::start(fleet.redis.address()), fleet.addresses());

    let start = Instant::now();
    let seen = at_once(CALLERS, |caller| calls(caller, &addresses));
    let took = start.elapsed();
    let all: Vec<_> = (0..PROCESSES).collect();
    fleet.all_settled(&all);
    let rules = ["tokens_per_day", "budget_total", "concurrency"];
    let told: Vec<_> = all.iter().map(|number| rules.map(|rule| fleet.used(*number, rule))).collect();
    fleet.stop();

    let verdicts = replay(&monitor.executed());
    report(&seen, &verdicts, took);
    let records: Vec<_> = all.iter().flat_map(|number| fleet.records(*number)).collect();
    let (tokens, money) = sums(records.iter());
    let cancelled = records.iter().filter(|record| record["cancelled"] == true && record["usage"].is_object()).count();
    println!("records: {tokens} tokens and {money} nano-USD used; {cancelled} answers were cut off by callers");

    // Nothing but answers and refusals came, by limits that all processes share.
    let is_odd = |seen: &&Seen| !seen.left && ![Some(200), Some(429)].contains(&seen.status);
    let odd: Vec<_> = seen.iter().filter(is_odd).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(records.iter().all(|record| record["limits_degraded"] == false));
    // Both limits were met, while answers went on and callers left.
    assert!(status(&seen, 200) > 500 && status(&seen, 429) > 500 && cancelled > 20);
    // Never too much, and never too little.
    assert_eq!(verdicts.too_many, [""; 0]);
    assert_eq!(verdicts.false_refusals, [""; 0]);
    assert!(verdicts.peaks["tokens_per_day"] <= TOKENS && verdicts.peaks["budget_total"] <= MONEY);
    for priced in [true, false] {
        assert_refusals_are_those_of_redis(&seen, &verdicts, priced);
    }
    // Records, counters and a plain sum agree on what was used.
    let reserved = reserved(&records);
    assert!(reserved.0 <= verdicts.reserved["tokens_per_day"] && reserved.1 <= verdicts.reserved["budget_total"]);
    assert_eq!((verdicts.used["tokens_per_day"], verdicts.used["budget_total"]), (tokens, money));
    assert_eq!(told, vec![[tokens, money, 0]; PROCESSES]);
}
