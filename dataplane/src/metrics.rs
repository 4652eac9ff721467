//! Every metric of the data plane, in one struct, registered before the first request.
//!
//! Labels come from closed sets or from the table; names beyond a bound are counted as `other`, so that no caller can
//! grow the registry. What is counted when is decided by those who call.

mod labels;
mod series;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};
use table::{ObjectRef, RedisOutage, RoutingTable, WireShape};

pub use self::series::ModelSeries;
use self::{
    labels::{
        AttemptLabels, BreakerLabels, CallLabels, ErrorLabels, LossLabels, ModeLabels, ObjectLabels, OutcomeLabels,
        RefusalLabels, ScriptLabels, TableLabels,
    },
    series::{HostSeries, KeyFamilies, KeySeries, ModelFamilies, Named},
};
use crate::{
    limit::rule::{Rule, RuleRef},
    meter::record::{AttemptOutcome, Loss},
};
use protocol::usage::Usage;

/// Names of models, hosts, relay keys and teams that get series of their own at most, each.
const MOST_NAMES: usize = 5_000;

/// Counts in a family of series.
type Counters<L> = Family<L, Counter>;

/// Every metric of the data plane. Cheap to use from any thread; a scrape does not stop anyone.
pub struct Metrics {
    registry: Registry,
    models: Named<ModelSeries>,
    by_model: ModelFamilies,
    hosts: Named<HostSeries>,
    relay_keys: Named<KeySeries>,
    by_key: KeyFamilies,
    overhead: Histogram,
    attempts: Counters<AttemptLabels>,
    breakers: Family<BreakerLabels, Gauge>,
    host_keys: Mutex<BTreeSet<ObjectRef>>,
    refusals: Counters<RefusalLabels>,
    budget_alerts: Counters<RefusalLabels>,
    estimate_error: Family<ErrorLabels, Histogram, fn() -> Histogram>,
    input_error: Histogram,
    output_error: Histogram,
    losses: Counters<LossLabels>,
    table_info: Family<TableLabels, Gauge>,
    table_objects: Family<ObjectLabels, Gauge>,
    table_loaded: Gauge<f64, AtomicU64>,
    config_age: Arc<OnceLock<Gauge>>,
    redis_up: Arc<OnceLock<Gauge>>,
    redis_calls: Counters<CallLabels>,
    redis_scripts: Family<ScriptLabels, Histogram, fn() -> Histogram>,
    redis_degraded: Counter<f64, AtomicU64>,
    degraded_requests: Counters<ModeLabels>,
    forwarded: Counters<OutcomeLabels>,
    tls_reloads: Counters<OutcomeLabels>,
    /// Reservations whose end Redis was told.
    pub redis_settlements: Counter,
    /// Calls by which it was told.
    pub redis_batches: Counter,
    /// Requests that were begun and are not over.
    pub requests_in_flight: Gauge,
    /// Reservations that are neither settled nor given back.
    pub reservations_live: Gauge,
    /// Client connections that are open.
    pub connections_open: Gauge,
    /// Streamed answers that are under way.
    pub streams_open: Gauge,
    /// Usage records that reached their sink.
    pub usage_records_written: Counter,
    /// Usage records that were lost: the queue was full, or the sink failed to the end.
    pub usage_records_dropped: Counter,
    /// Failed attempts to open or write the sink.
    pub usage_sink_errors: Counter,
    /// Usage records that the collector took.
    pub usage_logs_sent: Counter,
    /// Usage records that the collector was not told: the queue was full, or it did not take them to the end.
    pub usage_logs_dropped: Counter,
    /// Failed attempts to tell it.
    pub usage_logs_errors: Counter,
    /// Spans that the collector took.
    pub spans_sent: Counter,
    /// Spans that were lost: the queue was full, or the collector did not take them.
    pub spans_dropped: Counter,
}

/// The state of a host key's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// The key is used.
    Closed,
    /// The key is probed, or used little.
    HalfOpen,
    /// The key is not used.
    Open,
}

