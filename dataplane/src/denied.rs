//! Every refusal of Relay's own: its words, its status, its code and its log level, in one table. How it is put into
//! the caller's shape is the codecs' business.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use protocol::{
    Refusal, WireShape,
    error::{ErrorKind, WireError},
};
use tracing::Level;

use crate::{
    headers,
    intake::IntakeError,
    limit::{
        LimitError, Refused,
        reservation::{RuleStanding, Standing},
        rule::{Counted, Rule},
    },
};

/// Why a request was not answered. The text is for the caller: it names what is wrong and holds no secret.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Denied {
    #[error("the router has no routing table yet: try again in a moment")]
    NotReady,
    #[error(
        "the router has been without its operator for longer than `--max-staleness`, or `push.maxStaleness` of its DataPlane, allows"
    )]
    Stale,
    #[error(
        "the router has {limit} requests in flight, its most (setting `--max-in-flight`, or `intake.maxInFlight` of the DataPlane): try again in a moment"
    )]
    Busy { limit: usize },
    #[error("the router is shutting down: try again")]
    ShuttingDown,
    #[error("the router failed while it answered this request; its log says more under the request's id")]
    Panicked,

    #[error("the shared data plane, which has to answer this request, cannot be reached: {reason}")]
    SharedUnreachable { reason: String },
    #[error("the shared data plane, which had to answer this request, did not: {reason}")]
    SharedBroken { reason: String },

    #[error("there is no endpoint `{method} {path}`")]
    UnknownRoute { method: String, path: String },
    #[error("`{path}` takes {allowed}, not {method}")]
    WrongMethod { method: String, path: String, allowed: &'static str },
    #[error("`{path}` is not offered by this router")]
    NotOffered { path: String },
    #[error("{0}")]
    Intake(IntakeError),
    #[error("{0}")]
    Refused(Refusal),

    #[error("no API key: send a relay key as `Authorization: Bearer` or `x-api-key`")]
    MissingKey,
    #[error("the API key starts like a relay key but is mistyped or cut off: its checksum is wrong")]
    MistypedKey,
    #[error("the API key is unknown")]
    UnknownKey,
    #[error("relay key `{key}` is revoked")]
    RevokedKey { key: String },
    #[error("relay key `{key}` has expired at {at}")]
    ExpiredKey { key: String, at: Timestamp },
    #[error("relay key `{key}` is suspended")]
    SuspendedKey { key: String },
    #[error("relay key `{key}` may not be used from {address} (`allowedCIDRs`)")]
    AddressNotAllowed { key: String, address: IpAddr },
    #[error("relay key `{key}` cannot be used: {reason}")]
    UnusableKey { key: String, reason: String },

    #[error("model: {model} (there is no such model here, or it is not open to this relay key's namespace)")]
    UnknownModel { model: String },
    #[error("model `{model}` is not granted by policy `{policy}`")]
    ModelNotGranted { model: String, policy: String },
    #[error("host `{host}` is not granted by policy `{policy}`")]
    HostNotGranted { host: String, policy: String },
    #[error("model `{model}` is misconfigured: {reason}")]
    InvalidModel { model: String, reason: String },
    #[error("model `{model}` cannot be served at the moment: {reason}")]
    NothingEnabled { model: String, reason: String },
    #[error("model `{model}` cannot serve this request: it lacks {lacks}")]
    NotCapable { model: String, lacks: String },

    #[error(transparent)]
    Limited(LimitError),

    #[error("{}", .0.message)]
    Upstream(WireError),
}

/// A line of the table: status, kind, code of the error, label in metrics, log level.
type Line = (u16, ErrorKind, Option<&'static str>, &'static str, Level);

