//! Errors in this shape: what an upstream says, classified, and what a caller is told.

use serde_json::{Map, Value, json};

use crate::{
    error::{ErrorKind, WireError},
    sse,
};

/// Codes of a key or account that will not recover by waiting.
const DEAD_ACCOUNT: [&str; 3] = ["organization_on_hold", "cmek_key_disabled", "user_profile_billing_not_authorized"];

/// Codes of money that is spent.
const SPENT: [&str; 4] = [
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "linked_organization_billing_unavailable",
];

/// Words of money that is spent, in errors without a code.
const SPENT_WORDS: [&str; 2] = ["credit balance is too low", "specified api usage limits"];

/// Words of a conversation that does not fit. Clients compact their history when they read them.
const TOO_LONG_WORDS: [&str; 3] = ["prompt is too long", "input is too long", "exceed context limit"];

/// Reads any error body: of this shape, of a related one, HTML, or nothing at all.
pub fn decode_error(status: u16, body: &[u8]) -> WireError {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => of_object(&fields, status),
        Ok(Value::String(message)) => classified(status, None, None, message),
        Ok(Value::Array(list)) => match list.first() {
            Some(Value::Object(fields)) => of_object(fields, status),
            _ => unread(status),
        },
        Ok(Value::Null | Value::Bool(_) | Value::Number(_)) | Err(_) => unread(status),
    }
}

/// Reads an error object or event; `status` is that of the answer, which an error within a stream does not have.
pub(super) fn of_object(fields: &Map<String, Value>, status: u16) -> WireError {
    let inner = match fields.get("error") {
        Some(Value::Object(inner)) => inner,
        Some(Value::String(message)) => return classified(status, None, None, message.clone()),
        _ => fields,
    };
    let text = |key: &str| inner.get(key).and_then(Value::as_str);
    let Some(message) = text("message").or_else(|| text("detail")) else { return unread(status) };
    let details = inner.get("details").filter(|details| !details.is_null());
    let code = details.and_then(|details| details["error_code"].as_str()).or_else(|| text("code"));
    let mut error = classified(status, text("type"), code, message.to_owned());
    error.details = details.cloned();
    error.param = text("param").map(str::to_owned);
    error
}

/// An error within a stream that began with 200: its type alone tells what it is.
pub(super) fn of_event(fields: &Map<String, Value>) -> WireError {
    let error = of_object(fields, 200);
    WireError { status: if error.status < 400 { error.kind.status() } else { error.status }, ..error }
}

fn unread(status: u16) -> WireError {
    classified(status, None, None, format!("the upstream answered {status} without an error that can be read"))
}

fn classified(status: u16, source_type: Option<&str>, code: Option<&str>, message: String) -> WireError {
    let kind = kind_of(status, source_type, code, &message);
    WireError {
        kind,
        status: if status < 400 { kind.status() } else { status },
        message,
        code: code.map(str::to_owned),
        param: None,
        source_type: source_type.map(str::to_owned),
        retry_after: None,
        details: None,
    }
}

fn kind_of(status: u16, source_type: Option<&str>, code: Option<&str>, message: &str) -> ErrorKind {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if code.is_some_and(|code| SPENT.contains(&code)) || says(&SPENT_WORDS) {
        return ErrorKind::QuotaExhausted;
    }
    if code.is_some_and(|code| DEAD_ACCOUNT.contains(&code)) {
        return ErrorKind::Authentication;
    }
    match source_type {
        Some("invalid_request_error") if says(&TOO_LONG_WORDS) => ErrorKind::ContextTooLong,
        // Some hosts say it of everything; their status knows better.
        Some("invalid_request_error") if status <= 400 || status == 422 => ErrorKind::InvalidRequest,
        Some("authentication_error") => ErrorKind::Authentication,
        Some("permission_error") => ErrorKind::Permission,
        Some("not_found_error") => ErrorKind::NotFound,
        Some("request_too_large") => ErrorKind::TooLarge,
        Some("rate_limit_error") => ErrorKind::RateLimited,
        Some("billing_error") => ErrorKind::QuotaExhausted,
        Some("overloaded_error") => ErrorKind::Overloaded,
        Some("timeout_error") => ErrorKind::Timeout,
        Some("not_supported") => ErrorKind::NotSupported,
        Some(_) | None => by_status(status),
    }
}

fn by_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        402 => ErrorKind::QuotaExhausted,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        501 => ErrorKind::NotSupported,
        502 => ErrorKind::Unreachable,
        503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::ServerError,
    }
}

/// The error's type in this shape.
fn type_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong | ErrorKind::ContentPolicy => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::QuotaExhausted => "billing_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::ServerError | ErrorKind::Unreachable => "api_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::NotSupported => "not_supported",
    }
}

/// The status that a caller of this shape sees: 529 for overload, else the error's own.
pub fn error_status(error: &WireError) -> u16 {
    match error.kind {
        ErrorKind::Overloaded => 529,
        _ if (400..=599).contains(&error.status) => error.status,
        kind => kind.status(),
    }
}

/// The body of an error.
pub fn encode_error(error: &WireError, request_id: &str) -> Vec<u8> {
    body(error, request_id).to_string().into_bytes()
}

/// An error within a stream: one event, after which nothing follows.
pub fn encode_error_event(error: &WireError, request_id: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    sse::write_json(&mut frame, Some("error"), &body(error, request_id));
    frame
}

/// A sign of life within a stream.
pub fn keep_alive() -> &'static [u8] {
    b"event: ping\ndata: {\"type\":\"ping\"}\n\n"
}

