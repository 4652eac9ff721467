//! The W3C trace context of a request: taken over from the caller, or begun here, and passed on.
//!
//! Ids of spans that come from others are kept; those of Relay's own are drawn once and derived from then on, so that
//! who sends a request and who reports it need not speak to each other.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::digits::hex;

/// The header that tells of it.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The bit of the flags that says that the trace is recorded.
const SAMPLED: u8 = 1;
/// The bits of the flags that are known, and so passed on: sampled, and that the id is random.
const KNOWN: u8 = 0b11;

/// The trace that a request belongs to. Source: W3C Trace Context, version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    /// The caller's span, where the caller began the trace.
    parent: Option<u64>,
    /// This request's own span.
    span: u64,
    flags: u8,
    /// Whether Relay reports spans of its own.
    reports: bool,
}

impl Trace {
    /// The caller's trace, or a new one, which is recorded where Relay `reports` spans.
    pub(crate) fn of(headers: &HeaderMap, reports: bool) -> Self {
        let span = rand::random::<u64>().max(1);
        let begun = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(parse);
        match begun {
            Some((id, parent, flags)) => Self { id, parent: Some(parent), span, flags, reports },
            None => {
                let flags = if reports { SAMPLED } else { 0 };
                Self { id: rand::random::<u128>().max(1), parent: None, span, flags, reports }
            }
        }
    }

    /// Its id.
    pub(crate) fn id_bytes(&self) -> [u8; 16] {
        self.id.to_be_bytes()
    }

    /// The span that the caller sent the request from.
    pub(crate) fn parent(&self) -> Option<[u8; 8]> {
        self.parent.map(u64::to_be_bytes)
    }

    /// The span of the request.
    pub(crate) fn span(&self) -> [u8; 8] {
        self.span.to_be_bytes()
    }

    /// The span that others find the request under: its own where it is reported, else the caller's.
    pub(crate) fn told_span(&self) -> Option<[u8; 8]> {
        let span = if self.is_reported() { Some(self.span) } else { self.parent };
        span.map(u64::to_be_bytes)
    }

    /// The span of a part of the request; attempts are parts 1, 2 and so on.
    pub(crate) fn part(&self, number: u32) -> [u8; 8] {
        self.part_id(number).to_be_bytes()
    }

    /// Whether spans of this request are reported: the trace is recorded, and Relay reports at all.
    pub(crate) fn is_reported(&self) -> bool {
        self.reports && self.flags & SAMPLED != 0
    }

    /// The header for an attempt: the same trace, and the attempt's span as the parent. Where no spans are reported, the
    /// caller's span stays the parent, so that the trace has no hole.
    pub(crate) fn onward(&self, attempt: u32) -> HeaderValue {
        let parent = if self.is_reported() { self.part_id(attempt) } else { self.parent.unwrap_or(self.span) };
        self.under(parent)
    }

    /// The header for the request itself, passed on as it came: the same trace, and its own span as the parent.
    pub(crate) fn through(&self) -> HeaderValue {
        self.under(self.span)
    }

    fn under(&self, parent: u64) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..19].copy_from_slice(&hex((self.id >> 64) as u64));
        text[19..35].copy_from_slice(&hex(self.id as u64));
        text[36..52].copy_from_slice(&hex(parent));
        text[53..].copy_from_slice(&hex(self.flags.into())[14..]);
        HeaderValue::from_bytes(&text).expect("digits and dashes are visible ASCII")
    }

    /// A bijection of the number, mixed with the request's span (the finaliser of SplitMix64).
    fn part_id(&self, number: u32) -> u64 {
        let mut id = self.span.wrapping_add(u64::from(number).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        id = (id ^ (id >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (id ^ (id >> 31)).max(1)
    }
}

/// Trace id, parent span and flags of a well-formed header. Zeros are no ids.
fn parse(text: &str) -> Option<(u128, u64, u8)> {
    let mut parts = text.trim().split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !is_known || !is_hex(id, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let (id, span) = (u128::from_str_radix(id, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()? & KNOWN;
    (id != 0 && span != 0).then_some((id, span, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(value: &'static str, reports: bool) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(value));
        Trace::of(&headers, reports)
    }

    #[test]
    fn the_callers_trace_goes_on_under_a_span_for_each_attempt() {
        let trace = trace(CALLERS, true);
        assert_eq!(::hex::encode(trace.id_bytes()), "4bf92f3577b34da6a3ce929d0e0e4736");
        let [first, second] = [trace.onward(1), trace.onward(2)].map(|value| value.to_str().unwrap().to_owned());
        assert!(first.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && first.ends_with("-01"), "{first}");
        assert!(first.contains(&::hex::encode(trace.part(1))) && second.contains(&::hex::encode(trace.part(2))));
        assert!(first != second && !first.contains("00f067aa0ba902b7") && trace.part(1) != trace.span());
    }

    #[test]
    fn where_nothing_is_reported_the_callers_span_stays_the_parent() {
        assert_eq!(trace(CALLERS, false).onward(1), CALLERS);
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let trace = trace(unsampled, true);
        assert_eq!((trace.onward(1).as_bytes(), trace.is_reported()), (unsampled.as_bytes(), false));
    }

    #[test]
    fn a_malformed_context_begins_a_new_trace() {
        for value in [
            "",
            "00-0-0-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            let trace = trace(value, true);
            let is_new = trace.id_bytes() != [0; 16] && !value.contains(&::hex::encode(trace.id_bytes()));
            assert_eq!((is_new, trace.parent(), trace.is_reported()), (true, None, true), "{value}");
        }
    }
}
