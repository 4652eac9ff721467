//! `HostKey`: a credential for a host. Where its value is, never the value itself.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::common::{AllowedNamespaces, ObjectRef, ProviderLimits, SecretKeyRef};
use crate::patterns;
use crate::status::HostKeyStatus;
use crate::text::Instant;

/// A credential for a host.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "HostKey",
    plural = "hostkeys",
    shortname = "hkey",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "HostKeyStatus",
    doc = "A credential for a Host. All usable keys of a host form the pool from which each request draws one.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.hostRef.name", description = "Host that the key is for."),
    printcolumn(name = "Breaker", type_ = "string", json_path = ".status.breaker.state", description = "Whether data planes draw the key; empty: they always did."),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".spec.weight", description = "Share among keys of the same priority."),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1, description = "Keys of a lower number come first."),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1, description = "Whether the key is taken out of service."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the key can be used."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.hostRef == oldSelf.hostRef")
    .message("hostRef cannot be changed: make another HostKey").field_path(".hostRef"))]
pub struct HostKeySpec {
    /// Host that the key is for. It cannot be changed: make another HostKey instead.
    pub host_ref: ObjectRef,
    /// Where the credential is.
    pub source: KeySource,
    /// Share of the traffic among the keys of the same priority, with `Host.spec.keySelection: Weighted`. Absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Keys of a lower number are used first, and others only when none of those is usable: spend reserved capacity before
    /// pay-as-you-go. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<u32>,
    /// What the provider allows to this credential. Absent: unknown, and only the provider's own answers bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProviderLimits>,
    /// Models that this credential is entitled to. Absent: all that the host has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<KeyModels>,
    /// When the credential ends. From then on it is not used. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Instant>,
    /// Takes the key out of service while it is true. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Namespaces whose RelayKeys may draw this key. Absent: only its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// Where a credential is: exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.secretKeyRef), has(self.file), has(self.env), has(self.encrypted)].filter(set, set).size() == 1")
    .message("exactly one of secretKeyRef, file, env and encrypted must be set"))]
pub struct KeySource {
    /// A key of a Secret in the namespace of the HostKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A file that is mounted into the data plane, as secret stores do. Only the data plane reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    /// An environment variable of the data plane. Only the data plane reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<EnvSource>,
    /// The credential itself, sealed by `relay seal`. Only data planes that hold the named key open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<EncryptedSource>,
}

/// A file in the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Path of the file, below `/var/run/relay/`. A newline at its end is not part of the credential.
    #[schemars(length(min = 16, max = 512), regex(pattern = patterns::KEY_FILE))]
    pub path: String,
}

/// An environment variable of the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// Name of the variable; it begins with `RELAY_KEY_`.
    #[schemars(length(min = 11, max = 253), regex(pattern = patterns::KEY_VARIABLE))]
    pub name: String,
}

/// A sealed credential: AES-256-GCM under a key of its own, which is wrapped by a key that data planes hold. It opens for
/// the HostKey and the Host that it was sealed for and for no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedSource {
    /// Name of the key that `wrappedKey` is wrapped by, as data planes know it.
    #[serde(rename = "keyID")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::SEALING_KEY_ID))]
    pub key_id: String,
    /// The key of this credential, wrapped: base64 of a nonce of 12 bytes, 32 encrypted bytes and a tag of 16 bytes.
    #[schemars(length(min = 80, max = 80), regex(pattern = patterns::WRAPPED_KEY))]
    pub wrapped_key: String,
    /// Base64 of the nonce of 12 bytes that `ciphertext` was made with.
    #[schemars(length(min = 16, max = 16), regex(pattern = patterns::SEALING_NONCE))]
    pub nonce: String,
    /// Base64 of the encrypted credential and a tag of 16 bytes.
    #[schemars(length(min = 24, max = 8192), regex(pattern = patterns::CIPHERTEXT))]
    pub ciphertext: String,
}

/// Models that a credential is entitled to, by their id at the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyModels {
    /// Patterns (`*` any run, `?` any one character) of upstream model ids. Empty: none. Absent: all but those of `deny`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Option<Vec<String>>,
    /// Patterns of upstream model ids that are left out, whatever `allow` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Option<Vec<String>>,
}
