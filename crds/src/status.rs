//! What Relay reports on objects. Small on purpose: only what the compiler knows without a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;

/// The state of a Host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// HostKeys of this Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyCounts>,
    /// Whether data planes draw the keys of this Host. Absent: they always did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<HostBreaker>,
    /// Number of Models that are bound to this Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub models: Option<u32>,
}

/// How many keys a Host has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyCounts {
    /// All HostKeys that refer to this Host and may.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub total: u32,
    /// Those that are accepted, not suspended and have their secret.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ready: u32,
    /// Those that some data plane does not draw, because they failed there. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub open: Option<u32>,
}

choices! {
    /// Whether keys are drawn.
    BreakerState {
        /// They are.
        Closed = "Closed",
        /// Some are, or some data planes draw them.
        Partial = "Partial",
        /// No data plane draws any.
        Open = "Open",
    }
}

/// Whether data planes draw a key. Said when the state changes, and at most every 30 seconds after the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyBreaker {
    /// `Closed`: all do. `Partial`: some do not. `Open`: none does.
    pub state: BreakerState,
    /// The class of failure that most of them met: `auth`, `rateLimit`, `serverError` or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub class: Option<String>,
    /// Number of data planes that do not draw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub open_pods: Option<u32>,
    /// Number of data planes that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: Option<u32>,
    /// When the last of them was to try it again, at the time when this was said, in RFC 3339's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub until: Option<String>,
}

/// Whether data planes draw the keys of a Host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostBreaker {
    /// `Closed`: all draw all. `Partial`: some keys are out at some data planes. `Open`: all keys are out at all.
    pub state: BreakerState,
    /// What keys failed of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub reasons: Option<Vec<OpenReason>>,
}

/// How many keys of a Host are out because of one class of failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenReason {
    /// The class of failure: `auth`, `rateLimit`, `serverError` or `unreachable`.
    #[schemars(length(max = 64))]
    pub class: String,
    /// Number of keys that are out because of it, at some or all data planes.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub open_keys: u32,
    /// When the last of them was to be tried again, at the time when this was said, in RFC 3339's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub until: Option<String>,
}

/// The state of a Model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// The id under which callers reach this Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub model_name: Option<String>,
    /// Each binding of `spec.hosts`, and whether it can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub bindings: Option<Vec<BindingStatus>>,
    /// Number of bindings that can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub hosts: Option<u32>,
}

/// Whether one binding of a Model can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// Name of the binding.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether its Host is resolved and enabled and has a usable key.
    pub ready: bool,
    /// Why it is not ready, as a condition reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
}

/// The state of a HostKey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostKeyStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed, Healthy and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// Whether data planes draw this key. Absent: they always did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<KeyBreaker>,
}

/// The state of a RelayKey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayKeyStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// The part of the current token that may be shown: it names the token and opens nothing. Only of tokens that Relay
    /// made.
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// Name of the Secret that Relay made, in the namespace of the RelayKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// The tokens that are good, the newest first. Only of tokens that Relay made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub tokens: Option<Vec<TokenStatus>>,
    /// Number of Models that this key may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub effective_models: Option<u32>,
}

choices! {
    /// What a token is good for.
    TokenState {
        /// It is the one to use.
        Active = "Active",
        /// It was replaced, and is good until it ends.
        Retiring = "Retiring",
    }
}

/// One token of a RelayKey, by the part of it that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The part of the token that names it and opens nothing.
    #[schemars(length(max = 64))]
    pub id: String,
    /// `Active` is the one to use; `Retiring` was replaced, and is good until it ends.
    pub state: TokenState,
    /// When it was made, in RFC 3339's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub created_at: Option<String>,
    /// When it ends, where that is known, in RFC 3339's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub expires_at: Option<String>,
}

/// The state of a Policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// Number of RelayKeys that use this Policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub keys: Option<u32>,
    /// Number of Models that this Policy allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub models: Option<u32>,
    /// Patterns of this Policy that match nothing, usually because of a typing mistake. At most 16 are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 320)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub unmatched_globs: Option<Vec<String>>,
}

/// The state of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Programmed and Ready, and what is wrong when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    pub conditions: Option<Vec<Condition>>,
    /// The pods of the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<FleetPods>,
    /// The digest of what was published to the fleet last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub table: Option<String>,
    /// Objects that pods refuse. At most 10 are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub nacks: Option<Vec<FleetNack>>,
    /// Versions of the program that the pods run. At most 10 are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub versions: Option<Vec<FleetVersion>>,
}

/// How many pods a fleet has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetPods {
    /// Those that are connected.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub connected: u32,
    /// Those that serve by what was published last.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub current: u32,
    /// Those that serve by something older.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub lagging: u32,
    /// Those that refuse all or a part of what was published to them; they count neither as current nor as lagging.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub nacked: u32,
    /// Of those that lag, those that serve by a copy which they kept from an earlier run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub stale: Option<u32>,
}

/// A version that pods run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetVersion {
    /// The version.
    #[schemars(length(max = 64))]
    pub version: String,
    /// Number of pods that run it.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: u32,
}

/// An object that pods refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetNack {
    /// Kind of the object.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Namespace of the object.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Number of pods that refuse it.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: u32,
    /// Why, in the words of one of them.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Stands for a list of [`Condition`] in schemas: a list map by type.
enum Conditions {}

impl schemars::JsonSchema for Conditions {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": 8,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "description": "One fact about the object.",
                "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                "properties": {
                    "type": {
                        "type": "string", "maxLength": 316, "description": "The fact, in CamelCase.",
                    },
                    "status": {
                        "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds.",
                    },
                    "observedGeneration": {
                        "type": "integer", "format": "int64", "minimum": 0,
                        "description": "The generation of the spec that this condition is about.",
                    },
                    "lastTransitionTime": {
                        "type": "string", "format": "date-time", "maxLength": 40,
                        "description": "When the status changed last.",
                    },
                    "reason": {
                        "type": "string", "minLength": 1, "maxLength": 1024,
                        "pattern": patterns::REASON,
                        "description": "Why, as one word for programs.",
                    },
                    "message": {
                        "type": "string", "maxLength": 32768, "description": "Why, as a sentence for people.",
                    },
                },
            },
        })
    }
}
