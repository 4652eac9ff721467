//! What a failure says, and about whom: an upstream's error or a failed connection becomes an [`Outcome`].
//!
//! The status alone does not tell: providers refuse keys with 400, say 429 where money is spent, and answer 404 or 400
//! for a model that another host has.

use http::HeaderMap;
use jiff::Timestamp;
use protocol::{
    WireShape,
    error::{ErrorKind, WireError},
};

use super::{
    hints::{self, Hint},
    outcome::{Horizon, Outcome, Side},
};
use crate::upstream::error::SendError;

/// Codes that say the account or key is at fault, whatever the status.
const KEY_CODES: &[&str] = &[
    "account_deactivated",
    "api_key_invalid",
    "billing_not_active",
    "cmek_key_disabled",
    "invalid_api_key",
    "organization_on_hold",
    "user_profile_billing_not_authorized",
];

/// Codes that say money or a long quota is spent, whatever the status.
const SPENT_CODES: &[&str] = &[
    "billing_hard_limit_reached",
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "insufficient_quota",
    "quota_exceeded",
];

/// Codes that say the host does not have the model.
const MODEL_CODES: &[&str] = &["deploymentnotfound", "model_not_available", "model_not_found"];

/// Phrases by which a 400 or 403 turns out to be about the key. Lower case.
const KEY_PHRASES: &[&str] =
    &["incorrect api key", "invalid api key", "api key not valid", "api key not found", "api key expired"];

/// Phrases by which a limit turns out to run over days, or until somebody pays. Lower case.
const LONG_PHRASES: &[&str] = &[
    "per day",
    "perday",
    "daily",
    "per week",
    "weekly",
    "per month",
    "monthly",
    "(rpd)",
    "(tpd)",
    "spend limit",
    "credit balance",
    "usage limits",
];

/// What an upstream's error says. `wall` is the time of day, for hints that are dates.
pub fn answered(shape: WireShape, error: &WireError, headers: &HeaderMap, wall: Timestamp) -> Outcome {
    let codes = Codes::of(error);
    if codes.any(SPENT_CODES) || codes.starts_with("linked_organization") {
        return limited(shape, error, headers, wall, Horizon::Long);
    }
    if codes.any(KEY_CODES) {
        return Outcome::Auth;
    }
    if codes.any(MODEL_CODES) {
        return Outcome::NotServed;
    }
    match error.kind {
        // A proxy or a firewall on the way speaks, not the provider: nothing is said of the key or the request.
        ErrorKind::Permission | ErrorKind::NotFound | ErrorKind::InvalidRequest if is_page(headers) => {
            Outcome::ServerError
        }
        ErrorKind::Authentication | ErrorKind::Permission => Outcome::Auth,
        ErrorKind::QuotaExhausted => limited(shape, error, headers, wall, Horizon::Long),
        // One request that is larger than all that its key may have in a minute: smaller ones still pass.
        ErrorKind::RateLimited if error.message.to_lowercase().contains("request too large") => Outcome::NotServed,
        ErrorKind::RateLimited => limited(shape, error, headers, wall, Horizon::Short),
        ErrorKind::NotFound | ErrorKind::NotSupported => Outcome::NotServed,
        ErrorKind::ContextTooLong | ErrorKind::ContentPolicy | ErrorKind::TooLarge => Outcome::CallerFault,
        ErrorKind::InvalidRequest => request_fault(shape, error, headers, wall),
        ErrorKind::Overloaded | ErrorKind::ServerError | ErrorKind::Timeout | ErrorKind::Unreachable => {
            Outcome::ServerError
        }
    }
}

/// What a request that got no answer says.
pub fn failed(error: &SendError) -> Outcome {
    match error {
        SendError::Resolve { .. }
        | SendError::Forbidden { .. }
        | SendError::Connect { .. }
        | SendError::Tls { .. }
        | SendError::ConnectTimeout(_) => Outcome::Unreachable(Side::Host),
        SendError::Reset { .. } => Outcome::Unreachable(Side::Key),
        SendError::Protocol(_) => Outcome::ServerError,
        SendError::Request(_) => Outcome::CallerFault,
        // A bound of Relay's own: nothing is said of the host, and another may have room.
        SendError::Full { .. } => Outcome::NotServed,
    }
}

