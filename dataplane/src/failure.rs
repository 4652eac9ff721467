//! What a caller is told when upstreams fail: which of several failures says most, in words that hold no account of the
//! provider's.

use std::time::Duration;

use protocol::error::{ErrorKind, WireError};

use crate::breaker::outcome::Outcome;

/// Shorter credentials are placeholders for hosts that check none (`EMPTY`, `none`); the words of an error hold such
/// letters by chance.
const SECRET_LEAST: usize = 8;

/// The failures of one request, of which the caller is told the most useful.
#[derive(Debug, Default)]
pub struct Failures {
    best: Option<WireError>,
    /// The earliest time at which a limited key may be tried again.
    earliest: Option<Duration>,
}

impl Failures {
    /// Adds what an upstream said, or what happened instead of an answer.
    pub fn add(&mut self, error: WireError) {
        if error.kind == ErrorKind::RateLimited {
            self.earliest = match (self.earliest, error.retry_after) {
                (Some(known), Some(new)) => Some(known.min(new)),
                (known, new) => known.or(new),
            };
        }
        if self.best.as_ref().is_none_or(|best| usefulness(error.kind) > usefulness(best.kind)) {
            self.best = Some(error);
        }
    }

    /// Whether nothing failed yet.
    pub fn is_empty(&self) -> bool {
        self.best.is_none()
    }

    /// What the caller is told.
    pub fn verdict(self) -> WireError {
        let mut told = match self.best {
            Some(best) => for_caller(best),
            None => WireError::new(ErrorKind::Unreachable, "no upstream was left to try"),
        };
        if told.kind == ErrorKind::RateLimited {
            told.retry_after = self.earliest;
        }
        told
    }
}

/// How much a failure tells the caller: what it can change itself comes first, what only the operator can, last.
fn usefulness(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentPolicy
        | ErrorKind::TooLarge
        | ErrorKind::NotSupported => 6,
        ErrorKind::RateLimited => 5,
        ErrorKind::Overloaded => 4,
        ErrorKind::Timeout => 3,
        ErrorKind::ServerError | ErrorKind::NotFound => 2,
        ErrorKind::Unreachable => 1,
        ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::QuotaExhausted => 0,
    }
}

/// Why an attempt failed, for logs and records. A provider that refuses a request may quote it, so its own words are
/// left out then: the caller has them.
pub fn reason(error: &WireError, outcome: Outcome) -> String {
    match outcome {
        Outcome::CallerFault => error.code.clone().unwrap_or_else(|| "the provider refused the request".to_owned()),
        Outcome::Ok
        | Outcome::Auth
        | Outcome::RateLimited { .. }
        | Outcome::ServerError
        | Outcome::Unreachable(_)
        | Outcome::NotServed
        | Outcome::Cancelled => error.message.clone(),
    }
}

/// An upstream's failure in the caller's view. A credential of Relay's is never the caller's to mend: its refusal is a
/// server error, and the provider's words about the account stay in the log.
pub fn for_caller(error: WireError) -> WireError {
    let replaced = |kind, status, code: &str, message: &str| WireError {
        status,
        code: Some(code.to_owned()),
        ..WireError::new(kind, message)
    };
    match error.kind {
        ErrorKind::Authentication | ErrorKind::Permission => {
            replaced(ErrorKind::ServerError, 502, "upstream_auth", "the provider refused the router's credential")
        }
        ErrorKind::QuotaExhausted => replaced(
            ErrorKind::ServerError,
            503,
            "insufficient_upstream_quota",
            "the router's quota at the provider is spent",
        ),
        // The details of a request that is at fault say where.
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong | ErrorKind::ContentPolicy | ErrorKind::TooLarge => {
            WireError { message: without_accounts(&error.message), ..error }
        }
        ErrorKind::NotFound
        | ErrorKind::NotSupported
        | ErrorKind::RateLimited
        | ErrorKind::Overloaded
        | ErrorKind::ServerError
        | ErrorKind::Timeout
        | ErrorKind::Unreachable => WireError { message: without_accounts(&error.message), details: None, ..error },
    }
}

