//! `RelayKey`: a bearer token that an application holds, and what binds it. Never the token itself.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::common::{Budget, CallerLimits, ObjectRef, SecretKeyRef};
use crate::patterns;
use crate::rules;
use crate::status::RelayKeyStatus;
use crate::text::{Duration, Instant};

/// A bearer token that an application holds.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "RelayKey",
    plural = "relaykeys",
    shortname = "rkey",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "RelayKeyStatus",
    doc = "A bearer token with which an application calls Relay, and what it may do: its policies, limits, budget and expiry.",
    selectable = ".spec.suspend",
    selectable = ".spec.revoked",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRefs[0].name", description = "First Policy of the key."),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.effectiveModels", description = "Models that the key may use."),
    printcolumn(name = "Revoked", type_ = "boolean", json_path = ".spec.revoked", description = "Whether the key is refused for good."),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt", description = "When the key ends."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the key can be used."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.secret), has(self.tokenHash), has(self.tokenSecretRef)].filter(set, set).size() == 1")
    .message("exactly one of secret, tokenHash and tokenSecretRef must be set"))]
#[x_kube(validation = Rule::new("has(self.secret) == has(oldSelf.secret) && (!has(self.secret) || self.secret.name == oldSelf.secret.name)")
    .message("secret.name cannot be set, changed or taken away later: make another RelayKey").field_path(".secret"))]
#[x_kube(validation = Rule::new("!has(oldSelf.revoked) || !oldSelf.revoked || (has(self.revoked) && self.revoked)")
    .message("a revoked key stays revoked: make another RelayKey").field_path(".revoked"))]
#[x_kube(validation = Rule::new("!has(self.rotation) || has(self.secret)")
    .message("rotation needs secret: only a token that Relay made can be made anew").field_path(".rotation"))]
#[x_kube(validation = Rule::new(rules::TRIGGER_RISES)
    .message("rotation.trigger cannot be lowered").field_path(".rotation"))]
pub struct RelayKeySpec {
    /// Policies that bind the key, one to four. Every one must allow a request, and the limits of all are charged.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub policy_refs: Vec<ObjectRef>,
    /// The token is in a Secret that Relay owns. One of `secret`, `tokenHash` and `tokenSecretRef` is needed. Whether it
    /// is set, and its name, cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<TokenSecret>,
    /// `sha256:` and the SHA-256 of the token in lower-case hex, as `relay keys hash` prints it: the token itself is never
    /// seen by the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = patterns::TOKEN_HASH))]
    pub token_hash: Option<String>,
    /// The token is in a Secret that you own. It must have at least 32 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// When the token of `secret` is made anew. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// When the key ends, such as `2030-01-31T00:00:00Z`. From then on it is refused as expired. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Instant>,
    /// Refuses the key for good: once true, it stays true. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    /// Refuses the key while it is true. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Ceilings of this key alone, charged beside those of its policies: the tightest refuses first. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<CallerLimits>,
    /// Money that this key may spend, charged beside the budgets of its policies. Absent: no budget of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Addresses from which the key is taken, such as `10.0.0.0/8` or `2001:db8::/32`. Absent or empty: from anywhere.
    #[serde(rename = "allowedCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 43)))]
    #[x_kube(validation = Rule::new(rules::ADDRESS_RANGES)
        .message("every entry must be an address range such as 10.0.0.0/8 or 2001:db8::/32"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_cidrs: Option<Vec<String>>,
    /// Labels for cost and usage, such as `team: search`. They are in every usage record of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Attributes>")]
    #[x_kube(validation = Rule::new("self.all(name, size(name) <= 63)")
        .message("names of attributes must have at most 63 characters"))]
    pub attributes: Option<BTreeMap<String, String>>,
}

/// A Secret that Relay owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecret {
    /// Name of the Secret, in the namespace of the RelayKey.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Key within the Secret's data. Absent: `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DATA_KEY))]
    pub key: Option<String>,
}

/// When a token is made anew, and how long the one before stays good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Age at which a token is replaced, at least `1h`, such as `720h`. Absent: no token is replaced for its age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("every must be at least 1h"))]
    pub every: Option<Duration>,
    /// How long a replaced token stays good, under the key `<key>-previous` of the Secret. It ends with the next rotation
    /// at the latest. Absent: `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Duration>,
    /// Raise it to replace the token now. It cannot be lowered. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub trigger: Option<i64>,
}

/// Stands for a map of attributes in schemas.
enum Attributes {}

impl schemars::JsonSchema for Attributes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Attributes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": 16,
            "additionalProperties": {"type": "string", "maxLength": 253}
        })
    }
}
