//! What a provider says is left of a key's quotas, read from the headers of its answers.

use std::time::Instant;

use http::HeaderMap;
use jiff::Timestamp;
use protocol::WireShape;

use crate::breaker::hints;

/// How every header begins that tells of a quota.
const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// What is left of a key's quotas, by counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quota(Vec<Option<Counter>>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Counter {
    left: f64,
    full_at: Option<Instant>,
}

/// Whether the headers of an answer can tell of quotas at all: those of most providers tell of none.
pub fn is_told(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)))
}

impl Quota {
    /// Takes in the headers of an answer. Counters that they do not name stay as they were. `wall` is the time of day
    /// at `now`.
    pub fn observe(&mut self, shape: WireShape, headers: &HeaderMap, now: Instant, wall: Timestamp) {
        let counters = shape.surface().quotas;
        for (position, names) in counters.iter().enumerate() {
            let number = |name| hints::text(headers, name)?.parse::<f64>().ok();
            let Some(limit) = number(names.limit) else { continue };
            let Some(remaining) = number(names.remaining) else { continue };
            let is_sound = limit.is_finite() && limit > 0.0 && remaining.is_finite();
            if !is_sound {
                continue;
            }
            let reset = hints::text(headers, names.reset).and_then(|text| hints::moment(text, wall));
            self.0.resize(self.0.len().max(counters.len()), None);
            self.0[position] =
                Some(Counter { left: (remaining / limit).clamp(0.0, 1.0), full_at: reset.map(|wait| now + wait) });
        }
    }

    /// The share that is left of the scarcest, 0 to 1; `None`: the provider has told nothing that still holds.
    pub fn headroom(&self, now: Instant) -> Option<f64> {
        let told = self.0.iter().flatten();
        let holding = told.filter(|counter| counter.full_at.is_none_or(|full_at| now < full_at));
        holding.map(|counter| counter.left).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn every_header_that_tells_of_a_quota_is_known_by_how_it_begins() {
        for quota in WireShape::ALL.into_iter().flat_map(|shape| shape.surface().quotas) {
            for name in [quota.limit, quota.remaining].into_iter().filter(|name| !name.is_empty()) {
                let told: HeaderMap =
                    [(HeaderName::from_static(name), HeaderValue::from_static("1"))].into_iter().collect();
                assert!(is_told(&told), "{name}");
            }
        }
        let others = [("x-request-id", "1"), ("content-type", "1")];
        let others = others.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        assert!(!is_told(&others.into_iter().collect()));
    }

    #[test]
    fn the_scarcest_counter_counts_until_it_is_full_again() {
        let headers: HeaderMap = [
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", "90"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "100"),
            ("x-ratelimit-reset-tokens", "30s"),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
        let (now, mut quota) = (Instant::now(), Quota::default());
        assert_eq!(quota.headroom(now), None);
        quota.observe(WireShape::OpenaiChat, &headers, now, Timestamp::UNIX_EPOCH);
        assert_eq!(quota.headroom(now), Some(0.1));
        assert_eq!(quota.headroom(now + Duration::from_secs(30)), Some(0.9));
        assert_eq!(quota.headroom(now + Duration::from_secs(360)), None);
        quota.observe(WireShape::OpenaiChat, &HeaderMap::new(), now, Timestamp::UNIX_EPOCH);
        assert_eq!(quota.headroom(now), Some(0.1));
    }
}
