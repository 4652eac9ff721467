//! `Policy`: what relay keys may reach, how requests are routed and repeated. Its limits are in `policy_limits`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::common::{AllowedNamespaces, Budget, ObjectRef};
use crate::patterns;
use crate::policy_limits::PolicyLimits;
use crate::status::PolicyStatus;
use crate::text::Duration;

/// What relay keys may reach and how hard they may push.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "Policy",
    plural = "policies",
    shortname = "rpol",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "PolicyStatus",
    doc = "What the RelayKeys that refer to it may reach, how hard they may push, and how their requests are routed and repeated.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.models", description = "Models that the policy allows."),
    printcolumn(name = "RPM", type_ = "integer", json_path = ".spec.limits.rpm", description = "Requests per minute."),
    printcolumn(name = "TPM", type_ = "integer", json_path = ".spec.limits.tpm", description = "Tokens per minute."),
    printcolumn(name = "Budget", type_ = "string", json_path = ".spec.budgets[0].amount", description = "US dollars of the first budget."),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys", description = "RelayKeys that use the policy."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the policy is in force."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// Models that may be used. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelGrant>,
    /// Hosts that may be used. Absent: all that the allowed models are bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostGrant>,
    /// Ceilings on requests, tokens and concurrency. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<PolicyLimits>,
    /// Money that may be spent, one budget for each period at most. Counted over the same callers as `limits.scope` says.
    /// Absent: no budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["period".into()]))]
    pub budgets: Option<Vec<Budget>>,
    /// What limits and budgets do while the data planes cannot reach their Redis. Without Redis it has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_outage: Option<RedisOutage>,
    /// How a request finds its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// What is tried again, and how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// How long callers wait. The shorter of these and the Host's holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<PolicyTimeouts>,
    /// What happens to a field that the host's wire shape cannot carry: `Lenient` leaves it out and says so in
    /// `x-relay-warnings`, `Strict` refuses the request. Absent: `Lenient`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation: Option<Translation>,
    /// Namespaces whose RelayKeys may refer to this policy. Absent: only its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// Models that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelGrant {
    /// Patterns (`*` any run, `?` any one character) of model ids, such as `claude-*`, over the Models of the key's own
    /// namespace and of the catalog's. Absent or empty: none of them. `*`: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Option<Vec<String>>,
    /// Patterns of model ids that are refused, whatever `allow` and `refs` say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Option<Vec<String>>,
    /// Models by the names of their objects, the only way to reach those of another namespace than the key's and the
    /// catalog's. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub refs: Option<Vec<ObjectRef>>,
}

/// Hosts that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostGrant {
    /// Patterns (`*` any run, `?` any one character) of names of Hosts. A bare pattern is about the name in any namespace,
    /// `catalog/openai` about the Host `openai` of the namespace `catalog`. Absent or empty: nothing. `*`: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 128),
        inner(length(min = 1, max = 127), regex(pattern = patterns::HOST_GRANT))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Option<Vec<String>>,
    /// Patterns of names of Hosts that are refused, whatever `allow` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 128),
        inner(length(min = 1, max = 127), regex(pattern = patterns::HOST_GRANT))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Option<Vec<String>>,
}

choices! {
    /// What limits and budgets do without their shared counters.
    RedisOutageMode {
        /// Each data plane holds to its part of them.
        LocalShare = "LocalShare",
        /// Requests are refused.
        Closed = "Closed",
        /// Requests pass.
        Open = "Open",
    }
}

/// What limits and budgets do while the data planes cannot reach their Redis. Without Redis it has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisOutage {
    /// `LocalShare`: each data plane counts by itself, and lets in each limit and budget divided by the data planes that
    /// were alive last. `Closed`: requests that a limit or budget would count are refused with 503 and
    /// `Retry-After`. `Open`: everything passes, and is counted once Redis is back. A RelayKey's own limits and budget
    /// follow the strictest of its policies (`Closed` before `LocalShare` before `Open`). Answers carry
    /// `x-relay-limits: degraded` meanwhile. Absent: `LocalShare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RedisOutageMode>,
}

choices! {
    /// How the bindings of a model are ordered.
    RoutingStrategy {
        /// By their priority, then by weight.
        Priority = "Priority",
        /// By weight alone.
        Weighted = "Weighted",
        /// By the time to the first content lately.
        LeastLatency = "LeastLatency",
        /// By price.
        Cheapest = "Cheapest",
        /// By requests in flight.
        LeastBusy = "LeastBusy",
    }
}

choices! {
    /// What of a caller stays where it was.
    Stickiness {
        /// Nothing.
        None = "None",
        /// A conversation keeps its host key while that is healthy.
        Conversation = "Conversation",
    }
}

/// How a request finds its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// How the bindings of a model are ordered: `Priority` by their priority and then by weight, `Weighted` by weight
    /// alone, `LeastLatency` by the time to the first content lately, `Cheapest` by price, `LeastBusy` by requests in
    /// flight. Absent: `Priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RoutingStrategy>,
    /// Attempts for one request, the first included. Absent: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub max_attempts: Option<u32>,
    /// Other models that serve when the asked one cannot. The caller needs to be granted them too. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["match".into()]))]
    pub fallbacks: Option<Vec<Fallback>>,
    /// `Conversation`: a conversation keeps its host key while that is healthy, because prompt caches are per account.
    /// `None`: every request is placed anew. Absent: `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stickiness: Option<Stickiness>,
}

/// Other models that serve when the asked one cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Pattern (`*` any run, `?` any one character) of the model ids that this is for. The first that matches holds.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::MODEL_GLOB))]
    pub pattern: String,
    /// Models to try in this order, by the names of their objects.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub to: Vec<ObjectRef>,
}

choices! {
    /// A failure after which a request is tried again.
    RetryOn {
        /// The provider says that a quota is used up.
        RateLimited = "429",
        /// The provider fails.
        ServerError = "5xx",
        /// The host cannot be reached.
        Connect = "Connect",
        /// The answer does not begin in time.
        Timeout = "Timeout",
    }
}

/// What is tried again, and how often. Only before the caller has seen any content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Failures after which a request is tried again: `"429"` (in quotes, YAML reads a number otherwise), `5xx`, `Connect`,
    /// `Timeout`. Empty: none. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub on: Option<Vec<RetryOn>>,
    /// Time for one attempt to bring its first content. Absent: as the Host's `timeouts.firstByte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Pause before the same key is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Repeats on the same key, as a share of the traffic in percent. Moving on to another key is not bounded by it. Zero:
    /// no repeats. Absent: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<u32>,
}

/// Pause before the same key is tried again: doubled each time, with jitter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.base) || !has(self.max) || duration(self.base) <= duration(self.max)")
    .message("base must not be longer than max"))]
pub struct Backoff {
    /// The first pause. Absent: 25ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Duration>,
    /// The longest pause. Absent: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// How long callers wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTimeouts {
    /// From the end of the request to the first byte of the answer's body, in each attempt. Absent: as the Host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// Between two pieces of a streamed answer. Absent: as the Host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// For the whole request with all its attempts. Absent: as the Host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
}

choices! {
    /// What happens to a field that a wire shape cannot carry.
    Translation {
        /// It is left out, and a warning says so.
        Lenient = "Lenient",
        /// The request is refused.
        Strict = "Strict",
    }
}
