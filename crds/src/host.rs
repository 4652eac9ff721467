//! `Host`: one upstream API surface. Where it is, which wire shape it speaks, how a credential is put on, how it is
//! reached. Timing, pooling and breakers are in `host_tuning`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::common::{AllowedNamespaces, ProviderLimits};
use crate::host_tuning::{Breaker, HealthCheck, HttpTuning, KeySelection, Timeouts};
use crate::patterns;
use crate::rules;
use crate::status::HostStatus;

/// An upstream API surface.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "Host",
    plural = "hosts",
    shortname = "rhost",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "HostStatus",
    doc = "An upstream API surface that serves language models: where it is, which wire shape it speaks, how it is reached and how much it takes.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol", description = "Wire shape that the host speaks."),
    printcolumn(name = "Base-URL", type_ = "string", json_path = ".spec.baseURL", priority = 1, description = "Where the host is."),
    printcolumn(name = "Keys-Ready", type_ = "integer", json_path = ".status.keys.ready", description = "Usable HostKeys."),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys.total", description = "All HostKeys."),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.models", description = "Models bound to the host."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the host can serve."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.protocol == oldSelf.protocol")
    .message("protocol cannot be changed: make another Host").field_path(".protocol"))]
#[x_kube(validation = Rule::new("self.baseURL.startsWith('https://') || (has(self.allowPlaintext) && self.allowPlaintext)")
    .message("baseURL without https sends prompts and credentials unencrypted: use https, or set allowPlaintext: true").field_path(".baseURL"))]
#[x_kube(validation = Rule::new(rules::PUBLIC_BASE_URL)
    .message("baseURL is a loopback, link-local or private address: set network.allowPrivateAddresses: true if it is meant").field_path(".baseURL"))]
#[x_kube(validation = Rule::new("!has(self.tls) || self.baseURL.startsWith('https://')")
    .message("tls is only for an https baseURL").field_path(".tls"))]
pub struct HostSpec {
    /// Wire shape that the host speaks: `OpenAI` (Chat Completions and what is compatible with it) or `Anthropic`
    /// (Messages). It cannot be changed: make another Host instead.
    pub protocol: Protocol,
    /// Where the host is, such as `https://api.openai.com/v1` or `http://vllm.models.svc:8000`. A path that has a version
    /// segment (`v1`, `v4`, `v1beta`) is used as it is; otherwise the version of the wire shape is added. No query, no
    /// user name, no password.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.startsWith('https://') || self.startsWith('http://')")
        .message("must begin with https:// or http://"))]
    #[x_kube(validation = Rule::new(rules::URL_WITH_HOST).message("must be a URL with a host name or address, at most a port, and a path, in ASCII"))]
    #[x_kube(validation = Rule::new(rules::NO_USERINFO)
        .message("must not hold a user name or password: credentials belong into a HostKey"))]
    #[x_kube(validation = Rule::new("!self.contains('?') && !self.contains('#')")
        .message("must have no query and no fragment"))]
    #[x_kube(validation = Rule::new(rules::PLAIN_IPV4)
        .message("an IPv4 address must be written as four decimal numbers"))]
    #[x_kube(validation = Rule::new(rules::PLAIN_IPV6)
        .message("an IPv6 address must be valid, and not one that stands for an IPv4 address"))]
    pub base_url: String,
    /// Path that stands between `baseURL` and the endpoint instead of the wire shape's own version, such as `/openai/v1`.
    /// `/` adds nothing. Absent: as `baseURL` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::API_PATH))]
    pub api_prefix: Option<String>,
    /// Allows a `baseURL` with `http`: prompts and credentials then travel unencrypted. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plaintext: Option<bool>,
    /// Which addresses may be connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Where the credential of a HostKey is put. Absent: as the protocol has it, which is `Bearer` for OpenAI and the
    /// header `x-api-key` for Anthropic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Headers of the requests to this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// How the host proves who it is, and how Relay does. Only for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What this host's variant of the OpenAI shape takes and gives. Acts only where a request or an answer is translated
    /// between shapes. Absent: the protocol's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// Patterns (`*` any run, `?` any one character) of model ids which no Model names but which this host serves under
    /// that name, such as `gpt-*`. A Policy has to allow the id too. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub model_patterns: Option<Vec<String>>,
    /// How long Relay waits for this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Connections to this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTuning>,
    /// When a failing key or host is left alone, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// How a HostKey is chosen among those that are usable: `LeastUtilized` by remaining quota, `RoundRobin`, `Weighted`
    /// by `HostKey.spec.weight`, `CacheAffinity` keeps a conversation on its key because prompt caches are per account.
    /// Absent: `LeastUtilized`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_selection: Option<KeySelection>,
    /// How a key or host that was left alone is found to work again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Ceilings over the whole host, whichever key is used. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProviderLimits>,
    /// Takes the host out of service while it is true; it stays known. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Namespaces whose Models and HostKeys may refer to this host. Absent: only its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