impl Denied {
    fn line(&self) -> Line {
        use ErrorKind::{
            Authentication, InvalidRequest, NotFound, NotSupported, Overloaded, Permission, QuotaExhausted,
            RateLimited, ServerError, Timeout, TooLarge, Unreachable,
        };
        let key = Some("invalid_api_key");
        match self {
            Denied::NotReady => (503, Overloaded, Some("not_ready"), "not_ready", Level::WARN),
            Denied::Stale => (503, Overloaded, Some("stale"), "stale", Level::WARN),
            Denied::Busy { .. } => (503, Overloaded, Some("too_many_in_flight"), "busy", Level::WARN),
            Denied::ShuttingDown => (503, Overloaded, Some("shutting_down"), "shutting_down", Level::INFO),
            Denied::Panicked => (500, ServerError, Some("internal_error"), "panicked", Level::ERROR),

            Denied::SharedUnreachable { .. } => {
                (503, Overloaded, Some("shared_unreachable"), "shared_unreachable", Level::WARN)
            }
            Denied::SharedBroken { .. } => (502, Unreachable, Some("shared_broken"), "shared_broken", Level::WARN),

            Denied::UnknownRoute { .. } => (404, NotFound, Some("unknown_url"), "unknown_route", Level::DEBUG),
            Denied::WrongMethod { .. } => {
                (405, InvalidRequest, Some("method_not_supported"), "wrong_method", Level::DEBUG)
            }
            Denied::NotOffered { .. } => (501, NotSupported, Some("not_supported"), "not_offered", Level::DEBUG),
            Denied::Intake(error) => match error {
                IntakeError::TooLarge { .. } => {
                    (413, TooLarge, Some("request_too_large"), "body_too_large", Level::INFO)
                }
                IntakeError::TimedOut(_) => (408, Timeout, Some("request_timeout"), "body_timeout", Level::INFO),
                IntakeError::Broken => (400, InvalidRequest, None, "body_broken", Level::DEBUG),
                IntakeError::UnknownEncoding(_) => {
                    (415, InvalidRequest, Some("unsupported_content_encoding"), "unknown_encoding", Level::INFO)
                }
                IntakeError::Corrupt(_) => (400, InvalidRequest, None, "body_corrupt", Level::INFO),
            },
            Denied::Refused(Refusal { malformed: true, .. }) => (400, InvalidRequest, None, "malformed", Level::DEBUG),
            Denied::Refused(Refusal { malformed: false, .. }) => {
                (400, InvalidRequest, Some("unsupported_parameter"), "unsupported", Level::INFO)
            }

            Denied::MissingKey => (401, Authentication, key, "missing_key", Level::INFO),
            Denied::MistypedKey => (401, Authentication, key, "mistyped_key", Level::INFO),
            Denied::UnknownKey => (401, Authentication, key, "unknown_key", Level::INFO),
            Denied::RevokedKey { .. } => (401, Authentication, key, "revoked_key", Level::INFO),
            Denied::ExpiredKey { .. } => (401, Authentication, key, "expired_key", Level::INFO),
            Denied::SuspendedKey { .. } => (401, Authentication, key, "suspended_key", Level::INFO),
            Denied::AddressNotAllowed { .. } => {
                (403, Permission, Some("address_not_allowed"), "address_not_allowed", Level::INFO)
            }
            Denied::UnusableKey { .. } => (403, Permission, Some("relay_key_unusable"), "unusable_key", Level::WARN),

            Denied::UnknownModel { .. } => (404, NotFound, Some("model_not_found"), "unknown_model", Level::INFO),
            Denied::ModelNotGranted { .. } => {
                (403, Permission, Some("model_not_allowed"), "model_not_granted", Level::INFO)
            }
            Denied::HostNotGranted { .. } => {
                (403, Permission, Some("host_not_allowed"), "host_not_granted", Level::INFO)
            }
            Denied::InvalidModel { .. } => {
                (503, ServerError, Some("model_misconfigured"), "invalid_model", Level::WARN)
            }
            Denied::NothingEnabled { .. } => {
                (503, ServerError, Some("model_unavailable"), "nothing_enabled", Level::WARN)
            }
            Denied::NotCapable { .. } => {
                (400, InvalidRequest, Some("unsupported_capability"), "not_capable", Level::INFO)
            }

            Denied::Limited(LimitError::Unavailable) => {
                (503, Overloaded, Some("limits_unavailable"), "limits_unavailable", Level::WARN)
            }
            Denied::Limited(LimitError::Refused(refused)) => match refused.rule.rule {
                Rule::Rate { .. } => (429, RateLimited, Some("rate_limit_exceeded"), "rate_limited", Level::DEBUG),
                Rule::Concurrency => {
                    (429, RateLimited, Some("rate_limit_exceeded"), "concurrency_limited", Level::DEBUG)
                }
                Rule::Budget(_) => (429, QuotaExhausted, Some("insufficient_quota"), "budget_spent", Level::INFO),
            },

            Denied::Upstream(error) => (error.status, error.kind, None, "upstream", level_of(error.kind)),
        }
    }

