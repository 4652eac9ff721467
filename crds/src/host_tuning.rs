//! The parts of a `Host` about time and trouble: timeouts, connections, breakers, healing.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::text::Duration;

choices! {
    /// How a HostKey is chosen among those that are usable.
    KeySelection {
        /// By remaining quota.
        LeastUtilized = "LeastUtilized",
        /// One after the other.
        RoundRobin = "RoundRobin",
        /// By `HostKey.spec.weight`.
        Weighted = "Weighted",
        /// A conversation keeps its key.
        CacheAffinity = "CacheAffinity",
    }
}

/// How long Relay waits for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// To resolve, connect and finish the TLS handshake, such as `3s`. Absent: 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// From the end of the request to the first byte of the answer's body. Absent: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// Between two pieces of a streamed answer. Absent: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// For one attempt from its start to the end of its answer. Absent: 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
}

choices! {
    /// Which version of HTTP is spoken to a host.
    HttpVersion {
        /// HTTP/2 where the host offers it.
        Auto = "Auto",
        /// HTTP/1.1.
        H1 = "H1",
        /// HTTP/2, without TLS too.
        H2 = "H2",
    }
}

/// Connections to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTuning {
    /// `Auto`: HTTP/2 where the host offers it in the TLS handshake, else HTTP/1.1. `H1`: HTTP/1.1. `H2`: HTTP/2, without
    /// TLS too. Absent: `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<HttpVersion>,
    /// Most connections that one data plane opens to this host. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_connections: Option<u32>,
    /// Most requests at a time on one HTTP/2 connection; the host may allow less. Absent: as the host allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_streams_per_connection: Option<u32>,
    /// How long an unused connection is kept. Absent: 90s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}

/// When a failing key or host is left alone, and for how long. Each class of failure is counted for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// The provider refuses the key: 401, 402, 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthBreaker>,
    /// The provider says that a quota is used up: 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitBreaker>,
    /// The provider fails: 5xx, overload, an answer that makes no sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_error: Option<ServerErrorBreaker>,
    /// The host cannot be reached: DNS, connect, TLS, resets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<UnreachableBreaker>,
    /// Probes in flight at a time while it is unknown whether a key works again. Absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub half_open_probes: Option<u32>,
}

/// What a refused key leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthBreaker {
    /// Refusals in a row after which the key is left alone. Absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub threshold: Option<u32>,
    /// For how long it is left alone before it is probed. Absent: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

/// What a used-up quota leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.default) || !has(self.max) || duration(self.default) <= duration(self.max)")
    .message("default must not be longer than max"))]
pub struct RateLimitBreaker {
    /// Whether the time that the provider names (`Retry-After` and reset headers) decides. Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honor_retry_after: Option<bool>,
    /// For how long the key is left alone when the provider names no time. Absent: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Duration>,
    /// The longest time for which a key is left alone, whatever the provider says. Absent: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// What failures of the provider lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.cooldown) || !has(self.max) || duration(self.cooldown) <= duration(self.max)")
    .message("cooldown must not be longer than max"))]
pub struct ServerErrorBreaker {
    /// Failures in a row after which the key is left alone. Absent: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive: Option<u32>,
    /// Share of failures within `window`, in percent, after which the key is left alone. Absent: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub ratio_percent: Option<u32>,
    /// Requests within `window` below which `ratioPercent` says nothing. Absent: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_requests: Option<u32>,
    /// The time over which `ratioPercent` is taken. Absent: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// For how long the key is left alone the first time; each further time doubles it. Absent: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// The longest time for which it is left alone. Absent: 2m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// What a host that cannot be reached leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnreachableBreaker {
    /// Failures in a row after which the host is left alone. Absent: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive: Option<u32>,
    /// For how long it is left alone before it is probed. Absent: 2s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

choices! {
    /// How a key or host that was left alone is found to work again.
    HealthCheckMode {
        /// By a probe once its cooldown is over.
        Passive = "Passive",
        /// By probes at an interval, failing or not.
        Active = "Active",
    }
}

/// How a key or host that was left alone is found to work again. Callers' requests are not used for it while other keys
/// are healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.interval) || duration(self.interval) >= duration('5s')")
    .message("interval must be 5s at least").field_path(".interval"))]
pub struct HealthCheck {
    /// `Passive`: a probe once the cooldown is over. `Active`: probes at `interval` even while nothing fails.
    pub mode: HealthCheckMode,
    /// Path that is fetched with the key as a probe. Absent: the list of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::PROBE_PATH))]
    pub path: Option<String>,
    /// Time between two probes of `Active`, 5s at least. Absent: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Upstream model that is asked for one token as a probe, for hosts that list models without a valid key. It costs
    /// money. Absent: no model is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub model: Option<String>,
}
