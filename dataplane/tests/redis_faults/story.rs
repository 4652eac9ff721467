//! One fault from beginning to end: steady load before it, through it and after it, and what must hold of all of that.

use std::time::{Duration, Instant};

use dataplane::config::redis::RedisConfig;
use futures::future::join_all;
use serde_json::Value;
use servers::Redis;
use table::RedisOutage;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::block_in_place,
};

use crate::{
    load::{CLIENTS, Load, Seen, endless, is_degraded, until},
    log::Log,
    support::{
        client::{Answer, Ask},
        relay::TestRelay,
        upstream::Upstream,
    },
    tables::{answer, tables},
};

/// After which nobody is expected to wait for Redis any more.
const SEEN: Duration = Duration::from_millis(250);
/// Longer than a request takes that meets an outage, on a machine that is busy with other tests. That none waits twice is
/// counted; this is for waits that are not for a call.
const LATE: Duration = Duration::from_secs(20);
/// Requests of each client before a fault and after it.
const CALM: usize = 8;
/// Streams that begin before a fault, or in it, and end when it is over.
const LONG: usize = 3;

/// What a fault does to requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are decided without Redis.
    Outage,
    /// Nothing that a caller would notice.
    Detour,
}

/// Which settlements must be in the counters afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All.
    All,
    /// At least those of requests that ended after the fault began.
    SinceTheFault,
}

/// A data plane under load, and what is done to its Redis.
pub(crate) struct Story {
    name: &'static str,
    mode: RedisOutage,
    relay: TestRelay,
    _upstream: Upstream,
    log: Log,
    load: Load,
    long: Vec<Answer>,
    faulty: Option<Instant>,
    mended: Option<Instant>,
    // One story at a time: they measure, and listen to the same log.
    _alone: MutexGuard<'static, ()>,
}

/// Requests, tokens, and money of the relay key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    tokens: u64,
    nano_usd: u64,
}

impl Story {
    /// A data plane whose clients have got used to it.
    pub(crate) async fn begin(name: &'static str, mode: RedisOutage, redis: RedisConfig) -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let log = Log::begin();
        let upstream = Upstream::start_forgetful(answer).await;
        let relay = TestRelay::start_at(tables(&upstream, mode), redis).await;
        let load = Load::start(relay.address);
        let long = join_all([(); LONG].map(async |()| relay.send(&endless()).await)).await;
        load.each_has_seen(CALM, Instant::now()).await;
        let (faulty, mended) = (None, None);
        Self { name, mode, relay, _upstream: upstream, log, load, long, faulty, mended, _alone: alone }
    }

    /// Does it.
    pub(crate) fn fault(&mut self, fault: impl FnOnce()) {
        self.faulty = Some(Instant::now());
        block_in_place(fault);
    }

    /// Goes on for so many requests of each client.
    pub(crate) async fn each_asks(&mut self, count: usize) {
        self.long.extend(join_all([(); LONG].map(async |()| self.relay.send(&endless()).await)).await);
        self.load.each_has_seen(count, self.faulty()).await;
    }

    /// Goes on until the fault has lasted so long.
    pub(crate) async fn wait_for(&mut self, time: Duration) {
        self.each_asks(1).await;
        let faulty = self.faulty();
        until("the end of the fault", async || faulty.elapsed() >= time).await;
    }

    /// Ends the fault.
    pub(crate) fn mend(&mut self, mend: impl FnOnce()) {
        block_in_place(mend);
        self.mended = Some(Instant::now());
    }

    /// Goes on until all is as before, and looks at everything.
    pub(crate) async fn end(self, fault: Fault, kept: Kept, nodes: &[&Redis]) {
        let (faulty, mended) = (self.faulty(), self.mended.expect("it was mended"));
        let back = self.load.back(mended).await;
        let again = Instant::now();
        self.load.each_has_seen(CALM, again).await;
        let seen = self.load.end().await;
        let degraded_long = self.long.iter().filter(|answer| is_degraded(&answer.headers)).count();
        drop(self.long);
        let told = Told::read(&seen, faulty, mended, back);
        told.print(self.name, self.mode);
        settle(&self.relay, nodes).await;

        assert_answers(&seen, self.mode);
        assert_eq!(told.degraded > 0, fault == Fault::Outage, "{} answers were degraded", told.degraded);
        assert!(told.rounds[0] < LATE && told.rounds[1] < LATE, "{:?}", told.rounds);
        let outages = assert_log(&self.log, self.mode, fault).await;
        assert_metrics(&self.relay, self.mode, told.degraded + degraded_long, outages).await;
        let (counts, in_flight) = Counts::of(&self.relay).await;
        assert_eq!(in_flight, 0);
        let since = seen.iter().filter(|one| one.begun >= faulty && one.status == 200).count();
        let records = self.relay.records().await;
        assert_counts(&counts, &records, kept, since);
    }

