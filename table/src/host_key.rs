//! A provider credential, without the credential.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Globs, NamespaceGrant, ObjectRef, ProviderLimits};

/// A key of a host's pool. Its credential is in [`crate::Credentials`] under the same reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostKey {
    /// The pool that it belongs to.
    pub host: ObjectRef,
    /// Its share among keys of equal priority, 1 to 1000; default 100.
    pub weight: u32,
    /// Lower is drawn first, 0 to 100; default 0.
    pub priority: u32,
    /// What the provider allows this account.
    pub limits: ProviderLimits,
    /// Upstream models that the account is entitled to; an empty allow list means every model.
    pub models: Globs,
    /// From when on it is not drawn.
    pub expires_at: Option<Timestamp>,
    /// Suspended: kept, but never drawn.
    pub suspended: bool,
    /// The namespaces whose relay keys may draw it.
    pub allowed: NamespaceGrant,
}