choices! {
    /// The wire shape that a host speaks.
    Protocol {
        /// OpenAI Chat Completions, and what is compatible with it.
        OpenAI = "OpenAI",
        /// Anthropic Messages.
        Anthropic = "Anthropic",
    }
}

/// Which addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Allows loopback, private and link-local addresses, as servers in the cluster have. Absent: false, and a `baseURL`
    /// that is such an address, or whose name resolves to one, is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private_addresses: Option<bool>,
}

choices! {
    /// Where a credential is put.
    AuthScheme {
        /// `Authorization: Bearer <key>`.
        Bearer = "Bearer",
        /// A header of another name.
        Header = "Header",
        /// A query parameter.
        Query = "Query",
        /// Nowhere: the host takes none.
        None = "None",
    }
}

/// Where the credential of a HostKey is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.scheme in ['Header', 'Query']) == has(self.name)")
    .message("name must be set when scheme is Header or Query, and only then"))]
pub struct Auth {
    /// `Bearer`: `Authorization: Bearer <key>`. `Header`: the header that `name` gives. `Query`: the query parameter that
    /// `name` gives. `None`: the host takes no credential and needs no HostKey.
    pub scheme: AuthScheme,
    /// Name of the header or query parameter, such as `api-key`. Needed with `Header` and `Query`, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = patterns::HEADER_NAME))]
    pub name: Option<String>,
}

/// Headers of the requests to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::HEADERS_SET)
    .message("set must not name authorization, another credential, or a header of the connection itself").field_path(".set"))]
#[x_kube(validation = Rule::new(rules::HEADERS_REMOVE)
    .message("remove must not name authorization, another credential, or a header of the connection itself").field_path(".remove"))]
#[x_kube(validation = Rule::new(rules::HEADERS_FORWARD)
    .message("forward must not name authorization, another credential, or a header of the connection itself").field_path(".forward"))]
pub struct Headers {
    /// Headers that every request to this host gets. Not for credentials: these belong into a HostKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub set: Option<Vec<HeaderValue>>,
    /// Headers that Relay would send to this host but shall not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64), regex(pattern = patterns::HEADER_NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub remove: Option<Vec<String>>,
    /// Headers of the caller that are passed on to this host, besides those that the wire shape passes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64), regex(pattern = patterns::HEADER_NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub forward: Option<Vec<String>>,
}

/// A header with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValue {
    /// Name of the header; case does not matter.
    #[schemars(length(min = 1, max = 64), regex(pattern = patterns::HEADER_NAME))]
    pub name: String,
    /// Value of the header, in printable ASCII.
    #[schemars(length(max = 1024), regex(pattern = patterns::HEADER_VALUE))]
    pub value: String,
}

choices! {
    /// The oldest version of TLS that is spoken.
    TlsVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
    }
}

choices! {
    /// Against what a host's certificate is verified.
    Verification {
        /// The trust store of the data plane.
        System = "System",
        /// The certificates of `caRef` alone.
        Custom = "Custom",
        /// Nothing.
        None = "None",
    }
}

/// How a host proves who it is, and how Relay does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.verification) && self.verification == 'Custom') == has(self.caRef)")
    .message("caRef must be set when verification is Custom, and only then"))]