    fn faulty(&self) -> Instant {
        self.faulty.expect("something was done")
    }
}

/// What clients have noticed.
struct Told {
    before: [Duration; 2],
    /// The slowest of the first requests of all clients that met the fault, then of their second ones, and so on.
    rounds: Vec<Duration>,
    away: [Duration; 2],
    after: [Duration; 2],
    degraded: usize,
    back: Duration,
    /// When the last request was sent that Redis did not decide, after the end of the fault.
    last_degraded: Duration,
}

impl Told {
    fn read(seen: &[Seen], faulty: Instant, mended: Instant, back: Duration) -> Self {
        let ended = |one: &Seen| one.begun + one.took;
        let of = |is_in: &dyn Fn(&Seen) -> bool| spread(seen.iter().filter(|one| is_in(one)).map(|one| one.took));
        let mut rounds = Vec::new();
        for client in 0..CLIENTS {
            let mine = seen.iter().filter(|one| one.client == client && ended(one) > faulty && one.begun < mended);
            for (round, one) in mine.enumerate() {
                if rounds.len() == round {
                    rounds.push(Duration::ZERO);
                }
                rounds[round] = rounds[round].max(one.took);
            }
        }
        rounds.resize(rounds.len().max(2), Duration::ZERO);
        let late = seen.iter().filter(|one| one.degraded && one.begun > mended);
        Self {
            before: of(&|one| ended(one) <= faulty),
            away: of(&|one| one.begun > faulty + SEEN && one.begun < mended),
            after: of(&|one| one.begun >= mended),
            rounds,
            degraded: seen.iter().filter(|one| one.degraded).count(),
            back,
            last_degraded: late.map(|one| one.begun - mended).max().unwrap_or_default(),
        }
    }

    fn print(&self, name: &str, mode: RedisOutage) {
        let millis = |time: &Duration| format!("{:.1}", time.as_secs_f64() * 1_000.0);
        let pair = |times: &[Duration; 2]| format!("{} / {}", millis(&times[0]), millis(&times[1]));
        println!(
            "| {name} | {mode:?} | {} | {} | {} | {} | {} | {} | {} | {} |",
            pair(&self.before),
            millis(&self.rounds[0]),
            millis(&self.rounds[1]),
            pair(&self.away),
            pair(&self.after),
            millis(&self.back),
            millis(&self.last_degraded),
            self.degraded,
        );
    }
}

/// The median and the slowest.
fn spread(times: impl Iterator<Item = Duration>) -> [Duration; 2] {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let slowest = times.last().copied().unwrap_or_default();
    [times.get(times.len() / 2).copied().unwrap_or_default(), slowest]
}

/// Waits until nothing is open, here and in Redis.
async fn settle(relay: &TestRelay, nodes: &[&Redis]) {
    until("Redis to be used", async || relay.metric("relay_redis_up").await == Some(1.0)).await;
    until("the end of all reservations", async || relay.metric("relay_limit_reservations_live").await == Some(0.0))
        .await;
    until("the end of all settlements", async || block_in_place(|| nodes.iter().all(|node| is_at_rest(node)))).await;
    // What reservations used that were lost with a server's data leaves no trace there until it is told, in a batch of its
    // own.
    until("all money in the counters", async || Counts::of(relay).await.0.nano_usd >= cost(relay).await).await;
    // That is all: nothing may change for sixty times as long as a batch gathers.
    let (mut last, mut since) = (Counts::of(relay).await, Instant::now());
    until("counters that rest", async || {
        let now = Counts::of(relay).await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() >= Duration::from_millis(300)
    })
    .await;
}

/// What all answers cost, as metrics say.
async fn cost(relay: &TestRelay) -> u64 {
    let (_, page) = relay.admin("/metrics").await;
    let lines = page.lines().filter_map(|line| line.strip_prefix("relay_key_cost_nano_usd_total{"));
    lines.map(|line| line.rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok()).expect("a number")).sum()
}

/// Whether a server has neither requests in flight nor open reservations. What only says that a reservation must not be
/// taken any more is none.
fn is_at_rest(node: &Redis) -> bool {
    const OPEN: &str = "local open = 0
        for _, key in ipairs(redis.call('KEYS', '*:slots')) do
            open = open + redis.call('ZCARD', key)
        end
        for _, key in ipairs(redis.call('KEYS', '*:holds')) do
            for _, hold in ipairs(redis.call('HVALS', key)) do
                open = open + #cmsgpack.unpack(hold)
            end
        end
        return open";
    node.cli(&["EVAL", OPEN, "0"]) == "0"
}