/// An upstream's failure without the credential that it was sent: some repeat what they refuse.
pub fn without_secret(error: WireError, secret: &str) -> WireError {
    if secret.len() < SECRET_LEAST {
        return error;
    }
    let scrubbed = |text: String| if text.contains(secret) { text.replace(secret, "[redacted]") } else { text };
    // As JSON, so that no depth and no key of the details is left out.
    let details = error.details.map(|details| scrubbed(details.to_string()));
    WireError {
        message: scrubbed(error.message),
        code: error.code.map(scrubbed),
        param: error.param.map(scrubbed),
        source_type: error.source_type.map(scrubbed),
        details: details.and_then(|text| serde_json::from_str(&text).ok()),
        ..error
    }
}

/// `text` without words that name an account at a provider, or what is left of a key that it masked.
fn without_accounts(text: &str) -> String {
    const ACCOUNTS: [&str; 10] = ["org-", "org_", "proj_", "proj-", "arn:", "projects/", "sk-", "gsk_", "xai-", "AIza"];
    let is_account = |word: &str| {
        let bare = word.trim_start_matches(|c: char| !c.is_alphanumeric());
        let is_id = ACCOUNTS.iter().any(|prefix| bare.len() > prefix.len() + 5 && bare.starts_with(prefix));
        is_id || (bare.len() >= 12 && bare.bytes().take(12).all(|byte| byte.is_ascii_digit()))
    };
    let words = text.split(' ').map(|word| if is_account(word) { "[redacted]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(seconds: u64) -> WireError {
        WireError {
            retry_after: Some(Duration::from_secs(seconds)),
            ..WireError::new(ErrorKind::RateLimited, "slow down")
        }
    }

    #[test]
    fn a_refusal_that_quotes_the_request_is_neither_logged_nor_recorded() {
        let error = WireError::new(ErrorKind::InvalidRequest, "invalid value: 'my secret diary'");
        assert_eq!(reason(&error, Outcome::CallerFault), "the provider refused the request");
        assert_eq!(reason(&WireError::new(ErrorKind::ServerError, "boom"), Outcome::ServerError), "boom");
    }

    #[test]
    fn a_refused_credential_is_never_the_callers_fault() {
        let told = for_caller(WireError::new(ErrorKind::Authentication, "Incorrect API key provided: sk-canary"));
        assert_eq!((told.kind, told.status), (ErrorKind::ServerError, 502));
        assert!(!told.message.contains("sk-canary"));
    }

    #[test]
    fn a_credential_that_an_upstream_repeats_is_left_out_wherever_it_stands() {
        let error = WireError {
            code: Some("bad sk-canary".into()),
            details: Some(serde_json::json!({"a": [{"sk-canary": "x sk-canary"}]})),
            ..WireError::new(ErrorKind::InvalidRequest, "you sent Bearer sk-canary, sk-canary")
        };
        let told = without_secret(error, "sk-canary");
        assert_eq!(told.message, "you sent Bearer [redacted], [redacted]");
        assert_eq!(told.details, Some(serde_json::json!({"a": [{"[redacted]": "x [redacted]"}]})));
        assert_eq!(told.code.as_deref(), Some("bad [redacted]"));
    }

    #[test]
    fn the_earliest_retry_of_all_limited_keys_is_told() {
        let mut failures = Failures::default();
        failures.add(limited(30));
        failures.add(WireError::new(ErrorKind::Authentication, "bad key"));
        failures.add(limited(7));
        let told = failures.verdict();
        assert_eq!((told.kind, told.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    }

    #[test]
    fn the_context_window_says_more_than_a_server_error() {
        let mut failures = Failures::default();
        failures.add(WireError::new(ErrorKind::ContextTooLong, "prompt is too long: 3 tokens > 2 maximum"));
        failures.add(WireError::new(ErrorKind::ServerError, "boom"));
        assert_eq!(failures.verdict().message, "prompt is too long: 3 tokens > 2 maximum");
    }

    #[test]
    fn accounts_of_the_provider_are_taken_out_of_its_words() {
        let message = "Rate limit reached in organization org-AbCdEf123456 on tokens per min, see arn:aws:iam::1:role";
        let told = for_caller(WireError::new(ErrorKind::RateLimited, message));
        assert_eq!(told.message, "Rate limit reached in organization [redacted] on tokens per min, see [redacted]");
    }
}
