//! What concerns a fleet as a whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::optional_millis;

/// What concerns the whole fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The namespace whose Models every relay key sees after those of its own; empty: there is none.
    pub catalog_namespace: String,
    /// What holds in each pod of the fleet, whatever it was started with.
    #[serde(default, skip_serializing_if = "PodSettings::is_empty")]
    pub pods: PodSettings,
}

/// What holds in each pod of a fleet instead of the flag of the same meaning. Absent: the flag holds. Nothing that is
/// absent is written, so that a table without settings is the same to every version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// How long open answers may finish after no more connections are taken.
    #[serde(with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub drain_grace: Option<Duration>,
    /// How long new connections are taken after the pod was told to stop.
    #[serde(with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub deregister_delay: Option<Duration>,
    /// How long a table is served that no operator confirms.
    #[serde(with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub max_staleness: Option<Duration>,
    /// Largest body of a request in bytes, after decompression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// How long a client may take to send a body.
    #[serde(with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub body_read_timeout: Option<Duration>,
    /// Most requests in flight in one pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
}

impl PodSettings {
    /// Whether the flags of each pod hold in everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_not_written() {
        let settings = Settings { catalog_namespace: "catalog".to_owned(), ..Settings::default() };
        assert_eq!(serde_json::to_value(&settings).unwrap(), json!({"catalogNamespace": "catalog"}));
        let grace = PodSettings { drain_grace: Some(Duration::from_secs(90)), ..PodSettings::default() };
        assert_eq!(serde_json::to_value(grace).unwrap(), json!({"drainGrace": 90_000}));
    }

    #[test]
    fn rows_of_older_and_of_newer_versions_are_read() {
        let read = |row: serde_json::Value| serde_json::from_value::<Settings>(row).unwrap();
        assert!(read(json!({"catalogNamespace": ""})).pods.is_empty());
        let newer = read(json!({"catalogNamespace": "", "new": 1, "pods": {"new": 1, "maxStaleness": 120_000}}));
        let staleness = Some(Duration::from_secs(120));
        assert_eq!(newer.pods, PodSettings { max_staleness: staleness, ..PodSettings::default() });
    }

    #[test]
    fn all_that_is_set_reads_back() {
        let all = PodSettings {
            drain_grace: Some(Duration::from_millis(1)),
            deregister_delay: Some(Duration::from_secs(2)),
            max_staleness: Some(Duration::from_secs(300)),
            body_limit: Some(4),
            body_read_timeout: Some(Duration::from_secs(5)),
            max_in_flight: Some(6),
        };
        let written = serde_json::to_value(all).unwrap();
        assert_eq!(serde_json::from_value::<PodSettings>(written).unwrap(), all);
    }
}
