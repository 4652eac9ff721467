//! A bearer token of an application, by its hash.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Budget, Limits, ObjectRef};

/// A bearer token of an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayKey {
    /// SHA-256 of the token, 64 lower-case hex digits.
    pub token_sha256: String,
    /// The token that was replaced by that one, where it may still be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousToken>,
    /// The policies, all of which must allow a request.
    pub policies: Vec<ObjectRef>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Refused for good.
    pub revoked: bool,
    /// Refused for now.
    pub suspended: bool,
    /// The key's own limits, beside those of its policies.
    pub limits: Limits,
    /// The key's own budget, beside those of its policies.
    pub budget: Option<Budget>,
    /// Peers that may use it; empty: all.
    pub allowed_cidrs: Vec<IpNet>,
    /// Cost labels for usage records.
    pub attributes: BTreeMap<String, String>,
    /// Why the key cannot be used although it is known, where it cannot (a policy of it is missing or invalid).
    pub unusable: Option<String>,
}

/// A token that was replaced, and stays good for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousToken {
    /// SHA-256 of the token, 64 lower-case hex digits.
    pub token_sha256: String,
    /// From when on it is refused.
    pub until: Timestamp,
}
