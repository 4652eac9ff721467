//! `Model`: a public model id, and what serves it: bindings to hosts, or other models behind a virtual one.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::common::{AllowedNamespaces, ObjectRef};
use crate::model_traits::{Capability, Traits};
use crate::patterns;
use crate::pricing::Pricing;
use crate::status::ModelStatus;

/// A public model id with what serves it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "Model",
    plural = "models",
    shortname = "rmodel",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "ModelStatus",
    doc = "A model id that callers may ask for, and what serves it: bindings to hosts, or other models behind a virtual one.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.modelName", description = "Id that callers ask for."),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts", description = "Bindings that can serve."),
    printcolumn(name = "In$/M", type_ = "string", json_path = ".spec.pricing.inputPerMTok", priority = 1, description = "US dollars for a million input tokens."),
    printcolumn(name = "Out$/M", type_ = "string", json_path = ".spec.pricing.outputPerMTok", priority = 1, description = "US dollars for a million output tokens."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the model can be used."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.hosts) != has(self.virtual)")
    .message("exactly one of hosts and virtual must be set"))]
#[x_kube(validation = Rule::new(
    "has(self.modelName) == has(oldSelf.modelName) && (!has(self.modelName) || self.modelName == oldSelf.modelName)")
    .message("modelName cannot be changed: add an alias, or make another Model").field_path(".modelName"))]
#[x_kube(validation = Rule::new("!has(self.aliases) || !has(self.modelName) || !(self.modelName in self.aliases)")
    .message("aliases must not repeat modelName").field_path(".aliases"))]
#[x_kube(validation = Rule::new("!has(self.virtual) || (!has(self.pricing) && !has(self.traits))")
    .message("a virtual Model has no pricing and no traits: those of the Model that serves hold"))]
pub struct ModelSpec {
    /// Id that callers ask for, such as `anthropic/claude-sonnet-4-5`. It cannot be changed: add an alias, or make another
    /// Model. Absent: `metadata.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::MODEL_ID))]
    pub model_name: Option<String>,
    /// Further ids for the same model. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = patterns::MODEL_ID))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub aliases: Option<Vec<String>>,
    /// Hosts that serve this model. Either this or `virtual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hosts: Option<Vec<Binding>>,
    /// Makes this id stand for other Models. Either this or `hosts`.
    #[serde(rename = "virtual", skip_serializing_if = "Option::is_none")]
    pub virtual_: Option<Virtual>,
    /// What the model can do. A request that needs something else is not sent to it. Absent: nothing is known, and nothing
    /// is held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub capabilities: Option<Vec<Capability>>,
    /// Most tokens of input and output together. A request that is larger is not sent to it. Absent: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_window: Option<u64>,
    /// Most tokens of output. A translated request that asks for more is cut to it, with a warning. Absent: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u64>,
    /// What the model takes in a request, where that differs from what Relay knows of a model of this name. Acts only
    /// where a request is translated between shapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traits: Option<Traits>,
    /// What the model costs. Absent: no price, and the cost of its answers is unknown, never zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// `Public`: callers may ask for it. `Internal`: it is reached only through a virtual Model. Absent: `Public`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// Takes the model out of service while it is true; it stays known. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Namespaces whose RelayKeys may use this model, and whose virtual Models may stand for it. Absent: only its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// A host that serves a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the binding, unique within the Model.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The Host.
    pub host_ref: ObjectRef,
    /// Id of the model at this host. Absent: the id that callers ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::MODEL_ID))]
    pub upstream_model: Option<String>,
    /// Share of the traffic among the bindings of the same priority. Absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Bindings of a lower number are tried first. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<u32>,
    /// Takes the binding out of service while it is true. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What the model costs at this host. Absent: as the Model has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// Most tokens of input and output together at this host. Absent: as the Model has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_window: Option<u64>,
}

choices! {
    /// How a virtual model chooses.
    VirtualStrategy {
        /// By weight.
        Weighted = "Weighted",
        /// In the order of priorities.
        Failover = "Failover",
    }
}

/// Other Models behind one id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Virtual {
    /// `Weighted`: each request goes to a target drawn by `weight`, and to others when that fails. `Failover`: targets are
    /// tried by `priority`, then in the order of the list.
    pub strategy: VirtualStrategy,
    /// The Models behind this id. They may be virtual themselves, but not in a circle.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub targets: Vec<Target>,
}

/// A Model behind a virtual one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The Model, by the name of its object.
    pub model_ref: ObjectRef,
    /// Share of the traffic with `Weighted`. Absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Targets of a lower number are tried first with `Failover`. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<u32>,
}

choices! {
    /// Who may ask for a model.
    Visibility {
        /// Callers.
        Public = "Public",
        /// Only virtual models.
        Internal = "Internal",
    }
}
