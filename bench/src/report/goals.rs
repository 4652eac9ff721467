//! What Relay is to reach, and whether it does. A goal that was not measured is not told; none fails a run.

use super::table::spread;
use crate::{
    gateway::Contender::{self, Dataplane, Direct, Hyper, Nginx, Relay, RelayOpen, RelayRedis},
    sample::{Middle, Samples},
    scenario::Scenario::{
        self, ColdStart, FirstEvent, Flat, FourKeys, FromAnthropic, FromOpenai, HalfBad, IdleStreams, Large, Latency,
        OneFailure, SameShape, Stream, StreamFromAnthropic, StreamFromOpenai,
    },
};

/// A goal, and what came out.
pub(super) struct Goal {
    pub(super) words: &'static str,
    pub(super) measured: String,
    pub(super) is_met: bool,
}

/// Kilobytes of the large request.
const LARGE_KB: f64 = 200.0;

pub(super) fn goals(samples: &Samples) -> Vec<Goal> {
    let see = Seen(samples);
    let goals = [
        see.either(
            "same shape, limits off: at least 0.65 x nginx, or 0.8 x bare hyper",
            SameShape,
            RelayOpen,
            (0.65, 0.8),
        ),
        see.either(
            "same shape, everything on: at least 0.5 x nginx, or 0.62 x bare hyper",
            SameShape,
            Relay,
            (0.5, 0.62),
        ),
        see.most(
            "same shape, everything on: at most 35 µs of processor a request",
            see.value(SameShape, Relay, "cpu_us"),
            35.0,
        ),
        see.least(
            "same shape, with Redis: at least 0.7 x of that in memory",
            samples.ratio(SameShape, RelayRedis, Relay, "per_second"),
            0.7,
        ),
        see.added(
            "added at 500 requests a second, limits off: p50 at most 105 µs",
            Latency,
            RelayOpen,
            "answered_p50_us",
            105.0,
        ),
        see.added("the same: p99 at most 200 µs", Latency, RelayOpen, "answered_p99_us", 200.0),
        see.added(
            "the same with everything on and Redis: p50 at most 180 µs",
            Latency,
            RelayRedis,
            "answered_p50_us",
            180.0,
        ),
        see.added("the same: p99 at most 320 µs", Latency, RelayRedis, "answered_p99_us", 320.0),
        see.against_nginx("streams: at least 0.8 x nginx's events", Stream, Relay, 0.8),
        see.most("streams: at most 9.3 µs of processor an event", see.value(Stream, Relay, "cpu_us"), 9.3),
        see.added("added to the first event: p50 at most 205 µs", FirstEvent, Relay, "begun_p50_us", 205.0),
        see.most("no silence of 40 ms in a stream", see.value(FirstEvent, Relay, "silence_ms"), 39.9),
        see.against_nginx(
            "Anthropic client, OpenAI host: at least 23,000 where nginx does 55,000",
            FromAnthropic,
            Relay,
            23.0 / 55.0,
        ),
        see.against_nginx(
            "OpenAI client, Anthropic host: at least 21,000 where nginx does 55,000",
            FromOpenai,
            Relay,
            21.0 / 55.0,
        ),
        see.against_nginx(
            "the first, streamed: at least 104,000 where nginx does 132,000",
            StreamFromAnthropic,
            Relay,
            104.0 / 132.0,
        ),
        see.against_nginx(
            "the second, streamed: at least 98,000 where nginx does 132,000",
            StreamFromOpenai,
            Relay,
            98.0 / 132.0,
        ),
        see.against_nginx("200 KB request with tools: at least nginx", Large, Relay, 1.0),
        see.most("the same: less than 1 µs of processor a KB", see.per_kilobyte(), 1.0),
        see.most("1,000 open streams: at most 20 MB", see.value(IdleStreams, Relay, "added_mb"), 20.0),
        see.most("idle, in a pod with a table: at most 15 MB", see.value(ColdStart, Dataplane, "idle_mb"), 15.0),
        see.most("idle, `relay run`: at most 15 MB", see.value(ColdStart, Relay, "idle_mb"), 15.0),
        see.most("memory flat over many requests: at most 1 MB more", see.value(Flat, Relay, "added_mb"), 1.0),
        see.most(
            "half of four keys bad: at most 1.01 upstream requests an answer",
            see.value(HalfBad, Relay, "tries_per_answer"),
            1.01,
        ),
        see.least(
            "half of four keys bad: at least 0.97 x the rate of four good ones",
            samples.between((HalfBad, Relay), (FourKeys, Relay), "per_second"),
            0.97,
        ),
        see.most(
            "a 500 from one key: at most 1,000 µs more for the request that meets it",
            see.value(OneFailure, Relay, "more_500_us"),
            1_000.0,
        ),
        see.most("the same with a 429", see.value(OneFailure, Relay, "more_429_us"), 1_000.0),
        see.most(
            "no first byte from one key: the timeout of 300,000 µs and at most 2,000 more",
            see.value(OneFailure, Relay, "more_hang_us"),
            302_000.0,
        ),
        see.most("listens within 200 ms of its start", see.value(ColdStart, Relay, "listening_ms"), 200.0),
    ];
    goals.into_iter().flatten().collect()
}

struct Seen<'a>(&'a Samples);

impl Seen<'_> {
    fn value(&self, scenario: Scenario, contender: Contender, name: &str) -> Option<Middle> {
        self.0.middle(scenario, contender, name)
    }

    fn most(&self, words: &'static str, value: Option<Middle>, most: f64) -> Option<Goal> {
        let value = value?;
        Some(Goal { words, measured: spread(value, 2), is_met: value.median <= most })
    }

    fn least(&self, words: &'static str, value: Option<Middle>, least: f64) -> Option<Goal> {
        let value = value?;
        Some(Goal { words, measured: spread(value, 2), is_met: value.median >= least })
    }

    fn against_nginx(&self, words: &'static str, scenario: Scenario, contender: Contender, least: f64) -> Option<Goal> {
        self.least(words, self.0.ratio(scenario, contender, Nginx, "per_second"), least)
    }

    fn either(&self, words: &'static str, scenario: Scenario, contender: Contender, least: (f64, f64)) -> Option<Goal> {
        let nginx = self.0.ratio(scenario, contender, Nginx, "per_second")?;
        let hyper = self.0.ratio(scenario, contender, Hyper, "per_second")?;
        let measured = format!("{} x nginx, {} x bare hyper", spread(nginx, 2), spread(hyper, 2));
        Some(Goal { words, measured, is_met: nginx.median >= least.0 || hyper.median >= least.1 })
    }

    /// Over what the upstream takes by itself.
    fn added(
        &self,
        words: &'static str,
        scenario: Scenario,
        contender: Contender,
        name: &str,
        most: f64,
    ) -> Option<Goal> {
        let (with, without) = (self.value(scenario, contender, name)?, self.value(scenario, Direct, name)?);
        let added = with.median - without.median;
        Some(Goal { words, measured: format!("{added:.0}"), is_met: added <= most })
    }

    fn per_kilobyte(&self) -> Option<Middle> {
        let Middle { least, median, most } = self.value(Large, Relay, "cpu_us")?;
        Some(Middle { least: least / LARGE_KB, median: median / LARGE_KB, most: most / LARGE_KB })
    }
}