/// A request that is over, as far as metrics count it.
#[derive(Clone, Copy, Debug)]
pub struct RequestOver<'a> {
    /// The caller's shape; absent: it was not recognised.
    pub shape: Option<WireShape>,
    /// The host that answered.
    pub host: Option<&'a str>,
    /// The HTTP status that the caller saw.
    pub status: u16,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// Until the first content; absent: there was none.
    pub first_content: Option<Duration>,
    /// The part of it that was spent within Relay; absent: not measured.
    pub overhead: Option<Duration>,
}

impl Metrics {
    /// All families, registered and without a single request.
    pub fn new() -> Self {
        let mut metrics = Self::unregistered();
        metrics.register_requests();
        metrics.register_limits();
        metrics.register_redis();
        metrics.register_rest();
        metrics.show_closed_sets();
        metrics
    }

    /// Prometheus' and OpenMetrics' text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a string does not fail");
        page
    }

    /// The series of a model; absent: it was not resolved. Only names of the table, never the caller's own.
    pub fn model(&self, name: Option<&str>) -> Arc<ModelSeries> {
        self.models.of(name, |name| ModelSeries::new(name, self.by_model.clone()))
    }

    /// A request for a model is over.
    pub fn request_over(&self, model: &ModelSeries, over: &RequestOver<'_>) {
        let host = over.host.map(|host| self.host(host));
        model.request_over(over, host.as_ref().map(|host| &host.name));
        if let Some(overhead) = over.overhead {
            self.overhead.observe(overhead.as_secs_f64());
        }
    }

    /// What a relay key used, and what that cost; absent: nobody knows.
    pub fn spent(&self, key: &str, team: &str, usage: &Usage, cost: Option<table::NanoUsd>) {
        self.relay_keys.of(Some(key), KeySeries::new).spent(team, usage, cost, &self.by_key);
    }

    /// An attempt is over.
    pub fn attempt(&self, host: &str, outcome: AttemptOutcome) {
        self.host(host).attempt(outcome, &self.attempts);
    }

    fn host(&self, name: &str) -> Arc<HostSeries> {
        self.hosts.of(Some(name), HostSeries::new)
    }

    /// The breaker of a host key changed its state.
    pub fn breaker(&self, host_key: &ObjectRef, state: BreakerState) {
        if !self.host_keys.lock().contains(host_key) {
            // Late news of a key that is no longer in the table.
            return;
        }
        let labels = BreakerLabels { host_key: host_key.to_string() };
        self.breakers.get_or_create(&labels).set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    /// A rule refused a request.
    pub fn refused(&self, rule: &RuleRef) {
        self.refusals.get_or_create(&refusal(rule.scope.kind(), rule.rule)).inc();
    }

    /// A request went on though much of a budget is spent.
    pub fn budget_alert(&self, rule: &RuleRef) {
        self.budget_alerts.get_or_create(&refusal(rule.scope.kind(), rule.rule)).inc();
    }

    /// How far an estimate was off: what was used, divided by what was thought. An estimate of zero is not counted.
    pub fn estimate(&self, kind: EstimateKind, thought: u64, used: u64) {
        if thought > 0 {
            let series = match kind {
                EstimateKind::Input => &self.input_error,
                EstimateKind::Output => &self.output_error,
            };
            series.observe(used as f64 / thought as f64);
        }
    }

    /// So long ago an operator said that the table in effect is the newest; shown from the first call on.
    pub fn config_age(&self, age: Duration) {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.config_age.get_or_init(Gauge::default).set(seconds);
    }

    /// Whether Redis is used; shown from the first call on, so that a process without Redis shows nothing.
    pub fn redis_up(&self, up: bool) {
        self.redis_up.get_or_init(Gauge::default).set(i64::from(up));
    }

    /// A script was called at Redis; `outcome` is a word of a closed set.
    pub fn redis_call(&self, script: &'static str, outcome: &'static str, took: Duration) {
        self.redis_calls.get_or_create(&CallLabels { script, outcome }).inc();
        self.redis_scripts.get_or_create(&ScriptLabels { script }).observe(took.as_secs_f64());
    }

    /// So much more time went by in which Redis, or a part of its cluster, was not used.
    pub fn redis_degraded(&self, time: Duration) {
        self.redis_degraded.inc_by(time.as_secs_f64());
    }

    /// A request was decided without Redis, in this way.
    pub fn degraded_request(&self, mode: RedisOutage) {
        self.degraded_requests.get_or_create(&ModeLabels { mode: labels::mode(mode) }).inc();
    }

    /// A request that was passed on to the shared data planes is over.
    pub fn forwarded(&self, outcome: Passage) {
        self.forwarded.get_or_create(&OutcomeLabels { outcome: outcome.as_str() }).inc();
    }

    /// The files of the serving certificate changed; whether they could be used.
    pub fn tls_reloaded(&self, ok: bool) {
        self.tls_reloads.get_or_create(&OutcomeLabels { outcome: reload(ok) }).inc();
    }

    /// A field was lost in translation.
    pub fn loss(&self, loss: &Loss) {
        self.losses.get_or_create(&LossLabels { field: labels::loss_field(&loss.field), kind: loss.kind }).inc();
    }

    /// A table is in effect. Series of host keys that it does not name end.
    pub fn table_loaded(&self, table: &RoutingTable, at: jiff::Timestamp) {
        self.table_info.clear();
        self.table_info.get_or_create(&TableLabels { digest: table.digest().to_string() }).set(1);
        let objects = [
            ("Host", table.hosts.len()),
            ("Model", table.models.len()),
            ("HostKey", table.host_keys.len()),
            ("RelayKey", table.relay_keys.len()),
            ("Policy", table.policies.len()),
        ];
        for (kind, count) in objects {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.table_objects.get_or_create(&ObjectLabels { kind }).set(count);
        }
        self.table_loaded.set(at.as_millisecond() as f64 / 1_000.0);
        self.follow_host_keys(table);
    }

    /// Host keys that are new are shown as closed; states of those that stay, stay.
    fn follow_host_keys(&self, table: &RoutingTable) {
        let mut shown = self.host_keys.lock();
        for gone in shown.iter().filter(|shown| !table.host_keys.contains_key(*shown)) {
            self.breakers.remove(&BreakerLabels { host_key: gone.to_string() });
        }
        for new in table.host_keys.keys().filter(|key| !shown.contains(*key)) {
            self.breakers.get_or_create(&BreakerLabels { host_key: new.to_string() }).set(0);
        }
        *shown = table.host_keys.keys().cloned().collect();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Which part of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimateKind {
    /// Tokens of the input.
    Input,
    /// Tokens of the output.
    Output,
}

impl EstimateKind {
    fn as_str(self) -> &'static str {
        match self {
            EstimateKind::Input => "input",
            EstimateKind::Output => "output",
        }
    }
}

/// What became of a request that was passed on to the shared data planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// They answered to the end, whatever the answer.
    Answered,
    /// No connection.
    Unreachable,
    /// They broke off before or within their answer.
    Broken,
    /// The caller went away.
    Cancelled,
    /// This process stopped.
    Drained,
}

