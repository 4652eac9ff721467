//! Reads when a provider says to come back, from the headers of its answer, in every notation that is met.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use protocol::WireShape;

use super::outcome::Horizon;

/// Numbers from here on are milliseconds since 1970.
const EPOCH_MILLIS: f64 = 1e11;
/// Numbers from here on are seconds since 1970.
const EPOCH_SECONDS: f64 = 1e9;
/// No provider means more than this; it also keeps sums of instants from overflowing.
const MOST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// When to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// From now.
    pub wait: Duration,
    /// Over what the exhausted counter runs.
    pub horizon: Horizon,
}

/// When `headers` say to come back: `retry-after-ms` and `retry-after` first, then the reset of each counter that has
/// nothing left, then the earliest reset of all. `wall` is the time of day.
pub fn read(shape: WireShape, headers: &HeaderMap, wall: Timestamp) -> Option<Hint> {
    let asked = retry_after(headers, wall);
    let long = exhausted_long(shape, headers, wall);
    if let Some(wait) = asked {
        // The short hint of a spent day would only bring the key back to be refused again.
        return Some(long.filter(|hint| hint.wait > wait).unwrap_or(Hint { wait, horizon: Horizon::Short }));
    }
    long.or_else(|| counters(shape, headers, wall))
}

/// Reads `retry-after-ms`, else `retry-after` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    if let Some(millis) = text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    text(headers, "retry-after").and_then(|text| moment(text, wall))
}

/// Reads a moment that lies ahead: seconds, `1m30.5s`, seconds or milliseconds since 1970, RFC 3339 or an HTTP date.
pub fn moment(text: &str, wall: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return match number {
            n if n >= EPOCH_MILLIS => seconds(n / 1000.0 - wall.as_millisecond() as f64 / 1000.0),
            n if n >= EPOCH_SECONDS => seconds(n - wall.as_millisecond() as f64 / 1000.0),
            n => seconds(n),
        };
    }
    span(text).or_else(|| {
        let date = jiff::fmt::rfc2822::DateTimeParser::new();
        let then = text.parse::<Timestamp>().or_else(|_| date.parse_timestamp(text)).ok()?;
        Some(Duration::try_from(then.duration_since(wall)).unwrap_or(Duration::ZERO).min(MOST))
    })
}

/// The value of a header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    if name.is_empty() {
        return None;
    }
    headers.get(HeaderName::from_static(name))?.to_str().ok()
}

fn exhausted_long(shape: WireShape, headers: &HeaderMap, wall: Timestamp) -> Option<Hint> {
    let counters = shape.surface().quotas.iter().filter(|counter| counter.long);
    let waits = counters.filter_map(|counter| moment(text(headers, counter.reset)?, wall));
    waits.max().map(|wait| Hint { wait, horizon: Horizon::Long })
}

fn counters(shape: WireShape, headers: &HeaderMap, wall: Timestamp) -> Option<Hint> {
    let mut spent: Option<Duration> = None;
    let mut earliest: Option<Duration> = None;
    for counter in shape.surface().quotas.iter().filter(|counter| !counter.long) {
        let Some(wait) = text(headers, counter.reset).and_then(|text| moment(text, wall)) else { continue };
        let is_spent = text(headers, counter.remaining).and_then(|left| left.parse::<f64>().ok()) == Some(0.0);
        if is_spent {
            spent = spent.max(Some(wait));
        }
        earliest = Some(earliest.map_or(wait, |known| known.min(wait)));
    }
    spent.or(earliest).map(|wait| Hint { wait, horizon: Horizon::Short })
}

/// A duration of parts with units, as `6m0s`, `1h2m3.5s` or `120ms`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len() - digits);
        total += amount
            * match &rest[digits..digits + unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[digits + unit..];
    }
    if text.is_empty() { None } else { seconds(total) }
}

fn seconds(amount: f64) -> Option<Duration> {
    if amount.is_nan() {
        return None;
    }
    Some(Duration::try_from_secs_f64(amount.clamp(0.0, MOST.as_secs_f64())).unwrap_or(MOST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wall() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn moments_are_read_in_every_notation() {
        for (text, millis) in [
            ("20", 20_000),
            ("0.25", 250),
            ("-3", 0),
            ("1s", 1_000),
            ("6m0s", 360_000),
            ("1h2m3.5s", 3_723_500),
            ("120ms", 120),
            ("2026-11-21T12:00:30Z", 30_000),
            ("2026-11-21T11:00:00Z", 0),
            ("Sat, 21 Nov 2026 12:01:00 GMT", 60_000),
            ("1795262405", 5_000),
            ("1795262405000", 5_000),
        ] {
            assert_eq!(moment(text, wall()), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "soon", "3 s", "1x", "NaN"] {
            assert_eq!(moment(text, wall()), None, "{text}");
        }
    }

    #[test]
    fn retry_after_in_milliseconds_wins_over_seconds() {
        let both = headers(&[("retry-after", "20"), ("retry-after-ms", "1500")]);
        assert_eq!(retry_after(&both, wall()), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_spent_counter_decides_and_not_the_one_that_is_full() {
        let told = headers(&[
            ("x-ratelimit-remaining-requests", "12"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let hint = Hint { wait: Duration::from_secs(360), horizon: Horizon::Short };
        assert_eq!(read(WireShape::OpenaiChat, &told, wall()), Some(hint));
    }

    #[test]
    fn the_reset_of_a_weekly_quota_is_long_and_wins_over_a_short_hint() {
        let told = headers(&[("retry-after", "30"), ("anthropic-ratelimit-unified-reset", "2026-11-25T12:00:00Z")]);
        let hint = Hint { wait: Duration::from_secs(4 * 86400), horizon: Horizon::Long };
        assert_eq!(read(WireShape::AnthropicMessages, &told, wall()), Some(hint));
    }

    #[test]
    fn an_answer_that_says_nothing_gives_no_hint() {
        assert_eq!(read(WireShape::OpenaiChat, &HeaderMap::new(), wall()), None);
    }
}