    /// The refusal in canonical form.
    pub fn to_wire(&self) -> WireError {
        let (status, kind, code, ..) = self.line();
        let ours = |param: Option<String>| WireError {
            status,
            code: code.map(str::to_owned),
            param,
            retry_after: self.retry_after(),
            ..WireError::new(kind, self.to_string())
        };
        match self {
            Denied::Upstream(error) => error.clone(),
            Denied::Refused(refusal) => ours(refusal.param.clone()),
            Denied::Limited(LimitError::Refused(refused)) => {
                WireError { source_type: Some(counted(refused.rule.rule).to_owned()), ..ours(None) }
            }
            Denied::UnknownModel { .. } | Denied::ModelNotGranted { .. } => ours(Some("model".to_owned())),
            _ => ours(None),
        }
    }

    /// The label in metrics: a closed set of words.
    pub fn label(&self) -> &'static str {
        self.line().3
    }

    /// How loudly it is logged.
    pub fn level(&self) -> Level {
        self.line().4
    }

    /// When the same request may succeed; absent: nobody knows, or never.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Denied::NotReady
            | Denied::Stale
            | Denied::Busy { .. }
            | Denied::SharedUnreachable { .. }
            | Denied::Limited(LimitError::Unavailable) => Some(Duration::from_secs(1)),
            Denied::Limited(LimitError::Refused(refused)) => refused.retry_after,
            Denied::Upstream(error) => error.retry_after,
            _ => None,
        }
    }

    /// Headers that SDKs obey: when to try again, that trying again is of no use, and which limit was met.
    pub fn headers(&self, shape: WireShape, now: Timestamp) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(wait) = self.retry_after() {
            put_retry_after(&mut headers, wait);
        }
        if self.is_final() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Denied::WrongMethod { allowed, .. } = self {
            headers.insert(http::header::ALLOW, HeaderValue::from_static(allowed));
        }
        if let Denied::Limited(LimitError::Refused(refused)) = self {
            put_refused(&mut headers, shape, refused, now);
        }
        if self.is_degraded() {
            headers::put_degraded(&mut headers);
        }
        headers
    }

    /// Whether it was refused without the counters that replicas share.
    pub fn is_degraded(&self) -> bool {
        match self {
            Denied::Limited(LimitError::Unavailable) => true,
            Denied::Limited(LimitError::Refused(refused)) => refused.degraded,
            _ => false,
        }
    }

    /// Whether an SDK would retry by itself although the outcome is certain.
    fn is_final(&self) -> bool {
        let (_, kind, ..) = self.line();
        match kind {
            ErrorKind::Authentication | ErrorKind::NotSupported | ErrorKind::QuotaExhausted => true,
            ErrorKind::RateLimited => self.retry_after().is_none() && !matches!(self, Denied::Upstream(_)),
            ErrorKind::InvalidRequest
            | ErrorKind::ContextTooLong
            | ErrorKind::ContentPolicy
            | ErrorKind::Permission
            | ErrorKind::NotFound
            | ErrorKind::TooLarge
            | ErrorKind::Overloaded
            | ErrorKind::ServerError
            | ErrorKind::Timeout
            | ErrorKind::Unreachable => {
                matches!(self, Denied::InvalidModel { .. } | Denied::NothingEnabled { .. })
            }
        }
    }
}

/// An upstream's failure is worth a look where it is not the caller's.
fn level_of(kind: ErrorKind) -> Level {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentPolicy
        | ErrorKind::TooLarge
        | ErrorKind::NotSupported => Level::DEBUG,
        ErrorKind::Authentication
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::RateLimited
        | ErrorKind::QuotaExhausted
        | ErrorKind::Overloaded
        | ErrorKind::ServerError
        | ErrorKind::Timeout
        | ErrorKind::Unreachable => Level::WARN,
    }
}

/// `Retry-After` in whole seconds, rounded up so that a retry at that time succeeds, and `retry-after-ms`, exact.
pub fn put_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(millis));
}

