use std::path::Path;

use jiff::Timestamp;
use servers::Redis;
use table::{ObjectRef, Period};

use super::*;
use crate::{
    limit::{
        redis::{
            health::Units,
            script::{Scripts, Time},
            spent::ledger::Bounds,
            store::{
                Store,
                target::{Address, Target},
            },
        },
        rule::Scope,
    },
    metrics::Metrics,
};

const TOTAL: Bounds = Bounds { start_ms: 0, end_ms: 0 };
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// A process that settles.
struct Process {
    seeder: Arc<Seeder>,
}

impl Process {
    async fn start(server: &Redis, records: Option<&Path>) -> Self {
        let address = Address::new(server.address().ip().to_string(), server.address().port());
        // Long enough for a machine that has much else to do.
        let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
        let (units, keys) = (Units::of(&target.mode), Keys::new("relay"));
        let script = Scripts::new(&Time::Redis).seed;
        let store = Store::new(target, vec![script.clone()]).expect("the target is whole");
        let link = Arc::new(Link::new(store, units, keys.clone(), Arc::new(Metrics::new())));
        link.connect().await;
        let spent = Arc::new(Spent::open(records));
        Self { seeder: Arc::new(Seeder::new(link, keys, script, spent)) }
    }

    async fn in_memory(server: &Redis) -> Self {
        Self::start(server, None).await
    }

    /// The counters of this birth have taken so much of the key `a`.
    fn settle(&self, bounds: Bounds, nano_usd: u64, birth: &str) {
        let period = if bounds == TOTAL { Period::Total } else { Period::Day };
        let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")));
        assert!(self.seeder.spent.record([Amount { scope, period, bounds, nano_usd }].into_iter(), birth));
    }

    async fn seed(&self, birth: &str) {
        self.seeder.hear("team", birth, None);
        self.seeder.seed("team", birth).await.expect("Redis is there");
    }
}

/// The day that holds `now`, and the ones beside it.
fn days() -> [Bounds; 3] {
    let today = Millis::try_from(Timestamp::now().as_millisecond()).expect("after 1970") / DAY;
    [today - 1, today, today + 1].map(|day| Bounds { start_ms: day * DAY, end_ms: (day + 1) * DAY })
}

/// The same day in a time zone an hour away, in which it has begun and is not over either.
fn elsewhere(today: Bounds) -> Bounds {
    let hour = DAY / 24;
    let Bounds { start_ms, end_ms } = today;
    match Millis::try_from(Timestamp::now().as_millisecond()).expect("after 1970") < start_ms + DAY / 2 {
        true => Bounds { start_ms: start_ms - hour, end_ms: end_ms - hour },
        false => Bounds { start_ms: start_ms + hour, end_ms: end_ms + hour },
    }
}

fn born(server: &Redis, birth: &str) {
    server.cli(&["FLUSHALL"]);
    server.cli(&["SET", "relay:{team}:born", birth]);
}

/// The counters of the key `a`, as JSON; `false`: there are none.
fn counters(server: &Redis) -> serde_json::Value {
    let script = "local it = redis.call('GET', KEYS[1]) return it and cjson.encode(cmsgpack.unpack(it)) or 'false'";
    serde_json::from_str(&server.cli(&["EVAL", script, "1", "relay:{team}:key/a"])).expect("the script writes JSON")
}

fn spent(server: &Redis, budget: &str) -> u64 {
    counters(server)[budget][2].as_f64().map_or(0, |spent| spent as u64)
}

/// Counters with this much spent in a day, as the other scripts write them.
fn preset(server: &Redis, Bounds { start_ms, end_ms }: Bounds, spent: u64) {
    let script = "redis.call('SET', KEYS[1], cmsgpack.pack({budget_day = {tonumber(ARGV[1]), tonumber(ARGV[2]), \
                  tonumber(ARGV[3]), 7, tonumber(ARGV[1])}, x = tonumber(ARGV[2])}))";
    let numbers = [start_ms, end_ms, spent].map(|number| number.to_string());
    let [start, end, spent] = &numbers;
    server.cli(&["EVAL", script, "1", "relay:{team}:key/a", start, end, spent]);
}

#[tokio::test]
async fn budgets_that_were_lost_are_restored_and_only_once() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    let [_, today, _] = days();
    for (bounds, cost) in [(today, 5), (TOTAL, 7), (today, 6)] {
        process.settle(bounds, cost, "1");
    }
    born(&server, "2");
    for _ in 0..3 {
        process.seed("2").await;
    }
    let Bounds { start_ms: start, end_ms: end } = today;
    let never = (1_u64 << 53) - 1;
    let day = serde_json::json!([start, end, 11, 0, start]);
    let expected = serde_json::json!({"budget_day": day, "budget_total": [0, 0, 7, 0, 0], "x": never});
    let whole = |value: &serde_json::Value| value.as_f64().map(|number| number as u64);
    let found = counters(&server);
    for budget in ["budget_day", "budget_total"] {
        let numbers =
            |of: &serde_json::Value| of[budget].as_array().map(|row| row.iter().map(whole).collect::<Vec<_>>());
        assert_eq!(numbers(&found), numbers(&expected), "{budget}");
    }
    assert_eq!(server.cli(&["PTTL", "relay:{team}:key/a"]), "-1");
    assert_eq!(server.cli(&["HGETALL", "relay:{team}:seeded"]), format!("{}\n2", process.seeder.process()));
}

