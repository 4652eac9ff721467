//! What a DataPlane settles for the pods of its fleet. A field that is set wins over the flag of the same meaning that a
//! pod was started with, and over its environment; it acts in pods that run, without a restart.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::text::Duration;

/// How pods of a fleet stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetDrain {
    /// How long answers that are open may finish after a pod takes no new connections, at most `24h`, such as `10m`. What
    /// is still open then ends with an error event of the caller's shape. It acts in pods that are stopping too. Kubernetes
    /// kills a pod when its terminationGracePeriodSeconds are over, whatever stands here: pods of the Helm chart know that
    /// moment and end answers in time before it; raise `dataPlane.drainSeconds` of the chart to get more. Absent: the flag
    /// `--drain-grace` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("grace must be at most 24h"))]
    pub grace: Option<Duration>,
    /// How long a pod that stops still takes new connections while it already says that it is not ready, at most `1h`, so
    /// that load balancers hear of it. Absent: the flag `--deregister-delay` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("deregisterDelay must be at most 1h"))]
    pub deregister_delay: Option<Duration>,
}

/// How what is compiled comes to pods of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetPush {
    /// How long pods answer from a table that no operator confirms, at least `2m`, such as `24h`; then they are not ready
    /// and refuse requests with 503 until one does. A copy of an earlier run that is older is not used. Absent: the flag
    /// `--max-staleness` of the pod, without which there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('2m')").message("maxStaleness must be at least 2m"))]
    pub max_staleness: Option<Duration>,
}

/// What each pod of a fleet takes of its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetIntake {
    /// Largest body of a request in bytes, after decompression; larger ones are refused with 413. Absent: the flag
    /// `--body-limit` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub body_limit: Option<u64>,
    /// How long a client may take to send the body of its request, at most `1h`; slower ones are refused with 408. Absent:
    /// the flag `--body-read-timeout` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("bodyReadTimeout must be at most 1h"))]
    pub body_read_timeout: Option<Duration>,
    /// Most requests in flight in one pod; further ones are refused with 503. Requests that are in flight when it is lowered
    /// go on. Absent: the flag `--max-in-flight` of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
}
