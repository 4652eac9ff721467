//! A RelayKey that is about to be changed, and whether it may be: what Git has is changed in Git.

use anyhow::bail;
use crds::{Kind, RelayKeySpec};
use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use table::ObjectRef;

use crate::cluster::{self, Cluster, Doing, Trouble, Within};

/// Under which name the API server knows what this program wrote.
pub(super) const MANAGER: &str = "relay-cli";

/// How often a change is tried anew that somebody else was faster with.
const TRIES: usize = 5;

/// A RelayKey as it is.
pub(super) struct Target {
    pub(super) id: ObjectRef,
    pub(super) object: DynamicObject,
    pub(super) spec: RelayKeySpec,
}

/// A field that is to be changed.
pub(super) struct Change {
    /// Below `spec`, such as `["rotation", "trigger"]`.
    pub(super) path: &'static [&'static str],
    pub(super) value: Value,
}

impl Target {
    pub(super) async fn read(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let id = match name.split_once('/') {
            Some((namespace, name)) => ObjectRef::new(namespace, name),
            None => ObjectRef::new(&cluster.namespace, name),
        };
        let object = match cluster.get(Kind::RelayKey, &id).await {
            Ok(object) => object,
            Err(fault) if fault.trouble == Trouble::Missing => {
                bail!("there is no RelayKey `{id}`{}", near(cluster, &id).await);
            }
            Err(fault) => return Err(fault.into()),
        };
        let spec = serde_json::from_value(object.data["spec"].clone());
        let spec = spec.map_err(|_| {
            anyhow::anyhow!("RelayKey `{id}` cannot be read: `relay status relaykey/{}` says why", id.name)
        })?;
        Ok(Self { id, object, spec })
    }

    /// Makes a change that is decided by the object as it is. Gives the object as it is then, and what to be aware of.
    pub(super) async fn change(
        mut self,
        cluster: &Cluster,
        force: bool,
        decide: impl Fn(&RelayKeySpec) -> anyhow::Result<Change>,
    ) -> anyhow::Result<(DynamicObject, Vec<String>)> {
        for _ in 0..TRIES {
            let change = decide(&self.spec)?;
            let warnings = self.guard(&change, force)?;
            let api = cluster.api(Kind::RelayKey, Within::Namespace(&self.id.namespace));
            let doing = Doing::of("patch", Kind::RelayKey, Some(&self.id.namespace), Some(&self.id.name));
            let patch = json!({
                "metadata": {"resourceVersion": self.object.metadata.resource_version},
                "spec": change.nested(),
            });
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match cluster.ask(doing, api.patch(&self.id.name, &params, &Patch::Merge(patch))).await {
                Ok(object) => return Ok((object, warnings)),
                Err(fault) if fault.trouble == Trouble::Conflict => {
                    self = Self::read(cluster, &self.id.to_string()).await?;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        bail!("RelayKey `{}` changes faster than it can be changed: try again", self.id)
    }

    /// Refuses what somebody else keeps, unless it is forced; then says what to expect.
    fn guard(&self, change: &Change, force: bool) -> anyhow::Result<Vec<String>> {
        let (id, field) = (&self.id, change.shown());
        let metadata = &self.object.metadata;
        let path: Vec<&str> = ["spec"].iter().chain(change.path).copied().collect();
        let manager = cluster::manager_of(metadata, &path).filter(|manager| *manager != MANAGER);
        let said = match (cluster::owner(metadata), manager) {
            (Some(owner), _) => format!(
                "RelayKey `{id}` is kept by {} ({}): write `{field}` into the manifest that it syncs",
                owner.who, owner.by
            ),
            (None, Some(manager)) => format!(
                "`spec.{}` of RelayKey `{id}` was written by `{manager}`: write `{field}` where that has it from",
                change.path.join(".")
            ),
            (None, None) => return Ok(Vec::new()),
        };
        match force {
            true => Ok(vec![format!("{said} as well, or the next sync may undo this or be refused")]),
            false => bail!("{said}; --force changes the cluster all the same"),
        }
    }
}

impl Change {
    fn nested(&self) -> Value {
        self.path.iter().rev().fold(self.value.clone(), |inner, name| json!({*name: inner}))
    }

    /// As a line of a manifest, such as `spec.revoked: true`.
    fn shown(&self) -> String {
        format!("spec.{}: {}", self.path.join("."), self.value)
    }
}

/// A RelayKey of nearly that name.
async fn near(cluster: &Cluster, id: &ObjectRef) -> String {
    let Ok(objects) = cluster.list(Kind::RelayKey, Within::Namespace(&id.namespace)).await else {
        return String::new();
    };
    let names: Vec<String> = objects.iter().map(|object| cluster::id(object).name).collect();
    let near = crds::nearest(&id.name, names.iter().map(String::as_str));
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGER: &[&str] = &["rotation", "trigger"];

    fn target(metadata: Value) -> Target {
        let spec = json!({"policyRefs": [{"name": "all"}], "secret": {"name": "app-token"}});
        let mut object = json!({"metadata": {"name": "app", "namespace": "n"}, "spec": spec});
        object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let spec = serde_json::from_value(object.data["spec"].clone()).unwrap();
        Target { id: ObjectRef::new("n", "app"), object, spec }
    }

    fn guard(metadata: Value, force: bool) -> Result<Vec<String>, String> {
        let change = Change { path: TRIGGER, value: 4.into() };
        target(metadata).guard(&change, force).map_err(|error| error.to_string())
    }

    #[test]
    fn a_change_is_nested_as_a_manifest_has_it() {
        let change = Change { path: TRIGGER, value: 4.into() };
        assert_eq!(change.nested(), json!({"rotation": {"trigger": 4}}));
        assert_eq!(change.shown(), "spec.rotation.trigger: 4");
    }

    #[test]
    fn what_git_has_is_changed_in_git() {
        let argo = json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:llmrelay.io/RelayKey:n/app"}});
        let refused = guard(argo.clone(), false).unwrap_err();
        assert!(refused.contains("Argo CD application `shop`"), "{refused}");
        assert!(refused.contains("`spec.rotation.trigger: 4`") && refused.contains("--force"), "{refused}");
        assert_eq!(guard(argo, true).unwrap().len(), 1);
        assert_eq!(guard(json!({}), false), Ok(Vec::new()));
    }

    #[test]
    fn a_field_of_another_writer_is_left_to_it() {
        let written_by = |manager: &str| {
            let fields = json!({"f:spec": {"f:rotation": {"f:trigger": {}}}});
            json!({"managedFields": [{"manager": manager, "fieldsV1": fields}]})
        };
        assert!(guard(written_by("kubectl"), false).unwrap_err().contains("written by `kubectl`"));
        assert_eq!(guard(written_by(MANAGER), false), Ok(Vec::new()));
    }
}
