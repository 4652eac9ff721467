//! Reads the errors of chat hosts in every envelope they come in, and writes errors in OpenAI's.
//!
//! Messages of faults of the request are kept: clients match on them. Messages about keys, accounts and quotas belong to
//! the operator's account, not to the caller, and are replaced.

use serde_json::{Map, Value, json};

use crate::{
    error::{ErrorKind, WireError},
    sse,
};

/// Longest message of a body that is not JSON.
const PLAIN: usize = 300;

/// Reads the body of a failed answer, whatever it is. A status below 400 means that the failure came inside an answer.
pub fn decode_error(status: u16, body: &[u8]) -> WireError {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => from_value(status, &value),
        Err(_) => from_text(status, &String::from_utf8_lossy(body)),
    }
}

/// Reads an error that stands in an answer or a stream.
pub(super) fn from_value(status: u16, value: &Value) -> WireError {
    let value = match value {
        Value::Array(items) => items.first().unwrap_or(&Value::Null),
        other => other,
    };
    let fields = Fields::of(value);
    let status = fields.status(status);
    let kind = classify(status, &fields);
    WireError {
        kind,
        status: if status >= 400 { status } else { kind.status() },
        message: public_message(kind, status, &fields.message),
        code: fields.code,
        param: fields.param,
        source_type: fields.source_type,
        retry_after: None,
        details: None,
    }
}

fn from_text(status: u16, text: &str) -> WireError {
    let text = text.trim();
    let is_page = text.is_empty() || text.starts_with('<');
    let message = if is_page { String::new() } else { text.chars().take(PLAIN).collect() };
    from_value(status, &json!({"message": message}))
}

/// The fields of an error, from any envelope.
#[derive(Default)]
struct Fields {
    message: String,
    code: Option<String>,
    source_type: Option<String>,
    param: Option<String>,
    /// A status that the body names, as errors inside a 200 do.
    status: Option<u16>,
}

impl Fields {
    fn of(value: &Value) -> Self {
        match &value["error"] {
            Value::Object(error) => Self::of_object(error),
            // The text alone, with the code beside it.
            Value::String(text) => {
                let mut fields = value.as_object().map(Self::of_object).unwrap_or_default();
                fields.message.clone_from(text);
                fields
            }
            _ => match value {
                Value::Object(bare) => Self::of_object(bare),
                Value::String(text) => Self { message: text.clone(), ..Self::default() },
                _ => Self::default(),
            },
        }
    }

