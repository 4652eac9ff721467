//! Which headers go up to a host and down to a caller, and the ones that Relay adds. Credentials are put on elsewhere,
//! at the last moment.

mod names;
mod values;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use protocol::WireShape;
use smallvec::SmallVec;

use self::names::Limit;
pub(crate) use self::values::Values;
use crate::{
    digits::hex,
    limit::reservation::{RuleStanding, Standing},
    trace::TRACEPARENT,
};

/// Headers that Relay adds to an answer: room for them is made at once.
const OURS: usize = 18;
/// Bytes of what they say, about.
const SAID: usize = 256;
/// Headers that go up, of most requests.
const UP: usize = 12;

/// Hop-by-hop headers (RFC 9110, 7.6.1), which no proxy passes on in either direction.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The caller's own business with Relay: never passed up, whatever a Host says.
const CALLERS_OWN: [&str; 12] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "via",
    "x-api-key",
    "x-goog-api-key",
];

/// What upstreams say of accounts, quotas and their own plumbing, and what would give orders to a proxy before Relay or
/// to a browser: never passed down.
const UPSTREAMS_OWN: [&str; 23] = [
    "alt-svc",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "clear-site-data",
    "content-length",
    "date",
    "nel",
    "openai-organization",
    "openai-project",
    "refresh",
    "report-to",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "server",
    "set-cookie",
    "strict-transport-security",
    "via",
    "x-reproxy-url",
    "x-request-id",
    "x-sendfile",
    "x-should-retry",
    "www-authenticate",
];

const UPSTREAMS_OWN_PREFIXES: [&str; 14] = [
    "access-control-",
    "anthropic-ratelimit-",
    "apim-",
    "cf-",
    "llm_provider-",
    "x-accel-",
    "x-amz",
    "x-envoy-",
    "x-goog-",
    "x-litellm-",
    "x-ms-",
    "x-ratelimit-",
    "x-relay-",
    "x-served-by",
];

/// What goes up beside the caller's headers.
#[derive(Clone, Debug)]
pub struct Upward<'a> {
    /// The shape of the caller.
    pub from: WireShape,
    /// The host's row.
    pub host: &'a table::Host,
    /// Headers that belong to the body, as the codec gave them; empty in same shape.
    pub encoded: &'a [(&'static str, String)],
    /// The trace context of this attempt.
    pub traceparent: Option<HeaderValue>,
    /// Whether a gzip answer is wanted.
    pub gzip: bool,
    /// Whether a stream is asked for.
    pub stream: bool,
}

/// The headers of an upstream request, without its credential.
pub fn upward(client: &HeaderMap, up: Upward<'_>) -> HeaderMap {
    let (mut headers, named) = (defaults(&up), connection_names(client));
    if up.from == up.host.shape {
        copy(client, &named, &mut headers, |name| belongs_to(up.from, name));
    }
    for (name, value) in up.encoded {
        put(&mut headers, name, value);
    }
    let rules = &up.host.headers;
    if !rules.forward.is_empty() {
        copy(client, &named, &mut headers, |name| rules.forward.iter().any(|forward| forward == name));
    }
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        put(&mut headers, name, value);
    }
    if let Some(traceparent) = up.traceparent {
        // The state belongs to the trace that the caller named; a trace that was begun here has none.
        let callers = client.get(TRACEPARENT).and_then(trace_id);
        let is_callers = callers.is_some() && callers == trace_id(&traceparent);
        headers.insert(TRACEPARENT, traceparent);
        if is_callers {
            copy(client, &named, &mut headers, |name| name == names::TRACESTATE);
        }
    }
    headers
}

fn trace_id(traceparent: &HeaderValue) -> Option<&[u8]> {
    traceparent.as_bytes().get(3..35)
}

fn defaults(up: &Upward<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(UP);
    headers.insert(header::CONTENT_TYPE, values::JSON);
    headers.insert(header::ACCEPT, if up.stream { values::EVENT_STREAM } else { values::JSON });
    headers.insert(header::ACCEPT_ENCODING, if up.gzip { values::GZIP } else { values::IDENTITY });
    headers.insert(header::USER_AGENT, values::USER_AGENT);
    match up.host.shape {
        WireShape::OpenaiChat => {}
        WireShape::AnthropicMessages => {
            headers.insert(names::ANTHROPIC_VERSION, values::DEFAULT_ANTHROPIC_VERSION);
        }
    }
    headers
}

