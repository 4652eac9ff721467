//! What there is to say about a manifest, and where. No finding holds a secret.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::place::Place;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something is not served as written.
    Refused,
    /// It is served, but perhaps not as meant.
    Warning,
    /// Good to know.
    Note,
}

/// Something to say about one place in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line in it, from 1.
    pub(crate) line: u64,
    /// How much it weighs.
    pub(crate) severity: Severity,
    /// What it is about: `Kind namespace/name`, as far as known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) object: String,
    /// The reason of the condition that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The field, its value, and what would be right.
    pub(crate) message: String,
}

impl Finding {
    /// About a file as a whole.
    pub(crate) fn of_file(file: &Path, line: u64, severity: Severity, message: impl Into<String>) -> Self {
        let (file, message) = (file.to_owned(), message.into());
        Self { file, line, severity, object: String::new(), reason: None, message }
    }

    /// About a field of an object; the empty path is the object itself.
    pub(crate) fn of_field(
        place: &Place,
        path: &str,
        severity: Severity,
        object: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { object: object.into(), ..Self::of_file(place.file(), place.line(path), severity, message) }
    }
}

impl std::fmt::Display for Finding {
    /// `file:line: Kind namespace/name: message`, as editors and CI understand it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        match self.severity {
            Severity::Refused => {}
            Severity::Warning => f.write_str("warning: ")?,
            Severity::Note => f.write_str("note: ")?,
        }
        f.write_str(&self.message)
    }
}