    fn of_object(object: &Map<String, Value>) -> Self {
        let word = |key: &str| object.get(key).and_then(word);
        let code = object.get("code").and_then(number).or_else(|| object.get("status").and_then(number));
        Self {
            message: message(object),
            code: word("code").filter(|code| code.parse::<u16>().is_err()).or_else(|| inner_code(object)),
            source_type: word("type"),
            param: word("param"),
            status: code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)),
        }
    }

    fn status(&self, status: u16) -> u16 {
        if status >= 400 { status } else { self.status.unwrap_or(status) }
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn inner_code(object: &Map<String, Value>) -> Option<String> {
    word(&object.get("innererror")?["code"])
}

/// `message`, or `detail`: a text, or a list of what is wrong where.
fn message(object: &Map<String, Value>) -> String {
    let detail = object.get("message").or_else(|| object.get("detail")).unwrap_or(&Value::Null);
    match detail {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(fault).collect::<Vec<_>>().join("; "),
        Value::Object(inner) => message(inner),
        _ => String::new(),
    }
}

fn fault(item: &Value) -> Option<String> {
    let place: Vec<String> = item["loc"].as_array().into_iter().flatten().filter_map(word).collect();
    let text = item["msg"].as_str().or_else(|| item["message"].as_str())?;
    Some(if place.is_empty() { text.to_owned() } else { format!("{}: {text}", place.join(".")) })
}

/// What kind of failure: by the code, then the type, then the words, then the status.
fn classify(status: u16, fields: &Fields) -> ErrorKind {
    let words = [&fields.code, &fields.source_type].map(|word| word.as_deref().unwrap_or("").to_ascii_lowercase());
    let message = fields.message.to_ascii_lowercase();
    let by_word = words.iter().find_map(|word| of_word(word));
    by_word.or_else(|| of_message(status, &message)).unwrap_or_else(|| of_status(status))
}

fn of_word(word: &str) -> Option<ErrorKind> {
    Some(match word {
        "context_length_exceeded" | "exceed_context_size_error" | "model_context_window_exceeded" => {
            ErrorKind::ContextTooLong
        }
        "content_filter" | "content_policy_violation" | "responsibleaipolicyviolation" | "moderation_blocked" => {
            ErrorKind::ContentPolicy
        }
        "invalid_api_key" | "authentication_error" | "invalid_authentication" | "account_deactivated" => {
            ErrorKind::Authentication
        }
        "insufficient_quota"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "insufficient_balance"
        | "quota_exceeded"
        | "insufficient_credits" => ErrorKind::QuotaExhausted,
        "rate_limit_exceeded" | "rate_limit_error" | "ratelimitreached" | "too_many_requests" => ErrorKind::RateLimited,
        "model_not_found" | "deploymentnotfound" | "invalid_model" | "not_found_error" => ErrorKind::NotFound,
        "permission_error" | "permission_denied" | "forbidden" => ErrorKind::Permission,
        "overloaded_error" | "engine_overloaded" | "server_is_overloaded" | "slow_down" => ErrorKind::Overloaded,
        "request_too_large" => ErrorKind::TooLarge,
        _ => return None,
    })
}

fn of_message(status: u16, message: &str) -> Option<ErrorKind> {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // Only where the status leaves it open: a 5xx that quotes such words is still the provider's fault.
    match status {
        401 => Some(ErrorKind::Authentication),
        402 => Some(ErrorKind::QuotaExhausted),
        400 | 403 | 404 | 413 | 422 | 429 | ..400 => {
            let about_key = has(&["api key", "api-key", "apikey", "api_key"]);
            if about_key && has(&["incorrect", "invalid", "not valid", "expired", "revoked"]) {
                Some(ErrorKind::Authentication)
            } else if status != 429 && has(CONTEXT) {
                Some(ErrorKind::ContextTooLong)
            } else if has(&["insufficient balance", "exceeded your current quota", "insufficient credits"]) {
                Some(ErrorKind::QuotaExhausted)
            } else if has(&[
                "is not a valid model id",
                "invalid model",
                "supported api model names are",
                "model not found",
            ]) {
                Some(ErrorKind::NotFound)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// How hosts say that a conversation does not fit.
const CONTEXT: &[&str] = &[
    "maximum context length",
    "context length",
    "context window",
    "available context size",
    "prompt is too long",
    "input is too long",
    "input token count",
    "too large for model",
];

fn of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        402 => ErrorKind::QuotaExhausted,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        498 | 503 | 529 => ErrorKind::Overloaded,
        501 => ErrorKind::NotSupported,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::ServerError,
    }
}

fn public_message(kind: ErrorKind, status: u16, message: &str) -> String {
    match kind {
        ErrorKind::Authentication => "the upstream does not accept the key".to_owned(),
        ErrorKind::Permission => "the upstream does not allow this to the key".to_owned(),
        ErrorKind::QuotaExhausted => "the quota at the upstream is exhausted".to_owned(),
        _ if message.trim().is_empty() => format!("the upstream failed with status {status}"),
        _ => redacted(message),
    }
}

/// Takes the names of accounts and keys out of a message.
fn redacted(message: &str) -> String {
    const PRIVATE: &[&str] = &["org-", "proj_", "sk-", "gsk_", "xai-", "arn:", "projects/", "user_"];
    let hide = |word: &str| {
        let bare = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let private = PRIVATE.iter().any(|prefix| bare.starts_with(prefix) && bare.len() > prefix.len() + 3);
        if private { "[redacted]".to_owned() } else { word.to_owned() }
    };
    message.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

/// The status of an error for chat clients, who know no 529.
pub fn error_status(error: &WireError) -> u16 {
    match error.kind {
        ErrorKind::QuotaExhausted => 429,
        _ if error.status == 529 => 503,
        _ if error.status < 400 => error.kind.status(),
        _ => error.status,
    }
}

/// The body of a failed answer.
pub fn encode_error(error: &WireError, _request_id: &str) -> Vec<u8> {
    serde_json::to_vec(&envelope(error)).expect("a value is always JSON")
}

/// A failure within a stream, as its last frame.
pub fn encode_error_event(error: &WireError, _request_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    sse::write_json(&mut out, None, &envelope(error));
    out
}

/// A sign of life that every reader passes over.
pub fn keep_alive() -> &'static [u8] {
    b": ping\n\n"
}

fn envelope(error: &WireError) -> Value {
    let (source_type, code) = type_and_code(error);
    json!({"error": {"message": error.message, "type": source_type, "param": error.param, "code": code}})
}

/// The words that SDKs and clients match on. Where a kind has a well-known code it is that one, whatever the source said.
fn type_and_code(error: &WireError) -> (&str, Option<&str>) {
    let own = error.code.as_deref();
    match error.kind {
        ErrorKind::InvalidRequest => ("invalid_request_error", own),
        ErrorKind::ContextTooLong => ("invalid_request_error", Some("context_length_exceeded")),
        ErrorKind::ContentPolicy => ("invalid_request_error", own.or(Some("content_policy_violation"))),
        ErrorKind::Authentication => ("invalid_request_error", Some("invalid_api_key")),
        ErrorKind::Permission => ("invalid_request_error", own.or(Some("permission_denied"))),
        ErrorKind::NotFound => ("invalid_request_error", own.or(Some("model_not_found"))),
        ErrorKind::TooLarge => ("invalid_request_error", own.or(Some("request_too_large"))),
        ErrorKind::RateLimited => {
            let what = error.source_type.as_deref().filter(|what| matches!(*what, "tokens" | "requests"));
            (what.unwrap_or("requests"), Some("rate_limit_exceeded"))
        }
        ErrorKind::QuotaExhausted => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::Overloaded => ("server_error", Some("overloaded")),
        ErrorKind::ServerError => ("server_error", own),
        ErrorKind::Timeout => ("server_error", Some("timeout")),
        ErrorKind::Unreachable => ("server_error", own.or(Some("upstream_unreachable"))),
        ErrorKind::NotSupported => ("invalid_request_error", own.or(Some("not_supported"))),
    }
}

#[cfg(test)]
mod tests;