/// Takes over the caller's headers that are `wanted`, in place of those that are there; never its credentials, nor
/// what belongs to its connection, as far as `named` by it.
fn copy(client: &HeaderMap, named: &[String], headers: &mut HeaderMap, wanted: impl Fn(&str) -> bool) {
    let mut replaced = SmallVec::<[&HeaderName; 8]>::new();
    for (name, value) in client {
        let text = name.as_str();
        if !wanted(text) {
            continue;
        }
        let is_ours = CALLERS_OWN.contains(&text) || text.starts_with("x-relay-") || text.starts_with("x-forwarded-");
        if is_ours || is_hop_by_hop(name, named) {
            continue;
        }
        if replaced.contains(&name) {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
            replaced.push(name);
        }
    }
}

/// Whether a header of a caller means something to hosts of its own shape.
fn belongs_to(shape: WireShape, name: &str) -> bool {
    let is_general = matches!(name, "accept" | "user-agent" | "idempotency-key") || name.starts_with("x-stainless-");
    let is_special = match shape {
        WireShape::OpenaiChat => matches!(name, "openai-beta" | "x-client-request-id"),
        WireShape::AnthropicMessages => {
            name == "x-app" || name.starts_with("anthropic-") || name.starts_with("x-claude-code-")
        }
    };
    is_general || is_special
}

/// The headers of an upstream's answer that its caller may see. `same_shape`: whether the body is the upstream's own;
/// `compressed`: whether it stays compressed.
pub fn downward(upstream: &HeaderMap, same_shape: bool, compressed: bool) -> HeaderMap {
    if !same_shape {
        return HeaderMap::with_capacity(OURS);
    }
    let mut headers = HeaderMap::with_capacity(OURS + upstream.len());
    let named = connection_names(upstream);
    for (name, value) in upstream {
        let text = name.as_str();
        let is_theirs = is_upstreams_own(text) || (text == "content-encoding" && !compressed);
        if !is_theirs && !is_hop_by_hop(name, &named) {
            headers.append(name, value.clone());
        }
    }
    headers
}

fn is_upstreams_own(name: &str) -> bool {
    let begins_as = |prefix: &&str| name.starts_with(prefix);
    let may_begin = matches!(name.as_bytes().first(), Some(b'a' | b'c' | b'l' | b'x'));
    UPSTREAMS_OWN.contains(&name) || (may_begin && UPSTREAMS_OWN_PREFIXES.iter().any(begins_as))
}

/// All headers but those that belong to one connection: what a proxy that changes nothing passes on, either way.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = connection_names(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // Whoever accepted the request has told its client to go on.
        if name != header::EXPECT && !is_hop_by_hop(name, &named) {
            passed.append(name, value.clone());
        }
    }
    passed
}

fn is_hop_by_hop(name: &HeaderName, named: &[String]) -> bool {
    HOP_BY_HOP.contains(&name.as_str()) || named.iter().any(|other| other == name.as_str())
}

/// Headers that `Connection` declares to be hop-by-hop.
fn connection_names(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::CONNECTION).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// The headers that bring a stream: its type, and that nobody keeps it back.
pub fn put_stream(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, values::EVENT_STREAM_UTF8);
    headers.insert(header::CACHE_CONTROL, values::NO_CACHE);
    headers.insert(names::ACCEL_BUFFERING, values::NO);
}

/// What Relay says about an answer of its own or an upstream's.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The public id of the model that served, as [`told`] makes it; absent: none did.
    pub model: Option<HeaderValue>,
    /// The host that served, as `namespace/name`, likewise.
    pub host: Option<HeaderValue>,
    /// Attempts made, the last included.
    pub attempts: Option<u32>,
    /// Time that the request spent in Relay itself, up to its answer's headers.
    pub overhead: Option<Duration>,
    /// As [`crate::warnings::value`] makes it.
    pub warnings: Option<HeaderValue>,
    /// Lines that say why each candidate was or was not tried, where the caller asked for them.
    pub debug: Vec<String>,
}

