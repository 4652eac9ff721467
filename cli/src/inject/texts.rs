//! Texts of YAML documents: those that change are written anew, all others stay byte for byte.

use serde_json::Value;

use super::{
    kinds::{self, Outcomes},
    sidecar::Sidecar,
};
use crate::manifests::{pieces, values};

/// The text with sidecars. The error begins with the line.
pub(super) fn injected(text: &str, sidecar: &Sidecar, outcomes: &mut Outcomes) -> Result<String, String> {
    let mut out = String::new();
    for (offset, piece) in pieces(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let documents = values(offset, piece).map_err(|error| format!("{}: {}", error.line, error.message))?;
        let of = |document| kinds::object(document, sidecar, outcomes);
        let changed: Result<Vec<_>, _> = documents.iter().map(of).collect();
        let changed = changed.map_err(|error| format!("{}: {error}", offset + 1))?;
        if changed.iter().all(Option::is_none) {
            join(&mut out, piece);
            continue;
        }
        for (old, new) in documents.iter().zip(changed) {
            join(&mut out, &written(&new.unwrap_or_else(|| old.clone())));
        }
    }
    Ok(out)
}

/// Adds documents to a text, with a line between them that says so.
pub(super) fn join(out: &mut String, more: &str) {
    if more.trim().is_empty() {
        return;
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    if !out.is_empty() && !more.starts_with("---") {
        out.push_str("---\n");
    }
    out.push_str(more);
}

fn written(document: &Value) -> String {
    if document.is_null() { String::new() } else { crds::to_yaml(document) }
}