fn assert_answers(seen: &[Seen], mode: RedisOutage) {
    for one in seen {
        let expected = if one.degraded && mode == RedisOutage::Closed { 503 } else { 200 };
        assert_eq!(one.status, expected, "{one:?}");
    }
}

async fn assert_metrics(relay: &TestRelay, mode: RedisOutage, degraded: usize, outages: usize) {
    let (_, page) = relay.admin("/metrics").await;
    let of = |name: &str, labels: &[&str]| -> f64 {
        let lines =
            page.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let name = match mode {
        RedisOutage::LocalShare => "local_share",
        RedisOutage::Closed => "closed",
        RedisOutage::Open => "open",
    };
    let counted = of("relay_limit_degraded_requests_total", &[]);
    assert_eq!(counted, of("relay_limit_degraded_requests_total", &[name]), "{page}");
    assert_eq!(counted, degraded as f64, "requests that were decided without Redis, as metrics and as answers say");
    assert_eq!(of("relay_redis_degraded_seconds_total", &[]) > 0.0, degraded > 0);
    // Each client waits for Redis in vain once at most in an outage.
    let calls =
        |outcome: &str| of("relay_redis_calls_total", &[r#"script="reserve""#, &format!(r#"outcome="{outcome}""#)]);
    let missed = calls("timeout") + calls("lost") + calls("read_only") + calls("busy") + calls("refused");
    let most = outages * (CLIENTS + 2 * LONG);
    assert!(missed <= most as f64, "{missed} requests waited for Redis in vain in {outages} outages");
}

/// The log says when it began and when it was over, and what held in between. Says how often it began: a machine that
/// is busy with other tests may let Redis miss its time once more.
async fn assert_log(log: &Log, mode: RedisOutage, fault: Fault) -> usize {
    let fell = || log.count("Redis is not used until it is back");
    until("the end of all outages", async || fell() == log.count("Redis is used again after")).await;
    let decided = format!("requests are decided without Redis, as `redisOutage.mode` of their policies says: {mode:?}");
    let seen = (fell() > 0, log.count(&decided) > 0);
    assert_eq!(seen, (fault == Fault::Outage, fault == Fault::Outage), "{}", log.about("Redis"));
    fell()
}

impl Counts {
    /// What the relay key's own rules count, and its policy's, which is the same; and requests in flight.
    async fn of(relay: &TestRelay) -> (Self, u64) {
        let usage = relay.ask(&Ask::get("/v1/usage")).await.json();
        let rules = usage["limits"].as_array().expect("a list").clone();
        let used = |rule: &str| {
            let mut found = rules.iter().filter(|line| line["rule"] == rule).filter_map(|line| line["used"].as_u64());
            let one = found.next().unwrap_or_else(|| panic!("no rule {rule}: {usage}"));
            assert!(found.all(|other| other == one), "{rule}: {usage}");
            one
        };
        let money = used("budget_month");
        assert_eq!(money, used("budget_day"), "{usage}");
        (
            Self { requests: used("requests_per_day"), tokens: used("tokens_per_day"), nano_usd: money },
            used("concurrency"),
        )
    }

    fn of_records(records: &[Value]) -> Self {
        let sum = |field: fn(&Value) -> &Value| records.iter().filter_map(|record| field(record).as_u64()).sum::<u64>();
        Self {
            requests: records.iter().filter(|record| record["usage"].is_object()).count() as u64,
            tokens: sum(|record| &record["usage"]["input"]) + sum(|record| &record["usage"]["output"]),
            nano_usd: sum(|record| &record["cost_nano_usd"]),
        }
    }
}

/// Money is all there in any case. Of rates a server that lost its data may know less, but what was asked for since.
fn assert_counts(counted: &Counts, records: &[Value], kept: Kept, since: usize) {
    let all = Counts::of_records(records);
    assert_eq!(counted.nano_usd, all.nano_usd, "money in budgets and in usage records");
    match kept {
        Kept::All => assert_eq!(*counted, all, "counters and usage records"),
        Kept::SinceTheFault => {
            assert!(counted.requests <= all.requests && counted.tokens <= all.tokens, "{counted:?} exceeds {all:?}");
            assert!(counted.requests >= since as u64, "{counted:?}, and {since} requests since the fault");
        }
    }
}