/// The limit that refused, in the words of the caller's shape. Limits of an upstream are not the caller's to know.
fn put_refused(headers: &mut HeaderMap, shape: WireShape, refused: &Refused, now: Timestamp) {
    if !refused.rule.scope.faces_the_caller() {
        return;
    }
    let resets_in = refused.retry_after.unwrap_or_default();
    match refused.rule.rule {
        Rule::Rate { counted, .. } => {
            let (rule, limit, remaining) = (refused.rule.clone(), refused.limit, refused.remaining);
            let mut standing = Standing::default();
            standing.take(counted, RuleStanding { rule, limit, remaining, resets_in });
            headers::put_rate_limits(headers, &mut headers::values(), shape, &standing, || now);
        }
        Rule::Budget(_) => match shape {
            WireShape::OpenaiChat => {}
            WireShape::AnthropicMessages => {
                let rejected = HeaderValue::from_static("rejected");
                headers.insert("anthropic-ratelimit-unified-status", rejected);
                if refused.retry_after.is_some() {
                    let reset = headers::moment(now, resets_in).as_second();
                    headers.insert("anthropic-ratelimit-unified-reset", HeaderValue::from(reset));
                }
            }
        },
        Rule::Concurrency => {}
    }
}

/// What a rule counts, in OpenAI's words.
fn counted(rule: Rule) -> &'static str {
    match rule {
        Rule::Rate { counted: Counted::Tokens | Counted::InputTokens | Counted::OutputTokens, .. } => "tokens",
        Rule::Rate { counted: Counted::Requests, .. } | Rule::Concurrency | Rule::Budget(_) => "requests",
    }
}

impl From<LimitError> for Denied {
    fn from(error: LimitError) -> Self {
        Denied::Limited(error)
    }
}