#[tokio::test]
async fn counters_without_a_total_end_after_their_period() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    let [_, today, _] = days();
    process.settle(today, 5, "1");
    born(&server, "2");
    process.seed("2").await;
    let ends: Millis = server.cli(&["PEXPIRETIME", "relay:{team}:key/a"]).parse().expect("they end");
    assert!((today.end_ms..today.end_ms + DAY).contains(&ends), "{ends}");
}

#[tokio::test]
async fn a_process_that_was_let_in_with_nothing_may_still_give_back() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    process.settle(TOTAL, 7, "1");
    born(&server, "2");
    server.cli(&["HSET", "relay:{team}:seeded", process.seeder.process(), "1"]);
    process.seed("2").await;
    process.seed("2").await;
    assert_eq!(spent(&server, "budget_total"), 7);
}

#[tokio::test]
async fn what_others_have_spent_meanwhile_is_kept() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    let [_, today, _] = days();
    process.settle(today, 5, "1");
    born(&server, "2");
    for bounds in [today, elsewhere(today)] {
        server.cli(&["DEL", "relay:{team}:seeded"]);
        let other = Process::in_memory(&server).await;
        other.settle(today, 5, "1");
        preset(&server, bounds, 100);
        other.seed("2").await;
        assert_eq!(spent(&server, "budget_day"), 105);
    }
    // What may still be given back stays as it was.
    assert_eq!(counters(&server)["budget_day"][3].as_f64(), Some(7.0));
}

#[tokio::test]
async fn what_is_still_owed_is_not_given_to_a_day_that_is_over_elsewhere() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    let [_, today, _] = days();
    process.settle(today, 5, "1");
    born(&server, "2");
    preset(&server, Bounds { start_ms: today.start_ms + 1 - DAY, end_ms: today.start_ms + 1 }, 100);
    process.seed("2").await;
    assert_eq!(spent(&server, "budget_day"), 5);
}

#[tokio::test]
async fn a_period_that_is_over_or_was_followed_by_another_is_not_restored() {
    let server = Redis::start();
    let [yesterday, today, tomorrow] = days();
    let process = Process::in_memory(&server).await;
    process.settle(yesterday, 5, "1");
    born(&server, "2");
    process.seed("2").await;
    assert_eq!(counters(&server), false);

    let process = Process::in_memory(&server).await;
    process.settle(today, 5, "1");
    preset(&server, tomorrow, 100);
    process.seed("2").await;
    assert_eq!(spent(&server, "budget_day"), 100);

    let process = Process::in_memory(&server).await;
    process.settle(today, 5, "1");
    preset(&server, yesterday, 100);
    process.seed("2").await;
    assert_eq!(spent(&server, "budget_day"), 5);
}

#[tokio::test]
async fn counters_that_were_lost_once_more_get_nothing_that_was_meant_for_others() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    process.settle(TOTAL, 7, "1");
    born(&server, "3");
    process.seed("2").await;
    assert_eq!((counters(&server), server.cli(&["EXISTS", "relay:{team}:seeded"])), (false.into(), "0".to_owned()));
    process.seed("3").await;
    process.seed("2").await;
    assert_eq!(spent(&server, "budget_total"), 7);
}

#[tokio::test]
async fn a_process_that_was_started_again_gives_back_what_it_kept_and_only_once() {
    let (server, directory) = (Redis::start(), tempfile::tempdir().expect("a directory"));
    let usage = directory.path().join("usage.jsonl");
    let process = Process::start(&server, Some(&usage)).await;
    let name = process.seeder.process().to_owned();
    process.settle(TOTAL, 7, "1");
    process.seeder.spent.save().await;
    drop(process);
    for _ in 0..2 {
        let process = Process::start(&server, Some(&usage)).await;
        assert_eq!(process.seeder.process(), name);
        if counters(&server) == false {
            born(&server, "2");
        }
        process.seed("2").await;
        process.settle(TOTAL, 1, "2");
    }
    assert_eq!(spent(&server, "budget_total"), 7);
}

#[tokio::test]
async fn nobody_has_to_ask_for_what_is_owed() {
    let server = Redis::start();
    let process = Process::in_memory(&server).await;
    process.settle(TOTAL, 7, "1");
    born(&server, "2");
    assert!(process.seeder.hear("team", "2", None));
    assert_eq!(process.seeder.spent.debts().len(), 1);
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (seeder, stop) = (process.seeder.clone(), stop.clone());
        async move { seeder.run(stop).await }
    });
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while spent(&server, "budget_total") != 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it is given back");
    stop.cancel();
    task.await.expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_restore_the_sum_of_what_they_settled() {
    let server = Redis::start();
    let processes: Vec<_> = futures::future::join_all((0..8).map(|_| Process::in_memory(&server))).await;
    let name = |birth: u64| format!("{birth:013}-x");
    let (mut all, mut birth) = (0, 1_u64);
    for round in 0..20_u64 {
        for (number, process) in (1_u64..).zip(&processes) {
            let cost = number * 37 + round * 11;
            process.settle(TOTAL, cost, &name(birth));
            all += cost;
        }
        birth += 1;
        let present = name(birth);
        born(&server, &present);
        futures::future::join_all(
            (0..3 * processes.len()).map(|turn| processes[turn % processes.len()].seed(&present)),
        )
        .await;
        assert_eq!(spent(&server, "budget_total"), all);
    }
}
