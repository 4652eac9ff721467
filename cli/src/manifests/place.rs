//! Where an object stands: a file, a document in it, and perhaps an item of a list.

use std::{path::Path, sync::Arc};

use super::located::Document;

/// Where an object stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    file: Arc<Path>,
    document: Arc<Document>,
    /// The path of the object in its document, as `items[3]`; empty: the document is the object.
    prefix: String,
}

impl Place {
    pub(super) fn new(file: Arc<Path>, document: Arc<Document>) -> Self {
        Self { file, document, prefix: String::new() }
    }

    /// The place of an item of a list that stands here.
    pub(super) fn item(&self, at: usize) -> Self {
        Self { prefix: format!("{}items[{at}]", self.dotted()), ..self.clone() }
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The line of a field of the object, or of the nearest field around it; the empty path is the object itself.
    pub(crate) fn line(&self, path: &str) -> u64 {
        if path.is_empty() {
            self.document.line(&self.prefix)
        } else {
            self.document.line(&format!("{}{path}", self.dotted()))
        }
    }

    /// `file:line` of the object.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.file.display(), self.line(""))
    }

    fn dotted(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}.", self.prefix) }
    }
}
