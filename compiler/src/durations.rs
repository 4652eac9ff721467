//! Durations of manifests.

use std::time::Duration;

/// A duration, or its default where the manifest says nothing. What the schema would have refused counts as not said.
pub(crate) fn or(written: Option<&crds::Duration>, default: Duration) -> Duration {
    optional(written).unwrap_or(default)
}

/// A duration, where the manifest says one.
pub(crate) fn optional(written: Option<&crds::Duration>) -> Option<Duration> {
    written.and_then(crds::Duration::to_std)
}