/// Room for the values of one answer's headers.
pub(crate) fn values() -> Values {
    Values::of(SAID)
}

/// A text as the value of a header that is put again and again: with `?` for all that a header cannot hold, and bounded.
pub fn told(text: &str) -> HeaderValue {
    Values::of(text.len()).text(text)
}

/// Puts the request's id, in every place where SDKs look for it.
pub(crate) fn put_request_id(headers: &mut HeaderMap, values: &mut Values, shape: WireShape, id: &str) {
    let id = values.text(id);
    headers.insert(names::X_REQUEST_ID, id.clone());
    headers.insert(names::RELAY_REQUEST_ID, id.clone());
    match shape {
        WireShape::OpenaiChat => {}
        WireShape::AnthropicMessages => {
            headers.insert(names::REQUEST_ID, id);
        }
    }
}

/// Puts the provider's id of an answer, where it can stand in a header.
pub(crate) fn put_upstream_id(headers: &mut HeaderMap, values: &mut Values, id: &str) {
    if let Some(id) = values.unchanged(id) {
        headers.insert(names::UPSTREAM_ID, id);
    }
}

/// Puts what Relay says about an answer.
pub(crate) fn put_said(headers: &mut HeaderMap, values: &mut Values, said: Said) {
    if let Some(model) = said.model {
        headers.insert(names::MODEL, model);
    }
    if let Some(host) = said.host {
        headers.insert(names::HOST, host);
    }
    if let Some(attempts) = said.attempts {
        headers.insert(names::ATTEMPTS, if attempts == 1 { values::ONE } else { values.number(attempts.into()) });
    }
    if let Some(overhead) = said.overhead {
        headers.insert(names::OVERHEAD, values.millis(overhead));
    }
    if let Some(warnings) = said.warnings {
        headers.insert(names::WARNINGS, warnings);
    }
    for line in said.debug.iter().take(64) {
        headers.append(names::DEBUG, values.text(line));
    }
}

/// Says that limits were held to without the counters that replicas share.
pub fn put_degraded(headers: &mut HeaderMap) {
    headers.insert(names::LIMITS, values::DEGRADED);
}

/// Puts how the caller stands against its limits, in the words of its shape.
pub(crate) fn put_rate_limits(
    headers: &mut HeaderMap,
    values: &mut Values,
    shape: WireShape,
    standing: &Standing,
    now: impl Fn() -> Timestamp,
) {
    let rules = [(Limit::of_requests(shape), &standing.requests), (Limit::of_tokens(shape), &standing.tokens)];
    for (names, rule) in rules {
        let Some(RuleStanding { limit, remaining, resets_in, .. }) = rule else { continue };
        headers.insert(names.limit, values.number(*limit));
        headers.insert(names.remaining, values.number(*remaining));
        let reset = match shape {
            WireShape::OpenaiChat => values.wait(*resets_in),
            WireShape::AnthropicMessages => values.moment(moment(now(), *resets_in)),
        };
        headers.insert(names.reset, reset);
    }
}

/// The whole second at or after `now + wait`; the end of time where that is later.
pub(crate) fn moment(now: Timestamp, wait: Duration) -> Timestamp {
    let ahead = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    let millis = now.as_millisecond().saturating_add(ahead);
    let seconds = millis.div_euclid(1_000) + i64::from(millis.rem_euclid(1_000) > 0);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// The id of a request: 128 random bits.
pub fn request_id(random: u128) -> Arc<str> {
    let mut id = *b"req_00000000000000000000000000000000";
    id[4..20].copy_from_slice(&hex((random >> 64) as u64));
    id[20..].copy_from_slice(&hex(random as u64));
    std::str::from_utf8(&id).expect("hex digits are ASCII").into()
}

/// Sets a header; a name that is none is left out.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let Ok(name) = HeaderName::try_from(name) {
        headers.insert(name, told(value));
    }
}

#[cfg(test)]
mod tests;
