//! How the demo upstream fails on request: by the key that it is shown, or by the model that it is asked for.

use std::time::Duration;

use http::HeaderMap;
use protocol::error::{ErrorKind, WireError};

/// The failure of the credential, if its text names one: `invalid` is refused, `limited` is over its rate, `broken`
/// meets a server error.
pub(crate) fn of_credential(headers: &HeaderMap) -> Option<WireError> {
    let shown = ["authorization", "x-api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok())?;
    if shown.contains("invalid") {
        return Some(of_status(401));
    }
    if shown.contains("limited") {
        return Some(of_status(429));
    }
    shown.contains("broken").then(|| of_status(500))
}

/// The failure that a model's name asks for: `fail-429` answers 429, and so on.
pub(crate) fn of_model(model: &str) -> Option<WireError> {
    model.strip_prefix("fail-")?.parse().ok().filter(|status| (400..600).contains(status)).map(of_status)
}

fn of_status(status: u16) -> WireError {
    let (kind, message) = match status {
        401 => (ErrorKind::Authentication, "the demo upstream does not accept this key"),
        403 => (ErrorKind::Permission, "the demo upstream does not allow this"),
        404 => (ErrorKind::NotFound, "the demo upstream has no such model"),
        413 => (ErrorKind::TooLarge, "the request is too large for the demo upstream"),
        429 => (ErrorKind::RateLimited, "the demo upstream limits this key"),
        503 | 529 => (ErrorKind::Overloaded, "the demo upstream is overloaded"),
        504 => (ErrorKind::Timeout, "the demo upstream took too long"),
        400..500 => (ErrorKind::InvalidRequest, "the demo upstream refuses this request"),
        _ => (ErrorKind::ServerError, "the demo upstream failed"),
    };
    let retry_after = (status == 429).then(|| Duration::from_secs(7));
    WireError { status, retry_after, ..WireError::new(kind, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_asks_for_a_status() {
        assert_eq!(of_model("fail-529").map(|error| error.status), Some(529));
        assert_eq!(of_model("fail-200"), None);
        assert_eq!(of_model("demo"), None);
    }

    #[test]
    fn a_key_fails_as_its_text_says() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "demo-limited-1".parse().unwrap());
        assert_eq!(of_credential(&headers).map(|error| error.kind), Some(ErrorKind::RateLimited));
    }
}
