//! Where the objects come from that a request is explained by.

use std::path::Path;

use compiler::Compilation;

use super::Explain;
use crate::{
    cluster::{Live, Reading, Width},
    manifests::{self, Scope},
};

/// What objects mean, and where they are from.
pub(super) struct Source {
    /// For people.
    pub(super) name: String,
    /// The namespace of names without one.
    pub(super) namespace: String,
    pub(super) compilation: Compilation,
    /// What is not known, in sentences.
    pub(super) notes: Vec<String>,
}

impl Explain {
    pub(super) fn directory(&self, dir: &Path) -> anyhow::Result<Source> {
        self.access.refuse_beside_directory()?;
        let namespace = self.access.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let scope = Scope { namespace: namespace.clone(), catalog_namespace: self.catalog_namespace.clone() };
        let loaded = manifests::load(dir, &scope)?;
        let compilation = compiler::compile(&loaded.resources);
        Ok(Source { name: format!("`{}`", dir.display()), namespace, compilation, notes: Vec::new() })
    }

    pub(super) async fn cluster(&self) -> anyhow::Result<Source> {
        let cluster = self.access.cluster().await?;
        let (home, catalog) = (self.home.clone(), self.catalog_namespace.clone());
        let reading = Reading { width: Width::Readable, catalog, home, secrets: false };
        let live = Live::read(&cluster, &reading).await?;
        let meaning = live.meaning();
        let mut notes = live.notes;
        notes.extend(meaning.note());
        let (namespace, compilation) = (cluster.namespace.clone(), meaning.compilation);
        Ok(Source { name: "the cluster".to_owned(), namespace, compilation, notes })
    }
}
