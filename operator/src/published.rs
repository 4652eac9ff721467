//! What came of a compilation, as it is handed to whoever pushes tables and to whoever reports on objects.

use std::{collections::BTreeMap, sync::Arc};

use compiler::{Report, Resources};
use table::{Credentials, ObjectRef, RoutingTable};

use crate::{fleets::Fleet, source_vector::SourceVector};

/// What the cluster meant at a moment. Handed on whole, and only after every watched kind was listed and every named
/// Secret was read once.
#[derive(Clone, Debug)]
pub struct Published {
    /// Counts up, from 1, whenever the table, the credentials or those of a fleet differ from those before. Of this process alone.
    pub revision: u64,
    /// What data planes route by.
    pub table: Arc<RoutingTable>,
    /// What travels beside it.
    pub credentials: Arc<Credentials>,
    /// What goes to each fleet that a DataPlane describes. Where there is none, all of the above goes to whoever may have it.
    pub fleets: BTreeMap<ObjectRef, Fleet>,
    /// One for each object, sorted by kind, namespace and name.
    pub reports: Arc<Vec<Report>>,
    /// What was compiled: the objects as they were, with metadata and status. Of Secrets only those that objects name.
    pub resources: Arc<Resources>,
    /// How new the objects were.
    pub source_vector: SourceVector,
    /// The last revision that took something away: data planes must hear of it before anything else. 0: none did.
    pub urgent_revision: u64,
}

impl Published {
    /// Whether something was taken away since that revision.
    pub fn is_urgent_since(&self, revision: u64) -> bool {
        self.urgent_revision > revision
    }
}
