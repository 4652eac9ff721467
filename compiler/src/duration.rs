//! Spans of time as manifests write them.

use std::time::Duration;

use crate::findings::Findings;

/// The span, or its default where the manifest says nothing or nothing that makes sense.
pub(crate) fn or(found: &mut Findings, field: &str, written: Option<&crds::Duration>, default: Duration) -> Duration {
    optional(found, field, written).unwrap_or(default)
}

/// The span, where the manifest says one.
pub(crate) fn optional(found: &mut Findings, field: &str, written: Option<&crds::Duration>) -> Option<Duration> {
    let written = written?;
    let span = written.to_std().filter(|span| !span.is_zero());
    if span.is_none() {
        found
            .refuse(format!("{field} `{written}` must be a span of time longer than zero, such as `250ms` or `1m30s`"));
    }
    span
}

/// A lower and an upper bound of which either may be a default: one that was written pushes one that was not. Both
/// written in the wrong order are refused.
pub(crate) fn ordered(
    found: &mut Findings,
    field: &str,
    (low_name, low, low_default): (&str, Option<&crds::Duration>, Duration),
    (high_name, high, high_default): (&str, Option<&crds::Duration>, Duration),
) -> (Duration, Duration) {
    let low = optional(found, &format!("{field}.{low_name}"), low);
    let high = optional(found, &format!("{field}.{high_name}"), high);
    match (low, high) {
        (Some(low), Some(high)) => {
            if low > high {
                found.refuse(format!("{field}.{low_name} must not be longer than {field}.{high_name}"));
            }
            (low, high)
        }
        (Some(low), None) => (low, high_default.max(low)),
        (None, Some(high)) => (low_default.min(high), high),
        (None, None) => (low_default, high_default),
    }
}
