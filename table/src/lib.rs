//! The compiled routing table: everything a data plane must know to answer requests, and nothing secret.
//!
//! Rows are keyed by namespace and name and refer to each other by that key, so changing a Policy touches one row.
//! Whoever reads the table has the clock: expiry times are data here, never a decision.

pub mod address;

mod credentials;
mod digest;
mod glob;
mod host;
mod host_key;
mod limits;
mod lists;
mod model;
mod money;
mod policy;
mod relay_key;
mod rows;
pub mod scope;
mod secret;
mod settings;
pub mod token;

pub use credentials::{ClientCertificate, Credential, Credentials, Sealed};
pub use digest::Digest;
pub use glob::Glob;
pub use host::{
    Auth, AuthBreaker, Breaker, HeaderRules, HealthCheck, Host, Http, HttpVersion, KeySelection, RateLimitBreaker,
    ServerErrorBreaker, Timeouts, Tls, TlsVerification, TlsVersion, UnreachableBreaker,
};
pub use host_key::HostKey;
pub use limits::{
    Budget, BudgetAction, LimitMode, LimitScope, Limits, ModelLimits, Period, ProviderLimits, RedisOutage,
};
pub use lists::{Lists, Local, Scoped, Subject};
pub use model::{Binding, Capability, Model, Pricing, Rates, Route, Target, Tier, VirtualStrategy, Visibility};
pub use money::{MoneyError, NanoUsd, PicoUsdPerToken};
pub use policy::{
    Fallback, Globs, PartialTimeouts, Policy, Retries, RetryOn, Routing, Stickiness, Strategy, Translation,
};
pub use protocol::{
    Dialect, ErrorEnvelope, MaxTokensField, ReasoningField, ReasoningStyle, StreamUsage, SystemRole, ToolCallIds,
    Traits, WireShape,
};
pub use relay_key::{PreviousToken, RelayKey};
pub use rows::{NamespaceGrant, ObjectRef, Row, Rows};
pub use secret::Secret;
pub use settings::{PodSettings, Settings};

use serde::{Deserialize, Serialize};

/// What a data plane routes by: one immutable value, swapped whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingTable {
    /// What concerns the whole fleet.
    pub settings: Settings,
    /// Upstream API surfaces.
    pub hosts: Rows<Host>,
    /// Public model ids.
    pub models: Rows<Model>,
    /// Provider credentials, without the credential.
    pub host_keys: Rows<HostKey>,
    /// Bearer tokens of applications, by hash.
    pub relay_keys: Rows<RelayKey>,
    /// What relay keys may reach, and how hard.
    pub policies: Rows<Policy>,
}

impl RoutingTable {
    /// The hash of the whole table: equal tables have equal digests on every machine.
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}