pub struct Tls {
    /// Certificate authorities in PEM. Needed with `verification: Custom`, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// Name that is sent as SNI and that the certificate must carry. Absent: the host name of `baseURL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub server_name: Option<String>,
    /// Secret of type `kubernetes.io/tls` with the certificate that Relay presents. Absent: none is presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretRef>,
    /// Oldest version that is spoken: `"1.2"` or `"1.3"` (in quotes, YAML reads a number otherwise). Absent: `"1.2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// `System`: the trust store of the data plane. `Custom`: the certificates of `caRef` alone. `None`: the certificate
    /// is not verified, anyone between can read credentials; the data plane has to be told to accept that. Absent:
    /// `System`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

choices! {
    /// The kind of object that holds certificates.
    CaKind {
        /// A ConfigMap.
        ConfigMap = "ConfigMap",
        /// A Secret.
        Secret = "Secret",
    }
}

/// One key of a ConfigMap or Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// `ConfigMap` or `Secret`.
    pub kind: CaKind,
    /// Name of the object. Always in the namespace of the Host.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Key within its data, such as `ca.crt`.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DATA_KEY))]
    pub key: String,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret. Always in the namespace of the Host.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

choices! {
    /// The field that bounds the length of an answer.
    MaxTokensField {
        /// The older name.
        MaxTokens = "max_tokens",
        /// The newer name.
        MaxCompletionTokens = "max_completion_tokens",
    }
}

choices! {
    /// When a host sends usage in a stream.
    UsageInStream {
        /// When `stream_options.include_usage` asks for it.
        Options = "Options",
        /// Always, and `stream_options` is refused.
        Always = "Always",
        /// Never.
        None = "None",
    }
}

choices! {
    /// Where a host puts reasoning text.
    ReasoningField {
        /// `reasoning_content`.
        ReasoningContent = "ReasoningContent",
        /// `reasoning`.
        Reasoning = "Reasoning",
        /// `reasoning_details`.
        ReasoningDetails = "ReasoningDetails",
        /// Parts of the content list.
        ContentParts = "ContentParts",
    }
}

choices! {
    /// The role of instructions.
    SystemRole {
        /// `system`.
        System = "system",
        /// `developer`.
        Developer = "developer",
    }
}

choices! {
    /// What an error looks like.
    ErrorEnvelope {
        /// `{"error": {"message": ...}}`.
        OpenAI = "OpenAI",
        /// `{"message": ...}`.
        Bare = "Bare",
        /// `{"detail": ...}`.
        Detail = "Detail",
    }
}

choices! {
    /// Which ids of tool calls a host takes.
    ToolCallIds {
        /// Any.
        Any = "Any",
        /// Exactly nine letters and digits.
        Alnum9 = "Alnum9",
    }
}

/// How a host's variant of the OpenAI shape differs from OpenAI's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dialect {
    /// Name of a known variant from which unset fields come, such as `vllm`, `ollama`, `groq`, `mistral`. Absent: OpenAI's
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = patterns::DIALECT))]
    pub preset: Option<String>,
    /// Field that bounds the length of an answer: `max_tokens` or `max_completion_tokens`. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<MaxTokensField>,
    /// When usage is sent in a stream: `Options` when `stream_options.include_usage` asks for it, `Always` without being
    /// asked (and `stream_options` is refused), `None` never. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_in_stream: Option<UsageInStream>,
    /// Where reasoning text is found: `ReasoningContent`, `Reasoning` and `ReasoningDetails` are fields of the message,
    /// `ContentParts` are parts of its content. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_field: Option<ReasoningField>,
    /// Role that instructions are sent with: `system` always, or `developer` where the model takes it. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_role: Option<SystemRole>,
    /// Whether `response_format` of type `json_schema` is taken. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<bool>,
    /// Whether `strict` is taken on a tool. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_strict: Option<bool>,
    /// Whether `parallel_tool_calls` is taken. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Whether an image may be given by URL; if not, only inline. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_urls: Option<bool>,
    /// What an error looks like: `OpenAI` `{"error":{"message"}}`, `Bare` `{"message"}`, `Detail` `{"detail"}`. Absent: as
    /// the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_envelope: Option<ErrorEnvelope>,
    /// Which ids of tool calls are taken: `Any`, or `Alnum9` for exactly nine letters and digits. Absent: as the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_ids: Option<ToolCallIds>,
}
