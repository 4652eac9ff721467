//! What of the push port can be scraped. Data planes are counted when somebody asks, so that no number is older than that.

use std::{fmt, sync::atomic::AtomicU64, time::Instant};

use feed::{counts::Refusal, fleet::Census, server::Server, wire::RebalanceReason};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use super::{fleets::Fleets, sidecars::Sidecars};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// What this replica knows of certificates, and of where whom to trust is said.
#[derive(Clone, Debug, Default)]
pub(super) struct TrustMetrics {
    certificate: Gauge<f64, AtomicU64>,
    authority: Gauge<f64, AtomicU64>,
    bundles: Family<StateLabels, Gauge>,
}

impl TrustMetrics {
    pub(super) fn certificate_expires(&self, at: Timestamp) {
        self.certificate.set(at.as_duration().as_secs_f64());
    }

    pub(super) fn authority_expires(&self, at: Timestamp) {
        self.authority.set(at.as_duration().as_secs_f64());
    }

    /// In how many namespaces it is said, and in how many it cannot be.
    pub(super) fn bundles(&self, said: usize, failing: usize) {
        for (state, many) in [("said", said), ("failing", failing)] {
            self.bundles.get_or_create(&StateLabels { state }).set(i64::try_from(many).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.bundles(0, 0);
        registry.register(
            "push_certificate_expiry_timestamp_seconds",
            "When the certificate of the push port ends, in seconds since the epoch",
            self.certificate.clone(),
        );
        registry.register(
            "push_authority_expiry_timestamp_seconds",
            "When the authority that signs it ends, in seconds since the epoch",
            self.authority.clone(),
        );
        registry.register(
            "push_bundles",
            "Namespaces by whether data planes are told there whom to trust; only of the replica that leads",
            self.bundles.clone(),
        );
    }
}

/// How a review of a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reviewed {
    /// It is a data plane's.
    Good,
    /// It is unknown, expired, for something else, or no pod's.
    Refused,
    /// The API server did not say.
    Failed,
}

impl Reviewed {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What the API server was asked about tokens. What is remembered is not asked again.
#[derive(Clone, Debug)]
pub(super) struct ReviewMetrics {
    reviews: Family<ResultLabels, Counter>,
    seconds: Histogram,
}

impl Default for ReviewMetrics {
    fn default() -> Self {
        let seconds = Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]);
        Self { reviews: Family::default(), seconds }
    }
}

impl ReviewMetrics {
    pub(super) fn count(&self, result: Reviewed, begun: Instant) {
        self.reviews.get_or_create(&ResultLabels { result: result.as_str() }).inc();
        self.seconds.observe(begun.elapsed().as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for result in [Reviewed::Good, Reviewed::Refused, Reviewed::Failed] {
            self.reviews.get_or_create(&ResultLabels { result: result.as_str() }).inc_by(0);
        }
        registry.register(
            "token_reviews",
            "Tokens of data planes that the API server was asked about",
            self.reviews.clone(),
        );
        registry.register(
            "token_review_seconds",
            "How long the API server took to say whose a token is",
            self.seconds.clone(),
        );
    }
}

/// Counts at each scrape what hangs on the push port and what it sent.
pub(super) struct Streams {
    pub(super) server: Server,
    pub(super) fleets: Fleets,
    pub(super) sidecars: Option<Sidecars>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

/// Samples of one metric: their labels and their values.
type Samples<V> = Vec<(Vec<(&'static str, String)>, V)>;

/// One number of a census.
type Part = fn(&Census) -> usize;

impl Collector for Streams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let censuses: Vec<(String, Census)> = self.fleets.censuses();
        let by_fleet = |of: Part| -> Samples<u64> {
            let samples = censuses.iter().map(|(fleet, census)| (vec![("fleet", fleet.clone())], of(census) as u64));
            samples.collect()
        };
        gauges(&mut encoder, "push_streams", "Streams of data planes by fleet.", by_fleet(|of| of.streams))?;
        let states: [(&str, Part); 3] =
            [("current", |of| of.current), ("lagging", |of| of.lagging), ("nacked", |of| of.nacked)];
        let mut pods = Vec::new();
        for (state, of) in states {
            pods.extend(by_fleet(of).into_iter().map(|(mut labels, many)| {
                labels.push(("state", state.to_owned()));
                (labels, many)
            }));
        }
        let help = "Data planes by fleet and by whether they hold what was published last; nacked ones refuse a part of it and \
                    are in one of the others too.";
        gauges(&mut encoder, "push_data_planes", help, pods)?;
        let sidecars = self.sidecars.as_ref().map_or(0, Sidecars::count);
        let help = "Sidecars that hang on this replica; they are of no fleet.";
        gauges(&mut encoder, "push_sidecars", help, vec![(Vec::new(), sidecars as u64)])?;
        self.encode_counts(&mut encoder)
    }
}

impl Streams {
    fn encode_counts(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.server.counts();
        let kinds = [("snapshot", counts.snapshots()), ("delta", counts.deltas())];
        let of = |kind: &str| vec![("kind", kind.to_owned())];
        let times = kinds.iter().map(|(kind, sent)| (of(kind), sent.times())).collect();
        counters(encoder, "push_updates", "Snapshots and deltas that were sent.", times)?;
        let bytes = kinds.iter().map(|(kind, sent)| (of(kind), sent.bytes())).collect();
        counters(encoder, "push_update_bytes", "Bytes of snapshots and deltas that were sent.", bytes)?;
        let reason = |word: &str| vec![("reason", word.to_owned())];
        let refused = Refusal::ALL.map(|why| (reason(why.as_str()), counts.refused(why)));
        counters(encoder, "push_refused", "Connections and streams that were not served, by reason.", refused.into())?;
        let reasons = [
            ("spread", RebalanceReason::Spread),
            ("shutdown", RebalanceReason::Shutdown),
            ("token", RebalanceReason::Token),
        ];
        let asked = reasons.map(|(word, why)| (reason(word), counts.rebalances(why)));
        counters(encoder, "push_rebalances", "Data planes that were asked to come anew, by reason.", asked.into())
    }
}

fn gauges(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, all: Samples<u64>) -> Result<(), fmt::Error> {
    let all: Vec<_> = all.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))).collect();
    encode(encoder, name, help, &all)
}

fn counters(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, all: Samples<u64>) -> Result<(), fmt::Error> {
    let all: Vec<_> = all.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))).collect();
    encode(encoder, name, help, &all)
}

fn encode<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(Vec<(&'static str, String)>, M)],
) -> Result<(), fmt::Error> {
    let Some((_, first)) = all.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, metric) in all {
        metric.encode(family.encode_family(labels)?)?;
    }
    Ok(())
}