impl From<IntakeError> for Denied {
    fn from(error: IntakeError) -> Self {
        Denied::Intake(error)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::rule::{RuleRef, Scope, Span};

    fn named(name: &str) -> String {
        name.to_owned()
    }

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn header(denied: &Denied, name: &str) -> Option<String> {
        let headers = denied.headers(WireShape::AnthropicMessages, NOW);
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    fn refused(rule: Rule, retry_after: Option<Duration>) -> Denied {
        let scope = std::sync::Arc::new(Scope::RelayKey(table::ObjectRef::new("team", "app")));
        let rule = RuleRef { scope, rule };
        Denied::Limited(LimitError::Refused(Refused { rule, limit: 60, remaining: 7, retry_after, degraded: false }))
    }

    #[test]
    fn unknown_not_granted_and_not_enabled_models_differ_in_status_and_code() {
        let model = || named("m");
        let cases = [
            (Denied::UnknownModel { model: model() }, 404, ErrorKind::NotFound, "model_not_found"),
            (
                Denied::ModelNotGranted { model: model(), policy: named("p") },
                403,
                ErrorKind::Permission,
                "model_not_allowed",
            ),
            (
                Denied::NothingEnabled { model: model(), reason: named("suspended") },
                503,
                ErrorKind::ServerError,
                "model_unavailable",
            ),
        ];
        for (denied, status, kind, code) in cases {
            let wire = denied.to_wire();
            assert_eq!((wire.status, wire.kind, wire.code.as_deref()), (status, kind, Some(code)));
        }
    }

    #[test]
    fn a_wrong_key_is_never_worth_a_retry() {
        for denied in
            [Denied::MissingKey, Denied::MistypedKey, Denied::UnknownKey, Denied::RevokedKey { key: named("k") }]
        {
            assert_eq!(denied.to_wire().status, 401);
            assert_eq!(header(&denied, "x-should-retry").as_deref(), Some("false"));
        }
        assert_eq!(header(&Denied::NotOffered { path: named("/v1/x") }, "x-should-retry").as_deref(), Some("false"));
        assert_eq!(header(&Denied::NotReady, "x-should-retry"), None);
    }

    #[test]
    fn the_wait_is_whole_seconds_rounded_up_and_exact_in_milliseconds() {
        let limited = WireError {
            retry_after: Some(Duration::from_micros(1_200_001)),
            ..WireError::new(ErrorKind::RateLimited, "slow down")
        };
        let denied = Denied::Upstream(limited);
        assert_eq!(header(&denied, "retry-after").as_deref(), Some("2"));
        assert_eq!(header(&denied, "retry-after-ms").as_deref(), Some("1201"));
    }

    #[test]
    fn limits_of_the_router_name_the_setting_that_raises_them() {
        let large = Denied::from(IntakeError::TooLarge { limit: 7 }).to_wire();
        assert_eq!((large.status, large.kind), (413, ErrorKind::TooLarge));
        assert!(large.message.contains("--body-limit"));
        assert!(Denied::Busy { limit: 7 }.to_string().contains("--max-in-flight"));
    }

    #[test]
    fn a_refused_field_is_named_apart_from_the_message() {
        let wire = Denied::from(Refusal::unsupported("n", "`n`=3 is not supported")).to_wire();
        assert_eq!((wire.status, wire.param.as_deref()), (400, Some("n")));
        assert_eq!(wire.code.as_deref(), Some("unsupported_parameter"));
    }

    #[test]
    fn a_limit_is_worth_a_retry_at_its_time_and_names_what_was_counted() {
        let rule = Rule::Rate { counted: Counted::Tokens, span: Span::Minute };
        let denied = refused(rule, Some(Duration::from_millis(2_500)));
        let wire = denied.to_wire();
        assert_eq!(
            (wire.status, wire.kind, wire.source_type.as_deref()),
            (429, ErrorKind::RateLimited, Some("tokens"))
        );
        assert!(wire.message.contains("relay key `app`"), "{}", wire.message);
        assert_eq!(header(&denied, "retry-after").as_deref(), Some("3"));
        assert_eq!(header(&denied, "x-should-retry"), None);
        assert_eq!(header(&denied, "anthropic-ratelimit-tokens-remaining").as_deref(), Some("7"));
        let never = refused(rule, None);
        assert_eq!(header(&never, "x-should-retry").as_deref(), Some("false"));
    }

    #[test]
    fn a_spent_budget_is_no_rate_limit_and_is_not_retried() {
        let denied = refused(Rule::Budget(table::Period::Day), Some(Duration::from_secs(60)));
        let wire = denied.to_wire();
        assert_eq!((wire.status, wire.kind), (429, ErrorKind::QuotaExhausted));
        assert_eq!(header(&denied, "x-should-retry").as_deref(), Some("false"));
        assert_eq!(header(&denied, "anthropic-ratelimit-unified-status").as_deref(), Some("rejected"));
        assert_eq!(header(&denied, "anthropic-ratelimit-unified-reset").as_deref(), Some("1800000060"));
        let total = refused(Rule::Budget(table::Period::Total), None);
        assert_eq!((header(&total, "retry-after"), header(&total, "anthropic-ratelimit-unified-reset")), (None, None));
    }

    #[test]
    fn limits_that_cannot_be_checked_are_worth_a_retry_and_name_the_setting_that_closes() {
        let denied = Denied::Limited(LimitError::Unavailable);
        let wire = denied.to_wire();
        let code = wire.code.as_deref();
        assert_eq!((wire.status, wire.kind, code), (503, ErrorKind::Overloaded, Some("limits_unavailable")));
        assert!(wire.message.contains("`redisOutage.mode` is `Closed`"), "{}", wire.message);
        assert_eq!(header(&denied, "retry-after").as_deref(), Some("1"));
        assert_eq!(header(&denied, "x-should-retry"), None);
        assert_eq!(header(&denied, "x-relay-limits").as_deref(), Some("degraded"));
    }

    #[test]
    fn a_refusal_without_the_shared_counters_says_so() {
        let rule = Rule::Rate { counted: Counted::Requests, span: Span::Minute };
        let shared = refused(rule, Some(Duration::from_secs(2)));
        assert_eq!(header(&shared, "x-relay-limits"), None);
        let Denied::Limited(LimitError::Refused(alone)) = shared else { panic!("it is refused by a limit") };
        let alone = Denied::Limited(LimitError::Refused(Refused { degraded: true, ..alone }));
        assert_eq!(header(&alone, "x-relay-limits").as_deref(), Some("degraded"));
        assert!(alone.to_string().ends_with("so each data plane holds to its part)"), "{alone}");
    }

    #[test]
    fn a_wrong_method_is_answered_with_the_right_ones() {
        let denied = Denied::WrongMethod { method: named("GET"), path: named("/v1/messages"), allowed: "POST" };
        assert_eq!(header(&denied, "allow").as_deref(), Some("POST"));
        assert_eq!(denied.to_wire().status, 405);
    }
}
