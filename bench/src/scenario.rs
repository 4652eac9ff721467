//! What is measured, of whom, and how.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    answers::EVENTS,
    client::Connection,
    failover,
    gateway::{Contender, Gateways},
    load::{self, Outcome, Target, quantile},
    process::Process,
    requests,
    sample::Values,
    streams,
};

/// Requests a second of what measures added time.
const FEW: u32 = 500;
/// Streams a second of what measures the time to a first event.
const FEW_STREAMS: u32 = 50;
/// Streams that are open and silent.
const IDLE: usize = 1_000;
/// How long a gateway that was started needs until it is at rest.
const AT_REST: Duration = Duration::from_secs(3);
/// How long a gateway is warmed up before it is measured.
const WARM: Duration = Duration::from_millis(700);

/// A question that is put to contenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Whole answers in the shape of the caller.
    SameShape,
    /// The same, 500 times a second: what is added to an answer's time.
    Latency,
    /// Streams of 60 events, each written by itself.
    Stream,
    /// The same, 50 streams a second: when the first event comes.
    FirstEvent,
    /// Whole answers: an Anthropic client before an OpenAI host.
    FromAnthropic,
    /// Whole answers: an OpenAI client before an Anthropic host.
    FromOpenai,
    /// Streams: an Anthropic client before an OpenAI host.
    StreamFromAnthropic,
    /// Streams: an OpenAI client before an Anthropic host.
    StreamFromOpenai,
    /// Requests of 200 KB with tools.
    Large,
    /// Four keys, all of which are good.
    FourKeys,
    /// Four keys, half of which are refused with each request.
    HalfBad,
    /// Four keys, each of which fails now and then: what that costs the request that meets it.
    OneFailure,
    /// 1,000 streams that are open and silent.
    IdleStreams,
    /// Memory over many requests.
    Flat,
    /// From nothing to the first answer.
    ColdStart,
}

/// How long and how much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Of each measurement.
    pub measured: Duration,
    /// Requests over which memory has to stay flat, in each pass.
    pub flat: usize,
}

