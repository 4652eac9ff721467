//! What a pod asks for by its label and annotations.

use crds::{INJECT_LABEL, INJECT_POD, PORT_ANNOTATION, RELAY_KEY_ANNOTATION, RELAY_KEY_SECRET_ANNOTATION};
use serde_json::Value;
use table::token;

/// What a pod asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No sidecar.
    Nothing,
    /// The label has a value that means nothing.
    Unclear(String),
    /// A sidecar.
    Sidecar {
        /// Where it listens; absent: where all do.
        port: Option<u16>,
        /// Secret and key of the token that containers use; absent: they have one of their own.
        token: Option<(String, String)>,
    },
}

/// Reads the metadata of a pod. The error names the label or annotation.
pub(super) fn asked(metadata: &Value) -> Result<Asked, String> {
    match text(metadata, "labels", INJECT_LABEL)? {
        None => Ok(Asked::Nothing),
        Some(INJECT_POD) => Ok(Asked::Sidecar { port: port(metadata)?, token: token(metadata)? }),
        Some(other) => Ok(Asked::Unclear(other.to_owned())),
    }
}

fn port(metadata: &Value) -> Result<Option<u16>, String> {
    let Some(text) = text(metadata, "annotations", PORT_ANNOTATION)? else { return Ok(None) };
    // The port after it is the admin address.
    let port = text.parse().ok().filter(|port| (1..u16::MAX).contains(port));
    let wrong = || format!("annotation {PORT_ANNOTATION} is `{text}`: a port from 1 to 65534 would be right");
    port.map(Some).ok_or_else(wrong)
}

fn token(metadata: &Value) -> Result<Option<(String, String)>, String> {
    if let Some(text) = text(metadata, "annotations", RELAY_KEY_SECRET_ANNOTATION)? {
        let (name, key) = text.split_once('/').unwrap_or((text, token::SECRET_KEY));
        if name.is_empty() || key.is_empty() || key.contains('/') {
            return Err(format!(
                "annotation {RELAY_KEY_SECRET_ANNOTATION} is `{text}`: SECRET or SECRET/KEY would be right"
            ));
        }
        return Ok(Some((name.to_owned(), key.to_owned())));
    }
    match text(metadata, "annotations", RELAY_KEY_ANNOTATION)? {
        Some("") => Err(format!("annotation {RELAY_KEY_ANNOTATION} is empty: the name of a RelayKey would be right")),
        name => Ok(name.map(|name| (format!("{name}-token"), token::SECRET_KEY.to_owned()))),
    }
}

/// The text of a label or annotation. A value that YAML takes for something else would be refused by the API server.
fn text<'a>(metadata: &'a Value, of: &str, name: &str) -> Result<Option<&'a str>, String> {
    match &metadata[of][name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(format!("metadata.{of}: {name} is {other}, which is no text: write \"{other}\" with quotes")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(annotations: Value) -> Result<Asked, String> {
        asked(&json!({"labels": {INJECT_LABEL: "true"}, "annotations": annotations}))
    }

    fn sidecar(port: Option<u16>, token: Option<(&str, &str)>) -> Result<Asked, String> {
        Ok(Asked::Sidecar { port, token: token.map(|(name, key)| (name.to_owned(), key.to_owned())) })
    }

    #[test]
    fn a_pod_without_the_label_asks_for_nothing() {
        assert_eq!(asked(&json!(null)), Ok(Asked::Nothing));
        assert_eq!(asked(&json!({"annotations": {RELAY_KEY_ANNOTATION: "app"}})), Ok(Asked::Nothing));
        assert_eq!(asked(&json!({"labels": {INJECT_LABEL: "enabled"}})), Ok(Asked::Unclear("enabled".to_owned())));
    }

    #[test]
    fn a_relay_key_is_known_by_the_secret_that_keys_create_gives_it() {
        assert_eq!(of(json!(null)), sidecar(None, None));
        assert_eq!(of(json!({RELAY_KEY_ANNOTATION: "app"})), sidecar(None, Some(("app-token", "token"))));
        let both = json!({RELAY_KEY_ANNOTATION: "app", RELAY_KEY_SECRET_ANNOTATION: "mine"});
        assert_eq!(of(both), sidecar(None, Some(("mine", "token"))));
        assert_eq!(of(json!({RELAY_KEY_SECRET_ANNOTATION: "mine/k"})), sidecar(None, Some(("mine", "k"))));
        assert_eq!(of(json!({PORT_ANNOTATION: "9000"})), sidecar(Some(9000), None));
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_what_would_be_right() {
        let wrong = [
            (json!({PORT_ANNOTATION: "65535"}), "is `65535`: a port from 1 to 65534"),
            (json!({PORT_ANNOTATION: 9000}), "llmrelay.io/port is 9000, which is no text: write \"9000\""),
            (json!({RELAY_KEY_SECRET_ANNOTATION: "a/b/c"}), "is `a/b/c`: SECRET or SECRET/KEY"),
            (json!({RELAY_KEY_SECRET_ANNOTATION: ""}), "SECRET or SECRET/KEY"),
            (json!({RELAY_KEY_ANNOTATION: ""}), "the name of a RelayKey"),
        ];
        for (annotations, words) in wrong {
            let error = of(annotations).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = asked(&json!({"labels": {INJECT_LABEL: true}})).unwrap_err();
        assert!(error.contains("write \"true\" with quotes"), "{error}");
    }
}
