//! What relay keys may reach, and how requests of theirs are routed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Budget, LimitMode, LimitScope, Limits, ModelLimits, NamespaceGrant, ObjectRef, RedisOutage, host::millis};

/// What a relay key may reach and how hard it may push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Public model ids; deny wins, an empty allow list grants nothing.
    pub models: Globs,
    /// Models by object, also of other namespaces; each is granted unless denied by `models`.
    pub model_refs: Vec<ObjectRef>,
    /// Host names; deny wins, an empty allow list grants every host (the models decide).
    pub hosts: Globs,
    /// Limits on requests that use this policy.
    pub limits: Limits,
    /// Who shares their counters.
    pub limit_scope: LimitScope,
    /// How exactly their counters, and those of the budgets, are shared.
    #[serde(default)]
    pub limit_mode: LimitMode,
    /// What limits and budgets do while shared counters cannot be reached.
    #[serde(default)]
    pub redis_outage: RedisOutage,
    /// Limits by model.
    pub per_model: Vec<ModelLimits>,
    /// What may be spent; one a period.
    pub budgets: Vec<Budget>,
    /// How candidates are ordered and how many are tried.
    pub routing: Routing,
    /// What is tried again.
    pub retries: Retries,
    /// Times that replace the host's where they are shorter.
    pub timeouts: PartialTimeouts,
    /// What happens to request fields that a target cannot carry.
    pub translation: Translation,
    /// The namespaces whose relay keys may name this policy.
    pub allowed: NamespaceGrant,
}

/// An allow and a deny list of globs; `*` matches everything, deny wins. What an empty allow list means is said where
/// it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Globs {
    /// What is let in.
    pub allow: Vec<String>,
    /// What is kept out.
    pub deny: Vec<String>,
}

/// How candidates are ordered and how many are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// How bindings of equal priority are ordered.
    pub strategy: Strategy,
    /// Attempts at most, 1 to 8; default 3.
    pub max_attempts: u32,
    /// Models that follow when those asked for fail.
    pub fallbacks: Vec<Fallback>,
    /// Whether a conversation keeps its host and key.
    pub stickiness: Stickiness,
}

impl Default for Routing {
    fn default() -> Self {
        Self { strategy: Strategy::Priority, max_attempts: 3, fallbacks: Vec::new(), stickiness: Stickiness::None }
    }
}

/// How bindings of equal priority are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// As they are listed.
    #[default]
    Priority,
    /// At random by weight.
    Weighted,
    /// Lowest recent time to the first content.
    LeastLatency,
    /// Lowest price for this request's estimated tokens; an unknown price comes last.
    Cheapest,
    /// Fewest requests in flight.
    LeastBusy,
}

/// Models that follow when a model fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// A glob over the public model id that was asked for.
    #[serde(rename = "match")]
    pub matches: String,
    /// In this order.
    pub to: Vec<ObjectRef>,
}

/// Whether a conversation keeps its host and key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stickiness {
    /// No.
    #[default]
    None,
    /// While they are healthy.
    Conversation,
}

/// What is tried again, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Failures that may be tried again.
    pub on: Vec<RetryOn>,
    /// The most one attempt may take until its first content; absent: the host's first-byte timeout.
    #[serde(with = "optional_millis")]
    pub per_try_timeout: Option<Duration>,
    /// The wait before the first repeat on the same key, doubled at each; default 25 ms.
    #[serde(with = "millis")]
    pub backoff_base: Duration,
    /// Default 1 s.
    #[serde(with = "millis")]
    pub backoff_max: Duration,
    /// Repeats on the same key, in percent of requests; default 20. Moving on to another key is not bounded by it.
    pub budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            on: vec![RetryOn::RateLimited, RetryOn::ServerError, RetryOn::Connect, RetryOn::Timeout],
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_secs(1),
            budget_percent: 20,
        }
    }
}

/// A failure that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RetryOn {
    /// 429.
    RateLimited,
    /// 5xx, and what counts as such.
    ServerError,
    /// Name resolution, TCP, TLS, reset.
    Connect,
    /// No content in time.
    Timeout,
}

/// Times of a policy; absent: the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialTimeouts {
    /// See [`crate::Timeouts::first_byte`].
    #[serde(with = "optional_millis")]
    pub first_byte: Option<Duration>,
    /// See [`crate::Timeouts::stream_idle`].
    #[serde(with = "optional_millis")]
    pub stream_idle: Option<Duration>,
    /// See [`crate::Timeouts::request`].
    #[serde(with = "optional_millis")]
    pub request: Option<Duration>,
}

/// What happens to request fields that a target cannot carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Translation {
    /// Approximated or dropped, and named in a warning.
    #[default]
    Lenient,
    /// Refused.
    Strict,
}

/// Durations that may be absent, as whole milliseconds.
pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row as tables of before the fields `limitMode` and `redisOutage` have it.
    const OLDER: &str = r#"{
        "models": {"allow": ["*"], "deny": []}, "modelRefs": [], "hosts": {"allow": [], "deny": []},
        "limits": {"rpm": 60}, "limitScope": "PerKey", "perModel": [], "budgets": [],
        "routing": {"strategy": "Priority", "maxAttempts": 3, "fallbacks": [], "stickiness": "None"},
        "retries": {"on": [], "perTryTimeout": null, "backoffBase": 25, "backoffMax": 1000, "budgetPercent": 20},
        "timeouts": {"firstByte": null, "streamIdle": null, "request": null},
        "translation": "Lenient", "allowed": "same"
    }"#;

    #[test]
    fn a_row_of_an_older_table_is_exact_and_holds_to_its_share_in_an_outage() {
        let policy: Policy = serde_json::from_str(OLDER).unwrap();
        assert_eq!((policy.limit_mode, policy.redis_outage), (LimitMode::Exact, RedisOutage::LocalShare));
    }

    #[test]
    fn how_limits_are_counted_and_what_an_outage_does_survive_the_way_and_change_the_digest() {
        let plain: Policy = serde_json::from_str(OLDER).unwrap();
        let leased = Policy { limit_mode: LimitMode::Leased, redis_outage: RedisOutage::Closed, ..plain.clone() };
        let arrived: Policy = serde_json::from_slice(&serde_json::to_vec(&leased).unwrap()).unwrap();
        assert_eq!(arrived, leased);
        assert_ne!(crate::Digest::of(&leased), crate::Digest::of(&plain));
        assert_eq!(crate::Digest::of(&leased), crate::Digest::of(&arrived));
    }
}
