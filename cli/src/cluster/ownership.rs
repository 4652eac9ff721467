//! Whether a GitOps tool keeps an object as Git has it: a change in the cluster would be undone, or fight with it.

use kube::core::ObjectMeta;

/// Who keeps an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Who, such as `Argo CD application shop`.
    pub(crate) who: String,
    /// How that is known.
    pub(crate) by: String,
}

const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";
const ARGO_INSTANCE: &str = "argocd.argoproj.io/instance";

/// Labels of Flux, and what bears them.
const FLUX: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io", "Flux Kustomization"), ("helm.toolkit.fluxcd.io", "Flux HelmRelease")];

/// Field managers of GitOps tools.
const MANAGERS: [(&str, &str); 4] = [
    ("argocd-controller", "Argo CD"),
    ("argocd-application-controller", "Argo CD"),
    ("kustomize-controller", "Flux"),
    ("helm-controller", "Flux"),
];

/// Who keeps an object as Git has it; absent: nobody that is known.
pub(crate) fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let label = |name: &str| metadata.labels.as_ref()?.get(name);
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(name);
    if let Some(tracking) = annotation(ARGO_TRACKING) {
        let application = tracking.split(':').next().unwrap_or_default();
        return Some(Owner::of("Argo CD application", application, format!("annotation {ARGO_TRACKING}")));
    }
    if let Some(application) = label(ARGO_INSTANCE).or_else(|| annotation(ARGO_INSTANCE)) {
        return Some(Owner::of("Argo CD application", application, format!("label {ARGO_INSTANCE}")));
    }
    for (prefix, what) in FLUX {
        let (name, namespace) = (format!("{prefix}/name"), format!("{prefix}/namespace"));
        if let Some(named) = label(&name) {
            let within = label(&namespace).map_or_else(String::new, |namespace| format!("{namespace}/"));
            return Some(Owner::of(what, &format!("{within}{named}"), format!("label {name}")));
        }
    }
    let managers = metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    let known = |manager: &str| MANAGERS.into_iter().find(|(name, _)| *name == manager);
    let (manager, who) = managers.filter_map(known).next()?;
    Some(Owner { who: who.to_owned(), by: format!("field manager {manager}") })
}

impl Owner {
    fn of(what: &str, name: &str, by: String) -> Self {
        Self { who: format!("{what} `{name}`"), by }
    }
}

/// Who last wrote a field of an object, such as `["spec", "revoked"]`; absent: nobody.
pub(crate) fn manager_of<'a>(metadata: &'a ObjectMeta, path: &[&str]) -> Option<&'a str> {
    let owns = |fields: &serde_json::Value| {
        let mut at = Some(fields);
        for name in path {
            at = at.and_then(|fields| fields.get(format!("f:{name}")));
        }
        at.is_some()
    };
    let mut entries = metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let entry = entries.find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)))?;
    entry.manager.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn who(value: Value) -> Option<String> {
        owner(&metadata(value)).map(|owner| owner.who)
    }

    #[test]
    fn the_tool_and_what_it_syncs_are_named() {
        let tracked = json!({"annotations": {ARGO_TRACKING: "shop:llmrelay.io/RelayKey:team-a/app"}});
        assert_eq!(who(tracked).unwrap(), "Argo CD application `shop`");
        assert_eq!(who(json!({"labels": {ARGO_INSTANCE: "shop"}})).unwrap(), "Argo CD application `shop`");
        let flux = json!({"labels": {
            "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        }});
        assert_eq!(who(flux).unwrap(), "Flux Kustomization `flux-system/apps`");
        assert_eq!(who(json!({"managedFields": [{"manager": "helm-controller"}]})).unwrap(), "Flux");
        assert_eq!(who(json!({"labels": {"app.kubernetes.io/instance": "x"}})), None);
    }

    #[test]
    fn whoever_wrote_a_field_is_known() {
        let fields = json!({"f:spec": {"f:rotation": {"f:trigger": {}}}});
        let metadata = metadata(json!({"managedFields": [
            {"manager": "relay-operator", "subresource": "status", "fieldsV1": {"f:spec": {"f:revoked": {}}}},
            {"manager": "kubectl", "fieldsV1": fields},
        ]}));
        assert_eq!(manager_of(&metadata, &["spec", "rotation", "trigger"]), Some("kubectl"));
        assert_eq!(manager_of(&metadata, &["spec", "revoked"]), None);
    }
}
