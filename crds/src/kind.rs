//! The kinds by name, for code that meets manifests before it knows what they are.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{DataPlane, Host, HostKey, Model, Policy, RelayKey};

/// One of Relay's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An upstream API surface.
    Host,
    /// A public model id with what serves it.
    Model,
    /// A credential for a host.
    HostKey,
    /// A bearer token that an application holds.
    RelayKey,
    /// What relay keys may reach and how hard they may push.
    Policy,
    /// A fleet of pods that serves. It is not compiled: it says to whom what is compiled goes.
    DataPlane,
}

impl Kind {
    /// All kinds, in the order in which one writes them.
    pub const ALL: [Self; 6] = [Self::Host, Self::Model, Self::HostKey, Self::RelayKey, Self::Policy, Self::DataPlane];

    /// The kind of that name, as in `kind:` of a manifest; `None` when Relay has no such kind.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name, as in `kind:` of a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "Host",
            Self::Model => "Model",
            Self::HostKey => "HostKey",
            Self::RelayKey => "RelayKey",
            Self::Policy => "Policy",
            Self::DataPlane => "DataPlane",
        }
    }

    /// The plural, as in URLs of the API server and in file names.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Host => "hosts",
            Self::Model => "models",
            Self::HostKey => "hostkeys",
            Self::RelayKey => "relaykeys",
            Self::Policy => "policies",
            Self::DataPlane => "dataplanes",
        }
    }

    /// The definition as it is derived, before [`crate::definition`] tidies it.
    pub(crate) fn derived(self) -> CustomResourceDefinition {
        match self {
            Self::Host => Host::crd(),
            Self::Model => Model::crd(),
            Self::HostKey => HostKey::crd(),
            Self::RelayKey => RelayKey::crd(),
            Self::Policy => Policy::crd(),
            Self::DataPlane => DataPlane::crd(),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