impl Passage {
    const ALL: [Self; 5] = [Self::Answered, Self::Unreachable, Self::Broken, Self::Cancelled, Self::Drained];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Passage::Answered => "answered",
            Passage::Unreachable => "unreachable",
            Passage::Broken => "broken",
            Passage::Cancelled => "cancelled",
            Passage::Drained => "drained",
        }
    }
}

fn reload(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

fn refusal(scope: &'static str, rule: Rule) -> RefusalLabels {
    RefusalLabels { scope, rule: rule.as_str() }
}

/// A metric whose name and help are shown before it has a series.
#[derive(Debug)]
struct Shown<M>(M);

impl<M: EncodeMetric> EncodeMetric for Shown<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

/// A gauge that has no series until it is set.
#[derive(Debug)]
struct UntilSet(Arc<OnceLock<Gauge>>);

impl EncodeMetric for UntilSet {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Seconds, from a cached answer to a long chain of thought.
fn seconds() -> Histogram {
    Histogram::new([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0])
}

/// Seconds that Relay itself takes.
fn own_seconds() -> Histogram {
    Histogram::new([0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0])
}

/// Seconds of a round trip within a data centre.
fn script_seconds() -> Histogram {
    Histogram::new([0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
}

/// What was used, divided by what was thought.
fn ratios() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0])
}

impl Metrics {
    fn unregistered() -> Self {
        let estimate_error = Family::<ErrorLabels, Histogram, fn() -> Histogram>::new_with_constructor(ratios);
        let error_of = |kind: EstimateKind| estimate_error.get_or_create_owned(&ErrorLabels { kind: kind.as_str() });
        Self {
            registry: Registry::with_prefix("relay"),
            models: Named::default(),
            by_model: ModelFamilies {
                requests: Family::default(),
                tokens: Family::default(),
                cost: Family::default(),
                unpriced: Family::default(),
                durations: Family::new_with_constructor(seconds),
                first_content: Family::new_with_constructor(seconds),
            },
            hosts: Named::default(),
            relay_keys: Named::default(),
            by_key: KeyFamilies::default(),
            overhead: own_seconds(),
            attempts: Family::default(),
            breakers: Family::default(),
            host_keys: Mutex::default(),
            refusals: Family::default(),
            budget_alerts: Family::default(),
            input_error: error_of(EstimateKind::Input),
            output_error: error_of(EstimateKind::Output),
            estimate_error,
            losses: Family::default(),
            table_info: Family::default(),
            table_objects: Family::default(),
            table_loaded: Gauge::default(),
            config_age: Arc::default(),
            redis_up: Arc::default(),
            redis_calls: Family::default(),
            redis_scripts: Family::new_with_constructor(script_seconds),
            redis_degraded: Counter::default(),
            degraded_requests: Family::default(),
            forwarded: Family::default(),
            tls_reloads: Family::default(),
            redis_settlements: Counter::default(),
            redis_batches: Counter::default(),
            requests_in_flight: Gauge::default(),
            reservations_live: Gauge::default(),
            connections_open: Gauge::default(),
            streams_open: Gauge::default(),
            usage_records_written: Counter::default(),
            usage_records_dropped: Counter::default(),
            usage_sink_errors: Counter::default(),
            usage_logs_sent: Counter::default(),
            usage_logs_dropped: Counter::default(),
            usage_logs_errors: Counter::default(),
            spans_sent: Counter::default(),
            spans_dropped: Counter::default(),
        }
    }

    fn show(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, Shown(metric));
    }

    fn show_seconds(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register_with_unit(name, help, Unit::Seconds, Shown(metric));
    }

    fn register_requests(&mut self) {
        self.show("requests", "Requests that are over, by what the caller saw", self.by_model.requests.clone());
        self.show(
            "tokens",
            "Tokens of answers; reasoning and audio are parts of the others",
            self.by_model.tokens.clone(),
        );
        self.show("cost_nano_usd", "What answers cost, in billionths of a US dollar", self.by_model.cost.clone());
        let help = "Tokens of answers by relay key; cached input, reasoning and audio are within them";
        self.show("key_tokens", help, self.by_key.tokens.clone());
        let help = "What answers cost by relay key, in billionths of a US dollar";
        self.show("key_cost_nano_usd", help, self.by_key.cost.clone());
        self.show("unpriced_requests", "Answers whose cost nobody knows", self.by_model.unpriced.clone());
        self.show_seconds(
            "request_duration",
            "From the request to the end of its answer",
            self.by_model.durations.clone(),
        );
        self.show_seconds(
            "first_content",
            "From the request to its first content",
            self.by_model.first_content.clone(),
        );
        self.show_seconds("overhead", "The part of a request that was spent within Relay", self.overhead.clone());
        self.show("requests_in_flight", "Requests that are not over", self.requests_in_flight.clone());
        self.show("streams_open", "Streamed answers that are under way", self.streams_open.clone());
        self.show("connections_open", "Client connections", self.connections_open.clone());
        self.show("attempts", "Attempts at upstreams, by outcome", self.attempts.clone());
        self.show("breaker_state", "Breaker of a host key: 0 closed, 1 half open, 2 open", self.breakers.clone());
        self.show("losses", "Fields lost or changed in translation", self.losses.clone());
    }

    fn register_limits(&mut self) {
        self.show("limit_refusals", "Requests that a limit or budget refused", self.refusals.clone());
        self.show("budget_alerts", "Requests under a budget of which much is spent", self.budget_alerts.clone());
        self.show("limit_reservations_live", "Reservations that are not settled", self.reservations_live.clone());
        let help = "Tokens used, divided by tokens estimated";
        self.show("limit_estimate_error_ratio", help, self.estimate_error.clone());
    }

    fn register_redis(&mut self) {
        let help = "1 when Redis is used, 0 when it or a part of its cluster is not; absent without Redis";
        self.show("redis_up", help, UntilSet(self.redis_up.clone()));
        self.show("redis_calls", "Calls of scripts at Redis, by outcome", self.redis_calls.clone());
        self.show_seconds("redis_script_duration", "Calls of scripts at Redis", self.redis_scripts.clone());
        let help = "Time in which Redis, or a part of its cluster, was not used";
        self.show_seconds("redis_degraded", help, self.redis_degraded.clone());
        let help = "Requests decided without Redis, by the mode of their limits";
        self.show("limit_degraded_requests", help, self.degraded_requests.clone());
        let help = "Reservations whose end Redis was told";
        self.show("redis_settlements", help, self.redis_settlements.clone());
        self.show("redis_batches", "Calls by which Redis was told", self.redis_batches.clone());
    }

    fn register_rest(&mut self) {
        let help = "Requests that a sidecar passed on to the shared data planes, by outcome";
        self.show("sidecar_forwarded_requests", help, self.forwarded.clone());
        self.show("tls_reloads", "Changes of the serving certificate, by outcome", self.tls_reloads.clone());
        self.show("usage_records_written", "Usage records that were written", self.usage_records_written.clone());
        self.show("usage_records_dropped", "Usage records that were lost", self.usage_records_dropped.clone());
        self.show("usage_sink_errors", "Failures to open or write the usage sink", self.usage_sink_errors.clone());
        self.show("usage_logs_sent", "Usage records that the collector took", self.usage_logs_sent.clone());
        self.show("usage_logs_dropped", "Usage records that the collector never got", self.usage_logs_dropped.clone());
        self.show(
            "usage_logs_errors",
            "Failures to send usage records to the collector",
            self.usage_logs_errors.clone(),
        );
        self.show("spans_sent", "Spans that the collector took", self.spans_sent.clone());
        self.show("spans_dropped", "Spans that were lost", self.spans_dropped.clone());
        self.show("table_info", "The digest of the table in effect", self.table_info.clone());
        self.show("table_objects", "Objects in the table in effect", self.table_objects.clone());
        let help = "When the table in effect was loaded, in seconds since the epoch";
        self.show("table_loaded_timestamp_seconds", help, self.table_loaded.clone());
        let help =
            "Seconds since an operator last said that the table in effect is the newest; absent without operator";
        self.show("config_age_seconds", help, UntilSet(self.config_age.clone()));
    }

    /// Series whose labels are known beforehand start at zero, so that their first increase is seen as one.
    fn show_closed_sets(&self) {
        for rule in Rule::ALL {
            for scope in ["relay_key", "policy", "model", "host_key", "host"] {
                self.refusals.get_or_create_owned(&refusal(scope, rule));
            }
        }
        for mode in [RedisOutage::LocalShare, RedisOutage::Closed, RedisOutage::Open] {
            self.degraded_requests.get_or_create_owned(&ModeLabels { mode: labels::mode(mode) });
        }
        for outcome in Passage::ALL {
            self.forwarded.get_or_create_owned(&OutcomeLabels { outcome: outcome.as_str() });
        }
        for ok in [true, false] {
            self.tls_reloads.get_or_create_owned(&OutcomeLabels { outcome: reload(ok) });
        }
        for kind in ["Host", "Model", "HostKey", "RelayKey", "Policy"] {
            self.table_objects.get_or_create(&ObjectLabels { kind }).set(0);
        }
    }
}

#[cfg(test)]
mod tests;
