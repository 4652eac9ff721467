//! A directory of manifests as the resources that the compiler takes, with the place of every object.
//!
//! Decides what is read, what is one of ours, and what is refused before compiling. What objects mean together is the
//! compiler's business.

mod assemble;
mod core_kinds;
mod document;
mod elsewhere;
mod files;
pub(crate) mod finding;
mod located;
mod place;

use std::collections::BTreeMap;

use compiler::Resources;
use crds::Kind;
use table::ObjectRef;

use self::finding::Finding;
pub(crate) use self::{
    assemble::assemble,
    document::{Manifests, read},
    elsewhere::suppose,
    files::{Files, files},
    located::{Document, SyntaxError, documents, pieces, values},
    place::Place,
};

/// Which namespaces the manifests of a directory live in.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scope {
    /// Namespace of objects that name none
    #[arg(long, env = "RELAY_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,

    /// Namespace whose Models every relay key sees after those of its own [default: the one of --namespace]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    pub(crate) catalog_namespace: Option<String>,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What is compiled.
    pub(crate) resources: Resources,
    /// Where each of our objects stands.
    pub(crate) places: BTreeMap<(Kind, ObjectRef), Place>,
    /// What was refused or ignored while reading.
    pub(crate) findings: Vec<Finding>,
}

impl Scope {
    fn catalog(&self) -> &str {
        self.catalog_namespace.as_ref().unwrap_or(&self.namespace)
    }
}

/// Reads a directory, or one file. Errs where it does not exist; what it holds never makes an error.
pub(crate) fn load(dir: &std::path::Path, scope: &Scope) -> anyhow::Result<Loaded> {
    let files = files(dir)?;
    let manifests: Vec<_> = files.iter().map(|(path, text)| read(path, text.as_deref(), scope)).collect();
    Ok(assemble(manifests.iter(), scope))
}
