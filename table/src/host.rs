//! An upstream API surface, with every default filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Dialect, NamespaceGrant, ProviderLimits, WireShape};

/// An upstream API surface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// The wire shape that it speaks.
    pub shape: WireShape,
    /// Where its endpoints hang, version segment included and without a slash at the end: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Where the credential goes.
    pub auth: Auth,
    /// Whether addresses that are not public may be connected to (loopback, private, link-local).
    pub allow_private_addresses: bool,
    /// What happens to headers on the way up.
    pub headers: HeaderRules,
    /// How its certificate is checked.
    pub tls: Tls,
    /// What its surface takes and gives beside the shape's own definition; acts on cross-shape only.
    pub dialect: Dialect,
    /// Globs of model ids which reach it though no Model names them; empty: none.
    pub model_patterns: Vec<String>,
    /// How long each phase of a request may take.
    pub timeouts: Timeouts,
    /// Connection pool.
    pub http: Http,
    /// When its keys are taken out, and for how long.
    pub breaker: Breaker,
    /// How a key is drawn from its pool.
    pub key_selection: KeySelection,
    /// How an open key is probed.
    pub health_check: HealthCheck,
    /// Ceilings over the whole host, whatever the key.
    pub limits: ProviderLimits,
    /// Suspended: kept, but no candidate.
    pub suspended: bool,
    /// The namespaces whose relay keys may pin it or reach it by a pattern; bindings are checked by the compiler.
    #[serde(default)]
    pub allowed: NamespaceGrant,
}

/// Where a credential goes on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of this lower-case name.
    Header(String),
    /// A query parameter of this name.
    Query(String),
    /// None is sent: the host needs no HostKey.
    None,
}

/// What happens to headers on the way up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRules {
    /// Set to these values, in order.
    pub set: Vec<(String, String)>,
    /// Removed, lower case.
    pub remove: Vec<String>,
    /// Taken over from the caller's request, lower case.
    pub forward: Vec<String>,
}

/// How the certificate of a host is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Against which roots.
    pub verification: TlsVerification,
    /// The name in the certificate, where it is not the URL's.
    pub server_name: Option<String>,
    /// The lowest version spoken.
    pub min_version: TlsVersion,
}

/// Which roots a certificate is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsVerification {
    /// Those of the system.
    #[default]
    System,
    /// This bundle, PEM.
    Custom(String),
    /// Not checked at all.
    None,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// How long each phase of an upstream request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Name resolution, TCP and TLS; default 3 s.
    #[serde(with = "millis")]
    pub connect: Duration,
    /// From the request's last byte to the answer's first content; default 60 s.
    #[serde(with = "millis")]
    pub first_byte: Duration,
    /// Between two pieces of an answer; default 60 s.
    #[serde(with = "millis")]
    pub stream_idle: Duration,
    /// The whole request, all attempts; default 10 min.
    #[serde(with = "millis")]
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(60),
            stream_idle: Duration::from_secs(60),
            request: Duration::from_secs(600),
        }
    }
}

/// The connection pool of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// The version spoken.
    pub version: HttpVersion,
    /// Most connections open at once; absent: no limit.
    pub max_connections: Option<u32>,
    /// Most streams at once on one HTTP/2 connection; absent: what the host allows.
    pub max_streams_per_connection: Option<u32>,
    /// When an idle connection is closed; default 90 s.
    #[serde(with = "millis")]
    pub idle_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            version: HttpVersion::Auto,
            max_connections: None,
            max_streams_per_connection: None,
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// An HTTP version to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/2 where offered in the TLS handshake, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2, also without TLS.
    H2,
}

/// When the keys of a host are taken out, by class of failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// The provider refuses the key.
    pub auth: AuthBreaker,
    /// The provider limits the key.
    pub rate_limit: RateLimitBreaker,
    /// The provider fails.
    pub server_error: ServerErrorBreaker,
    /// The provider cannot be reached.
    pub unreachable: UnreachableBreaker,
    /// Probes in flight for one half-open key; default 1.
    pub half_open_probes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            auth: AuthBreaker { threshold: 1, cooldown: Duration::from_secs(300) },
            rate_limit: RateLimitBreaker {
                honor_retry_after: true,
                default: Duration::from_secs(10),
                max: Duration::from_secs(300),
            },
            server_error: ServerErrorBreaker {
                consecutive: 3,
                ratio_percent: 50,
                min_requests: 20,
                window: Duration::from_secs(10),
                cooldown: Duration::from_secs(5),
                max: Duration::from_secs(120),
            },
            unreachable: UnreachableBreaker { consecutive: 3, cooldown: Duration::from_secs(2) },
            half_open_probes: 1,
        }
    }
}

/// When a key that the provider refuses is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthBreaker {
    /// Refusals in a row; default 1.
    pub threshold: u32,
    /// For how long at first; default 5 min.
    #[serde(with = "millis")]
    pub cooldown: Duration,
}

/// For how long a key that the provider limits is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitBreaker {
    /// Whether `Retry-After` and the reset headers decide where they are sent; default true.
    pub honor_retry_after: bool,
    /// Where the provider says nothing; default 10 s.
    #[serde(with = "millis")]
    pub default: Duration,
    /// The longest that a provider's word is believed, daily and weekly quotas excepted; default 5 min.
    #[serde(with = "millis")]
    pub max: Duration,
}

/// When a key that meets server errors is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerErrorBreaker {
    /// Failures in a row; default 3.
    pub consecutive: u32,
    /// Share of failures within the window; default 50.
    pub ratio_percent: u32,
    /// Requests in the window before the share counts; default 20.
    pub min_requests: u32,
    /// Default 10 s.
    #[serde(with = "millis")]
    pub window: Duration,
    /// For how long at first; doubles up to `max`; default 5 s.
    #[serde(with = "millis")]
    pub cooldown: Duration,
    /// Default 2 min.
    #[serde(with = "millis")]
    pub max: Duration,
}

/// When a key or host that cannot be reached is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachableBreaker {
    /// Failures in a row; default 3.
    pub consecutive: u32,
    /// Default 2 s.
    #[serde(with = "millis")]
    pub cooldown: Duration,
}

/// How a key is drawn from a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySelection {
    /// The key with most of its quota left.
    #[default]
    LeastUtilized,
    /// One after the other.
    RoundRobin,
    /// At random by weight.
    Weighted,
    /// A conversation keeps its key while it is healthy, because prompt caches are per account.
    CacheAffinity,
}

/// How an open key is probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Whether healthy keys are probed too (`Active`), or open ones alone.
    pub active: bool,
    /// What is asked below the base URL; absent: the list of models.
    pub path: Option<String>,
    /// How often healthy keys are probed where `active`.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// The upstream model of a one-token request that replaces the list of models.
    pub model: Option<String>,
}

/// Durations as whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