impl Scenario {
    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::SameShape => "same shape, 600-byte answer, 64 connections",
            Self::Latency => "same shape, 500 requests a second",
            Self::Stream => "streams of 60 events, 64 connections",
            Self::FirstEvent => "streams of 60 events, 50 streams a second",
            Self::FromAnthropic => "Anthropic client, OpenAI host",
            Self::FromOpenai => "OpenAI client, Anthropic host",
            Self::StreamFromAnthropic => "Anthropic client, OpenAI host, streams",
            Self::StreamFromOpenai => "OpenAI client, Anthropic host, streams",
            Self::Large => "200 KB request with tools",
            Self::FourKeys => "four keys, all good",
            Self::HalfBad => "four keys, half of them bad",
            Self::OneFailure => "one conversation in ten meets a failure",
            Self::IdleStreams => "1,000 open idle streams",
            Self::Flat => "memory over many requests",
            Self::ColdStart => "cold start",
        }
    }

    /// What its rate and its processor time are of.
    pub fn unit(self) -> &'static str {
        if self.is_counted_by_event() { "event" } else { "request" }
    }

    fn is_counted_by_event(self) -> bool {
        matches!(self, Self::Stream | Self::FirstEvent | Self::StreamFromAnthropic | Self::StreamFromOpenai)
    }

    /// Who is asked.
    pub fn contenders(self) -> &'static [Contender] {
        use Contender::{Dataplane, Direct, Hyper, Nginx, Relay, RelayOpen, RelayRedis};
        match self {
            Self::SameShape | Self::Latency | Self::Stream | Self::FirstEvent => {
                &[Direct, Nginx, Hyper, RelayOpen, Relay, RelayRedis]
            }
            // What passes the others is not translated: the same question, answered in its own shape.
            Self::FromAnthropic | Self::FromOpenai | Self::StreamFromAnthropic | Self::StreamFromOpenai => {
                &[Direct, Nginx, Hyper, Relay]
            }
            Self::Large => &[Direct, Nginx, Hyper, Relay],
            Self::IdleStreams => &[Nginx, Hyper, Relay],
            Self::FourKeys | Self::HalfBad | Self::OneFailure | Self::Flat => &[Relay],
            Self::ColdStart => &[Relay, Dataplane],
        }
    }

    /// What is sent.
    fn request(self, contender: Contender) -> Vec<u8> {
        let token = contender.token();
        match self {
            Self::SameShape | Self::Latency | Self::OneFailure | Self::Flat | Self::ColdStart => {
                requests::openai(token, false)
            }
            Self::Stream | Self::FirstEvent => requests::openai(token, true),
            Self::FromAnthropic => requests::anthropic_of("bench-openai", token, false),
            Self::StreamFromAnthropic => requests::anthropic_of("bench-openai", token, true),
            Self::FromOpenai => requests::openai_of("", "bench-anthropic", token, false),
            Self::StreamFromOpenai => requests::openai_of("", "bench-anthropic", token, true),
            Self::Large => requests::large(token),
            Self::FourKeys => requests::openai_of("", "bench-four", token, false),
            Self::HalfBad => requests::openai_of("", "bench-half", token, false),
            // Relay knows by the model, the others by the path.
            Self::IdleStreams if contender.is_relay() => requests::openai_of("", "bench-idle", token, true),
            Self::IdleStreams => requests::openai_at("/idle", token, true),
        }
    }

    /// Puts the question to one contender once.
    pub async fn measure(self, gateways: &Gateways, contender: Contender, extent: Extent) -> anyhow::Result<Values> {
        let target = Target { address: gateways.address(contender), request: self.request(contender).into() };
        let process = gateways.gateway(contender).map(|gateway| &gateway.process);
        match self {
            Self::SameShape
            | Self::Stream
            | Self::FromAnthropic
            | Self::FromOpenai
            | Self::StreamFromAnthropic
            | Self::StreamFromOpenai
            | Self::Large
            | Self::FourKeys
            | Self::HalfBad => self.throughput(gateways, contender, &target, process, extent).await,
            Self::Latency => Ok(self.told(&load::at_rate(&target, process, FEW, extent.measured).await?)),
            Self::FirstEvent => Ok(self.told(&load::at_rate(&target, process, FEW_STREAMS, extent.measured).await?)),
            Self::OneFailure => failover::one_failure(gateways, target.address, contender.token()).await,
            // What came before is not to be seen in the memory of this.
            Self::IdleStreams | Self::Flat if contender.is_relay() => {
                let (fresh, _) = gateways.another_relay()?;
                let target = Target { address: fresh.address, ..target };
                if self == Self::Flat {
                    return flat(&target, &fresh.process, extent.flat).await;
                }
                idle_streams(&target, &fresh.process).await
            }
            Self::IdleStreams | Self::Flat => {
                let process = process.context("the memory of a gateway is measured")?;
                idle_streams(&target, process).await
            }
            Self::ColdStart if contender == Contender::Dataplane => cold_dataplane(gateways, &target).await,
            Self::ColdStart => cold_start(gateways, &target).await,
        }
    }

    async fn throughput(
        self,
        gateways: &Gateways,
        contender: Contender,
        target: &Target,
        process: Option<&Process>,
        extent: Extent,
    ) -> anyhow::Result<Values> {
        let before = (gateways.upstream.conversations(), gateways.redis_script_micros());
        let outcome = load::closed(target, process, WARM, extent.measured).await?;
        let after = (gateways.upstream.conversations(), gateways.redis_script_micros());
        let mut values = self.told(&outcome);
        // Those of the warming-up too, of which nothing else is told.
        values.put("answers", outcome.asked as f64);
        values.put("tries_per_answer", (after.0 - before.0) as f64 / outcome.asked as f64);
        if contender == Contender::RelayRedis {
            values.put("redis_us", (after.1 - before.1) / outcome.asked as f64);
        }
        if let Some(process) = process {
            values.put("rss_mb", process.resident_megabytes()?);
        }
        Ok(values)
    }

    fn told(self, outcome: &Outcome) -> Values {
        let mut values = Values::default();
        let counted = if self.is_counted_by_event() { outcome.answers * EVENTS } else { outcome.answers } as f64;
        values.put("per_second", counted / outcome.took.as_secs_f64());
        values.put("answered_p50_us", quantile(&outcome.answered, 0.5));
        values.put("answered_p99_us", quantile(&outcome.answered, 0.99));
        if self.is_counted_by_event() {
            values.put("begun_p50_us", quantile(&outcome.begun, 0.5));
            values.put("begun_p99_us", quantile(&outcome.begun, 0.99));
            values.put("silence_ms", outcome.silence.as_secs_f64() * 1e3);
            values.put("events_seen", outcome.events as f64 / outcome.answers as f64);
        }
        if let Some(used) = &outcome.used {
            values.put("cpu_us", used.total().as_secs_f64() * 1e6 / counted);
            values.put("busy", used.total().as_secs_f64() / outcome.took.as_secs_f64());
            for (thread, time) in used.threads().iter().filter(|(_, time)| !time.is_zero()) {
                values.put(&format!("cpu_us {thread}"), time.as_secs_f64() * 1e6 / counted);
            }
        }
        values
    }
}