/// What silence says: no headers, or no content, in time.
pub fn silent() -> Outcome {
    Outcome::Unreachable(Side::Key)
}

fn is_page(headers: &HeaderMap) -> bool {
    hints::text(headers, "content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

fn request_fault(shape: WireShape, error: &WireError, headers: &HeaderMap, wall: Timestamp) -> Outcome {
    let message = error.message.to_lowercase();
    if KEY_PHRASES.iter().any(|phrase| message.contains(phrase)) {
        return Outcome::Auth;
    }
    if ["spend limit", "credit balance"].iter().any(|phrase| message.contains(phrase)) {
        return limited(shape, error, headers, wall, Horizon::Long);
    }
    match error.status {
        // A conflict or a replayed handshake is the provider's own race; the same request succeeds elsewhere.
        409 | 425 | 300..=399 | 500.. => Outcome::ServerError,
        _ => Outcome::CallerFault,
    }
}

fn limited(shape: WireShape, error: &WireError, headers: &HeaderMap, wall: Timestamp, horizon: Horizon) -> Outcome {
    let told = hints::read(shape, headers, wall);
    let in_body = error.retry_after.map(|wait| Hint { wait, horizon: Horizon::Short });
    let hint = told.or(in_body);
    let is_long =
        horizon == Horizon::Long || hint.is_some_and(|hint| hint.horizon == Horizon::Long) || runs_long(error);
    if !is_long {
        return Outcome::RateLimited { wait: hint.map(|hint| hint.wait), horizon: Horizon::Short };
    }
    // The resets of minute counters say nothing of money: only an explicit word, or a long counter's, is taken.
    let explicit = hint.filter(|hint| hint.horizon == Horizon::Long).map(|hint| hint.wait);
    let wait = explicit.or(hints::retry_after(headers, wall)).or(error.retry_after);
    Outcome::RateLimited { wait, horizon: Horizon::Long }
}

fn runs_long(error: &WireError) -> bool {
    let details = error.details.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = format!("{} {details}", error.message).to_lowercase();
    LONG_PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// The codes of an error, wherever its shape puts them; lower case.
struct Codes(Vec<String>);

impl Codes {
    fn of(error: &WireError) -> Self {
        let details = error.details.as_ref();
        let inner = details.and_then(|details| details.get("error_code")?.as_str());
        let list = details.and_then(|details| details.as_array()).into_iter().flatten();
        let reasons = list.filter_map(|detail| detail.get("reason")?.as_str());
        let outer = [error.code.as_deref(), error.source_type.as_deref(), inner];
        Self(outer.into_iter().flatten().chain(reasons).map(str::to_lowercase).collect())
    }

    fn any(&self, known: &[&str]) -> bool {
        self.0.iter().any(|code| known.contains(&code.as_str()))
    }

    fn starts_with(&self, prefix: &str) -> bool {
        self.0.iter().any(|code| code.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn error(kind: ErrorKind, status: u16, message: &str, code: Option<&str>) -> WireError {
        let code = code.map(str::to_owned);
        WireError { status, code, ..WireError::new(kind, message) }
    }

    fn outcome(error: &WireError) -> Outcome {
        answered(WireShape::OpenaiChat, error, &HeaderMap::new(), Timestamp::UNIX_EPOCH)
    }

    const LONG: Outcome = Outcome::RateLimited { wait: None, horizon: Horizon::Long };

    #[test]
    fn refused_keys_are_auth_also_where_the_status_says_400() {
        use ErrorKind::{Authentication, InvalidRequest, Permission};
        let on_hold = json!({"error_code": "organization_on_hold"});
        let gemini = json!([{"reason": "API_KEY_INVALID"}]);
        for error in [
            error(Authentication, 401, "invalid x-api-key", None),
            error(Permission, 403, "no access", None),
            error(InvalidRequest, 400, "Incorrect API key provided: sk-…", Some("invalid-argument")),
            error(InvalidRequest, 400, "no", Some("invalid_api_key")),
            WireError { details: Some(on_hold), ..error(InvalidRequest, 400, "on hold", None) },
            WireError { details: Some(gemini), ..error(InvalidRequest, 400, "bad", None) },
        ] {
            assert_eq!(outcome(&error), Outcome::Auth, "{error:?}");
        }
    }

    #[test]
    fn spent_money_is_a_long_limit_whatever_the_status() {
        use ErrorKind::{InvalidRequest, QuotaExhausted, RateLimited};
        let spend = json!({"error_code": "enforced_spend_limit_reached"});
        let linked = json!({"error_code": "linked_organization_unpaid"});
        for error in [
            error(RateLimited, 429, "You exceeded your current quota", Some("insufficient_quota")),
            error(QuotaExhausted, 402, "payment required", None),
            error(InvalidRequest, 400, "Your credit balance is too low", None),
            error(RateLimited, 429, "Limit 200 requests per day", None),
            WireError { details: Some(spend), ..error(RateLimited, 429, "spend", None) },
            WireError { details: Some(linked), ..error(QuotaExhausted, 402, "linked", None) },
        ] {
            assert_eq!(outcome(&error), LONG, "{error:?}");
        }
    }

    #[test]
    fn a_short_limit_waits_as_long_as_the_headers_say_else_the_body() {
        let mut limited = error(ErrorKind::RateLimited, 429, "slow down", None);
        limited.retry_after = Some(Duration::from_secs(7));
        let short = |secs| Outcome::RateLimited { wait: Some(Duration::from_secs(secs)), horizon: Horizon::Short };
        assert_eq!(outcome(&limited), short(7));
        let headers: HeaderMap = [(http::header::RETRY_AFTER, HeaderValue::from_static("20"))].into_iter().collect();
        let wall = Timestamp::UNIX_EPOCH;
        assert_eq!(answered(WireShape::OpenaiChat, &limited, &headers, wall), short(20));
    }

    #[test]
    fn a_spent_quota_is_not_shortened_by_the_reset_of_a_minute_counter() {
        let spent = error(ErrorKind::RateLimited, 429, "quota", Some("insufficient_quota"));
        let reset = (http::HeaderName::from_static("x-ratelimit-reset-requests"), HeaderValue::from_static("1s"));
        let headers: HeaderMap = [reset].into_iter().collect();
        assert_eq!(answered(WireShape::OpenaiChat, &spent, &headers, Timestamp::UNIX_EPOCH), LONG);
    }

    #[test]
    fn a_request_that_is_larger_than_its_keys_limit_does_not_take_the_key_from_others() {
        let message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000.";
        let large = error(ErrorKind::RateLimited, 429, message, Some("rate_limit_exceeded"));
        assert_eq!(outcome(&large), Outcome::NotServed);
    }

    #[test]
    fn an_unknown_model_harms_no_key() {
        for error in [
            error(ErrorKind::NotFound, 404, "model: x", None),
            error(ErrorKind::InvalidRequest, 400, "unknown model", Some("model_not_found")),
            error(ErrorKind::Permission, 403, "no access to model", Some("model_not_found")),
            error(ErrorKind::NotSupported, 501, "no such endpoint", None),
        ] {
            assert_eq!(outcome(&error), Outcome::NotServed, "{error:?}");
        }
    }

    #[test]
    fn the_callers_own_faults_harm_nobody_else() {
        for error in [
            error(ErrorKind::InvalidRequest, 400, "messages: too few", None),
            error(ErrorKind::InvalidRequest, 422, "wrong type", None),
            error(ErrorKind::ContextTooLong, 400, "prompt is too long", None),
            error(ErrorKind::ContentPolicy, 400, "flagged", None),
            error(ErrorKind::TooLarge, 413, "too large", None),
        ] {
            assert_eq!(outcome(&error), Outcome::CallerFault, "{error:?}");
        }
    }

    #[test]
    fn redirects_conflicts_and_provider_failures_are_server_errors() {
        for error in [
            error(ErrorKind::InvalidRequest, 301, "moved", None),
            error(ErrorKind::InvalidRequest, 409, "conflict", None),
            error(ErrorKind::Overloaded, 529, "overloaded", None),
            error(ErrorKind::ServerError, 500, "oops", None),
            error(ErrorKind::Timeout, 504, "late", None),
        ] {
            assert_eq!(outcome(&error), Outcome::ServerError, "{error:?}");
        }
    }

    /// What a real answer's status, content type and body come to, as read by the shape's own codec.
    fn real(shape: WireShape, status: u16, kind: &'static str, body: &str) -> Outcome {
        let error = protocol::codec::decode_error(shape, status, body.as_bytes());
        let headers = [(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
        answered(shape, &error, &headers, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn bodies_really_seen_come_to_what_they_mean() {
        use WireShape::{AnthropicMessages as Messages, OpenaiChat as Chat};
        let short = Outcome::RateLimited { wait: None, horizon: Horizon::Short };
        for (shape, status, body, expected) in [
            (
                Chat,
                401,
                r#"{"error":{"message":"Incorrect API key provided: sk-a.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
                Outcome::Auth,
            ),
            (Chat, 400, r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***st."}"#, Outcome::Auth),
            (
                Chat,
                400,
                r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
                Outcome::Auth,
            ),
            (Chat, 401, r#"{"detail":"Invalid API Key"}"#, Outcome::Auth),
            (
                Chat,
                404,
                r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
                Outcome::NotServed,
            ),
            (
                Chat,
                400,
                r#"{"error":{"message":"no such model","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
                Outcome::NotServed,
            ),
            (
                Chat,
                400,
                r#"{"error":{"message":"too long","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}"#,
                Outcome::CallerFault,
            ),
            (
                Chat,
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                LONG,
            ),
            (
                Chat,
                429,
                r#"{"error":{"message":"Rate limit reached on tokens per min (TPM)","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                short,
            ),
            (
                Chat,
                429,
                r#"{"error":{"message":"Rate limit reached on requests per day (RPD)","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
                LONG,
            ),
            (
                Messages,
                401,
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
                Outcome::Auth,
            ),
            (
                Messages,
                404,
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: x"}}"#,
                Outcome::NotServed,
            ),
            (
                Messages,
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
                Outcome::CallerFault,
            ),
            (
                Messages,
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"on hold","details":{"error_code":"organization_on_hold"}}}"#,
                Outcome::Auth,
            ),
            (
                Messages,
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"spent","details":{"error_code":"contract_spend_limit_reached"}}}"#,
                LONG,
            ),
            (
                Messages,
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slower","details":{"error_code":"ramp_limit_exceeded"}}}"#,
                short,
            ),
            (
                Messages,
                402,
                r#"{"type":"error","error":{"type":"billing_error","message":"unpaid","details":{"error_code":"linked_organization_unpaid"}}}"#,
                LONG,
            ),
            (
                Messages,
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Outcome::ServerError,
            ),
            (
                Messages,
                200,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Outcome::ServerError,
            ),
        ] {
            assert_eq!(real(shape, status, "application/json", body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_page_on_the_way_says_nothing_of_the_key() {
        for (status, expected) in [
            (301, Outcome::ServerError),
            (400, Outcome::ServerError),
            (403, Outcome::ServerError),
            (404, Outcome::ServerError),
            (502, Outcome::ServerError),
            (413, Outcome::CallerFault),
            (401, Outcome::Auth),
        ] {
            for shape in [WireShape::OpenaiChat, WireShape::AnthropicMessages] {
                let body = "<html><body>Access denied</body></html>";
                assert_eq!(real(shape, status, "text/html; charset=UTF-8", body), expected, "{shape} {status}");
            }
        }
    }

    #[test]
    fn a_failed_connection_is_the_hosts_and_a_reset_the_keys() {
        let refused = SendError::Connect { to: "h:443".into(), reason: "refused".into() };
        assert_eq!(failed(&refused), Outcome::Unreachable(Side::Host));
        assert_eq!(failed(&SendError::Reset { unsent: false }), Outcome::Unreachable(Side::Key));
    }
}
