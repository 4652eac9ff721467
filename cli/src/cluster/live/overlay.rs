//! A cluster as it would be when a directory of manifests were applied.

use std::{collections::BTreeMap, sync::Arc};

use compiler::Resources;
use crds::{Kind, Violation};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::Serialize;
use table::ObjectRef;

use super::Live;

/// What the API server would refuse of a directory.
pub(crate) type Refusals = Vec<(Kind, ObjectRef, Vec<Violation>)>;

/// One kind's objects, where their metadata stand, and what stays the same.
struct Layer<'a, T> {
    kind: Kind,
    metadata: fn(&mut T) -> &mut ObjectMeta,
    is_same: fn(&T, &T) -> bool,
    over: &'a BTreeMap<ObjectRef, Arc<T>>,
}

macro_rules! layer {
    ($live:expr, $over:expr, $refused:expr, $now:expr, $kind:ident, $field:ident) => {
        let layer = Layer {
            kind: Kind::$kind,
            metadata: |object: &mut crds::$kind| &mut object.metadata,
            is_same: |one: &crds::$kind, two: &crds::$kind| one.spec == two.spec,
            over: &$over.$field,
        };
        let changed = layer.apply(&mut $live.resources.$field, $now, $refused);
        changed.into_iter().for_each(|id| _ = $live.said.remove(&(Kind::$kind, id)));
    };
}

impl Live {
    /// The same with the objects of a directory in place of those of the same names, and what the API server would refuse:
    /// that is left as it is.
    pub(crate) fn with(&self, over: &Resources, now: Timestamp) -> (Self, Refusals) {
        let (mut live, mut refused) = (self.clone(), Refusals::new());
        layer!(live, over, &mut refused, now, Host, hosts);
        layer!(live, over, &mut refused, now, Model, models);
        layer!(live, over, &mut refused, now, HostKey, host_keys);
        layer!(live, over, &mut refused, now, RelayKey, relay_keys);
        layer!(live, over, &mut refused, now, Policy, policies);
        live.resources.secrets.extend(over.secrets.clone());
        live.resources.config_maps.extend(over.config_maps.clone());
        for (name, labels) in &over.namespaces {
            live.resources.namespaces.entry(name.clone()).or_default().extend(labels.clone());
        }
        let is_replaced = |kind, id: &ObjectRef| match kind {
            Kind::Host => over.hosts.contains_key(id),
            Kind::Model => over.models.contains_key(id),
            Kind::HostKey => over.host_keys.contains_key(id),
            Kind::RelayKey => over.relay_keys.contains_key(id),
            Kind::Policy => over.policies.contains_key(id),
            Kind::DataPlane => false,
        };
        live.resources.malformed.retain(|malformed| !is_replaced(malformed.kind, &malformed.id));
        (live, refused)
    }
}

impl<T: Clone + Serialize> Layer<'_, T> {
    /// Puts objects in place, and says whose spec is another than before.
    fn apply(&self, into: &mut BTreeMap<ObjectRef, Arc<T>>, now: Timestamp, refused: &mut Refusals) -> Vec<ObjectRef> {
        let mut changed = Vec::new();
        for (id, new) in self.over {
            let mut new = T::clone(new);
            let old = into.get(id);
            if let Some(old) = old {
                let value = |object: &T| serde_json::to_value(object).unwrap_or_default();
                let violations = crds::validate_update(self.kind, &value(&new), &value(old));
                if !violations.is_empty() {
                    refused.push((self.kind, id.clone(), violations));
                    continue;
                }
            }
            if old.is_none_or(|old| !(self.is_same)(old, &new)) {
                changed.push(id.clone());
            }
            let before = old.map(|old| (self.metadata)(&mut T::clone(old)).clone());
            self.date(&mut new, before, now);
            into.insert(id.clone(), Arc::new(new));
        }
        changed
    }

    /// Of two that claim the same the older one wins, and what is applied is as old as it was.
    fn date(&self, new: &mut T, before: Option<ObjectMeta>, now: Timestamp) {
        let metadata = (self.metadata)(new);
        let before =
            before.unwrap_or_else(|| ObjectMeta { creation_timestamp: Some(Time(now)), ..ObjectMeta::default() });
        metadata.creation_timestamp = before.creation_timestamp;
        metadata.uid = before.uid;
        metadata.generation = before.generation;
    }
}