async fn idle_streams(target: &Target, process: &Process) -> anyhow::Result<Values> {
    let mut values = Values::default();
    let before = process.resident_megabytes()?;
    let streams = streams::open(target, IDLE).await?;
    let during = process.resident_megabytes()?;
    ensure!(streams.len() == IDLE, "all streams are open");
    drop(streams);
    sleep(Duration::from_millis(500)).await;
    values.put("rss_before_mb", before);
    values.put("rss_mb", during);
    values.put("added_mb", during - before);
    values.put("rss_after_mb", process.resident_megabytes()?);
    Ok(values)
}

async fn flat(target: &Target, process: &Process, many: usize) -> anyhow::Result<Values> {
    let mut values = Values::default();
    load::many(target, many / 10).await?;
    let before = process.resident_megabytes()?;
    load::many(target, many).await?;
    let after = process.resident_megabytes()?;
    values.put("requests", many as f64);
    values.put("rss_before_mb", before);
    values.put("rss_mb", after);
    values.put("added_mb", after - before);
    Ok(values)
}

async fn cold_start(gateways: &Gateways, target: &Target) -> anyhow::Result<Values> {
    let (gateway, begun) = gateways.another_relay()?;
    let listening = begun.elapsed();
    let mut connection = Connection::open(gateway.address).await?;
    connection.ask(&target.request).await?;
    let answered = begun.elapsed();
    let (idle, _) = gateways.another_relay()?;
    let mut values = Values::default();
    values.put("listening_ms", listening.as_secs_f64() * 1e3);
    values.put("first_answer_ms", answered.as_secs_f64() * 1e3);
    values.put("idle_mb", idle_megabytes(&idle.process).await?);
    Ok(values)
}

async fn cold_dataplane(gateways: &Gateways, target: &Target) -> anyhow::Result<Values> {
    let (gateway, ready) = gateways.dataplane().await?;
    let mut connection = Connection::open(gateway.address).await?;
    connection.ask(&target.request).await?;
    let (idle, _) = gateways.dataplane().await?;
    let mut values = Values::default();
    values.put("ready_ms", ready.as_secs_f64() * 1e3);
    values.put("idle_mb", idle_megabytes(&idle.process).await?);
    Ok(values)
}

/// What a process has that was asked nothing.
async fn idle_megabytes(process: &Process) -> anyhow::Result<f64> {
    sleep(AT_REST).await;
    process.resident_megabytes()
}
