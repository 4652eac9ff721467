//! The W3C trace context of a request: taken over from the caller, or begun here, and passed on.

use http::HeaderMap;

/// The trace that a request belongs to. Source: W3C Trace Context, version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: String,
    /// The caller's span, where the caller began the trace.
    parent: Option<String>,
    /// This request's own span.
    span: String,
    flags: String,
}

impl Trace {
    /// The caller's trace, or a new one that is not sampled by anybody yet.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let span = format!("{:016x}", rand::random::<u64>().max(1));
        let begun = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(parse);
        match begun {
            Some((id, parent, flags)) => Self { id, parent: Some(parent), span, flags },
            None => {
                let id = format!("{:032x}", rand::random::<u128>().max(1));
                Self { id, parent: None, span, flags: "01".to_owned() }
            }
        }
    }

    /// Its id, 32 hex digits.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The header for an upstream request: the same trace, this request's span as the parent.
    pub(crate) fn onward(&self) -> String {
        format!("00-{}-{}-{}", self.id, self.span, self.flags)
    }
}

/// Trace id, parent span and flags of a well-formed header. Zeros are no ids.
fn parse(text: &str) -> Option<(String, String, String)> {
    let mut parts = text.trim().split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !is_known || !is_hex(id, 32) || !is_hex(span, 16) || !is_hex(flags, 2) || is_zero(id) || is_zero(span) {
        return None;
    }
    Some((id.to_owned(), span.to_owned(), flags.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(value: &'static str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", http::HeaderValue::from_static(value));
        Trace::of(&headers)
    }

    #[test]
    fn the_callers_trace_goes_on_under_a_span_of_its_own() {
        let trace = trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let onward = trace.onward();
        assert!(onward.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && onward.ends_with("-01"), "{onward}");
        assert!(!onward.contains("00f067aa0ba902b7"));
    }

    #[test]
    fn a_malformed_context_begins_a_new_trace() {
        for value in [
            "",
            "00-0-0-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            let trace = trace(value);
            assert_eq!((trace.id().len(), trace.parent), (32, None), "{value}");
        }
    }
}