fn body(error: &WireError, request_id: &str) -> Value {
    let mut inner = json!({"type": type_of(error.kind), "message": message(error)});
    let details = error.details.clone().filter(Value::is_object);
    if let Some(details) = details.or_else(|| error.code.as_ref().map(|code| json!({"error_code": code}))) {
        inner["details"] = details;
    }
    let request_id = if request_id.is_empty() { Value::Null } else { json!(request_id) };
    json!({"type": "error", "error": inner, "request_id": request_id})
}

/// The words of an error. One of a conversation that is too long begins as clients of this shape expect it, which
/// compact their history then.
fn message(error: &WireError) -> String {
    let lower = error.message.to_ascii_lowercase();
    if error.kind == ErrorKind::ContextTooLong && !TOO_LONG_WORDS.iter().any(|words| lower.contains(words)) {
        return format!("prompt is too long: {}", error.message);
    }
    error.message.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(status: u16, value: Value) -> WireError {
        decode_error(status, value.to_string().as_bytes())
    }

    fn said(kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
    }

    #[test]
    fn classifies_by_type() {
        let cases = [
            (401, "authentication_error", ErrorKind::Authentication),
            (403, "permission_error", ErrorKind::Permission),
            (404, "not_found_error", ErrorKind::NotFound),
            (413, "request_too_large", ErrorKind::TooLarge),
            (429, "rate_limit_error", ErrorKind::RateLimited),
            (402, "billing_error", ErrorKind::QuotaExhausted),
            (500, "api_error", ErrorKind::ServerError),
            (529, "overloaded_error", ErrorKind::Overloaded),
            (400, "invalid_request_error", ErrorKind::InvalidRequest),
            (504, "timeout_error", ErrorKind::Timeout),
        ];
        for (status, kind, wanted) in cases {
            let error = decode(status, said(kind, "words"));
            assert_eq!((error.kind, error.status, error.message.as_str()), (wanted, status, "words"), "{kind}");
        }
    }

    #[test]
    fn an_unknown_type_keeps_the_real_status() {
        let error = decode(418, said("teapot_error", "short"));
        assert_eq!((error.kind, error.status), (ErrorKind::InvalidRequest, 418));
        assert_eq!(decode(599, said("novel", "x")).kind, ErrorKind::ServerError);
    }

    #[test]
    fn money_and_dead_accounts_are_told_from_bad_requests() {
        let coded = |code: &str| json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m", "details": {"error_code": code}}});
        assert_eq!(decode(429, coded("enforced_spend_limit_reached")).kind, ErrorKind::QuotaExhausted);
        assert_eq!(decode(429, coded("ramp_limit_exceeded")).kind, ErrorKind::RateLimited);
        assert_eq!(decode(400, coded("organization_on_hold")).kind, ErrorKind::Authentication);
        let low = said("invalid_request_error", "Your credit balance is too low to access the Anthropic API.");
        assert_eq!(decode(400, low).kind, ErrorKind::QuotaExhausted);
    }

    #[test]
    fn the_text_of_a_prompt_that_is_too_long_is_kept() {
        let text = "prompt is too long: 210000 tokens > 200000 maximum";
        let error = decode(400, said("invalid_request_error", text));
        assert_eq!(error.kind, ErrorKind::ContextTooLong);
        let body: Value = serde_json::from_slice(&encode_error(&error, "req_2")).expect("JSON");
        assert_eq!(
            body,
            said("invalid_request_error", text)
                .as_object()
                .map(|map| {
                    let mut map = map.clone();
                    map.insert("request_id".into(), json!("req_2"));
                    Value::Object(map)
                })
                .expect("an object")
        );
    }

    #[test]
    fn another_familys_words_for_it_begin_as_clients_expect() {
        let error = WireError::new(ErrorKind::ContextTooLong, "maximum context length is 128000 tokens");
        let body: Value = serde_json::from_slice(&encode_error(&error, "")).expect("JSON");
        assert_eq!(body["error"]["message"], "prompt is too long: maximum context length is 128000 tokens");
    }

    #[test]
    fn wraps_what_is_no_json() {
        for body in ["<html>Bad Gateway</html>", "upstream connect error", "", "null"] {
            let error = decode_error(502, body.as_bytes());
            assert_eq!((error.kind, error.status), (ErrorKind::Unreachable, 502));
            assert!(!error.message.contains('<'));
        }
    }

    #[test]
    fn reads_errors_without_an_envelope() {
        assert_eq!(decode(401, json!({"detail": "Invalid API Key"})).message, "Invalid API Key");
        assert_eq!(decode(400, json!({"error": "no such thing"})).message, "no such thing");
        assert_eq!(decode(500, json!({"message": "broken"})).message, "broken");
    }

    #[test]
    fn overload_is_529_and_spent_money_429() {
        assert_eq!(error_status(&WireError::new(ErrorKind::Overloaded, "busy")), 529);
        let spent = WireError::new(ErrorKind::QuotaExhausted, "budget `team` is spent");
        assert_eq!(error_status(&spent), 429);
        let body: Value = serde_json::from_slice(&encode_error(&spent, "r")).expect("JSON");
        assert_eq!(body["error"]["type"], "billing_error");
    }

    #[test]
    fn an_error_event_is_one_frame() {
        let frame = encode_error_event(&WireError::new(ErrorKind::Overloaded, "busy"), "r");
        let frame = String::from_utf8(frame).expect("text");
        assert!(frame.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\""));
        assert!(frame.ends_with("\n\n") && frame.matches("\n\n").count() == 1);
    }

    #[test]
    fn details_and_codes_reach_the_caller() {
        let mut error = WireError::new(ErrorKind::RateLimited, "slow down");
        error.code = Some("ramp_limit_exceeded".into());
        let body: Value = serde_json::from_slice(&encode_error(&error, "r")).expect("JSON");
        assert_eq!(body["error"]["details"], json!({"error_code": "ramp_limit_exceeded"}));
    }
}
