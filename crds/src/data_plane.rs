//! `DataPlane`: a fleet of pods that serves, which objects go to it, and who may subscribe. How its pods run is in
//! `fleet_settings`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::common::Labels;
use crate::fleet_settings::{FleetDrain, FleetIntake, FleetPush};
use crate::patterns;
use crate::status::DataPlaneStatus;

/// A fleet of pods.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "llmrelay.io",
    version = "v1alpha1",
    kind = "DataPlane",
    plural = "dataplanes",
    shortname = "rdp",
    category = "relay",
    namespaced,
    cel,
    derive = "PartialEq",
    status = "DataPlaneStatus",
    doc = "A fleet of data-plane pods: which objects it serves, which service accounts may be part of it, and how its pods run. Only those in the namespace of the operator count, because a fleet is given credentials.",
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters"),
    printcolumn(name = "Connected", type_ = "integer", json_path = ".status.pods.connected", description = "Pods that are connected."),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.pods.current", description = "Pods that serve by what was published last."),
    printcolumn(name = "Lagging", type_ = "integer", json_path = ".status.pods.lagging", description = "Pods that serve by something older."),
    printcolumn(name = "Nacked", type_ = "integer", json_path = ".status.pods.nacked", description = "Pods that refuse a part of it."),
    printcolumn(name = "Stale", type_ = "integer", json_path = ".status.pods.stale", priority = 1, description = "Lagging pods that serve by a copy of an earlier run."),
    printcolumn(name = "Drain", type_ = "string", json_path = ".spec.drain.grace", priority = 1, description = "How long answers may finish when a pod stops, where it is set here."),
    printcolumn(name = "Max-Staleness", type_ = "string", json_path = ".spec.push.maxStaleness", priority = 1, description = "How long pods serve what no operator confirms, where it is set here."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the fleet serves by what was published last."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneSpec {
    /// Which Hosts, Models, HostKeys, RelayKeys and Policies go to this fleet: those that fit every part of it. To the
    /// fleet, what is left out does not exist. Absent: all that the operator watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<FleetSelector>,
    /// Service accounts whose pods belong to this fleet. A pod may be of one fleet only: of two that name an account the
    /// older one has it. Absent: the pods whose account no DataPlane names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub service_accounts: Option<Vec<ServiceAccountRef>>,
    /// How pods stop. It acts in pods that run, and what is set wins over their flags. Absent: as their flags say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<FleetDrain>,
    /// How what is compiled comes to pods. It acts in pods that run, and what is set wins over their flags. Absent: as
    /// their flags say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<FleetPush>,
    /// What each pod takes of its clients. It acts in pods that run, and what is set wins over their flags. Absent: as
    /// their flags say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intake: Option<FleetIntake>,
}

/// Which objects go to a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetSelector {
    /// Namespaces whose objects go to the fleet. Absent: all. Empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Option<Vec<String>>,
    /// Labels that an object must have with exactly these values. Absent or empty: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Labels>")]
    pub match_labels: Option<BTreeMap<String, String>>,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Name of the service account.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Namespace of the service account. Absent: the namespace of the DataPlane.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub namespace: Option<String>,
}
