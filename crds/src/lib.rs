//! The Relay resources as Rust types, and their generated CRDs.
//!
//! Decides what a user may write: fields, bounds, and the rules that one object can be judged by. What objects mean
//! together is the compiler's business.

#![expect(unreachable_pub, reason = "KubeSchema repeats every type, visibility included, inside a function")]

/// The API group of every Relay resource.
pub const GROUP: &str = "llmrelay.io";

/// The version of every Relay resource.
pub const VERSION: &str = "v1alpha1";

/// The label of a namespace whose pods may have Relay beside them, with the value [`INJECT_ENABLED`].
pub const INJECT_LABEL: &str = "llmrelay.io/inject";

/// The value of [`INJECT_LABEL`] in a namespace that opted in.
pub const INJECT_ENABLED: &str = "enabled";

/// The value of [`INJECT_LABEL`] on a pod that asks for Relay beside it.
pub const INJECT_POD: &str = "true";

/// The annotation of such a pod that names the RelayKey that its containers use.
pub const RELAY_KEY_ANNOTATION: &str = "llmrelay.io/relay-key";

/// The annotation of such a pod that names the Secret with its token, as `SECRET` or `SECRET/KEY`, where that is not the one
/// that `relay keys create` gives a RelayKey.
pub const RELAY_KEY_SECRET_ANNOTATION: &str = "llmrelay.io/relay-key-secret";

/// The annotation of such a pod that says where on loopback Relay listens.
pub const PORT_ANNOTATION: &str = "llmrelay.io/port";

#[macro_use]
mod choices;
mod common;
mod data_plane;
mod definition;
mod fleet_settings;
mod host;
mod host_key;
mod host_tuning;
mod kind;
mod metadata;
mod model;
mod model_traits;
mod patterns;
mod policy;
mod policy_limits;
mod pricing;
mod relay_key;
pub mod rights;
mod rules;
mod status;
mod structure;
mod suggest;
mod text;
mod validate;
mod yaml;

pub use common::*;
pub use data_plane::*;
pub use definition::{all, definition, file_name, schema, yaml};
pub use fleet_settings::*;
pub use host::*;
pub use host_key::*;
pub use host_tuning::*;
pub use kind::Kind;
pub use model::*;
pub use model_traits::*;
pub use patterns::in_words as pattern_in_words;
pub use policy::*;
pub use policy_limits::*;
pub use pricing::*;
pub use relay_key::*;
pub use status::*;
pub use structure::without_nulls;
pub use suggest::nearest;
pub use text::*;
pub use validate::{Violation, validate_schema, validate_update};
pub use yaml::document as to_yaml;
